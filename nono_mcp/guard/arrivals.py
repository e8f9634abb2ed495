"""What came to its name since a time, and by what that is known.

Surely come is what was made since, by its birth, and what stands in a directory at a name that
wasn't there when the program had begun. Where neither is known, it may have stood there before: as
where no birth is kept, and somebody changed that directory since it was looked into.

Architecture invariant: what has a ctime from before, by a way on which nothing can have been moved,
didn't come.
"""

from __future__ import annotations

import _stat as stat
import posix as os

from nono_mcp.guard import directory_identity, gitfile, names, spots, tree, ways
from nono_mcp.guard.spots import Spot
from nono_sandbox.opath import LOOK, WAY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.guard.baseline import Baseline
    from nono_mcp.guard.directory_listings import Listing

CONFIG = "config"


class Arrivals:
    """What is known of how things came to where they are, beneath the open directory *root*."""

    def __init__(self, known: Baseline, root: int, since_ns: int, listing: Listing) -> None:
        self._known = known
        self._root = root
        self._since_ns = since_ns
        self._listing = listing
        self._inodes = listing.inodes if listing.taken_ns < since_ns else {}
        self._changed_ns: dict[tuple[str, ...], int] = {}
        """When a directory was changed last, before anything was put away from it."""
        self._is_moved: dict[tuple[str, ...], bool] = {}
        """Whether a directory on the way may have come to its name since."""

    def note(self, spot: Spot, parent: int, status: os.stat_result) -> None:
        """Note of a directory on the way whether it may have come to its name."""
        changed_ns = self._parent_changed_ns(spot, parent)
        if stat.S_ISDIR(status.st_mode):
            self._is_moved[*spot.directory, spot.name] = (
                self._is_moved.get(spot.directory, False)
                or self._may_be_moved(spot, status, changed_ns)
                or self._listing.came_unseen(spot.directory, spot.name, status, self._since_ns)
            )

    def note_way(self, directory: tuple[str, ...], fd: int, seen: dict[str, int]) -> None:
        """Note the same of an open *directory* in a repository that is no spot itself."""
        if directory in self._is_moved or not any(
            directory[:count] in self._is_moved for count in range(1, len(directory))
        ):
            return
        above = os.open("..", WAY, dir_fd=fd)
        try:
            self.note_way(directory[:-1], above, seen)
            status = os.fstat(fd)
            seen["/".join(directory)] = status.st_ino
            spot = Spot(directory[:-1], directory[-1], spots.DIRECTORY, names.GIT)
            self.note(spot, above, status)
        finally:
            os.close(above)

    def is_way_moved(self, directory: tuple[str, ...]) -> bool:
        """Tell whether a *directory* that was noted may have come to its name."""
        return self._is_moved.get(directory, False)

    def is_old(self, spot: Spot, parent: int, status: os.stat_result) -> bool:
        """Tell whether *spot*, and all the way to it, is surely as it was."""
        if self.is_way_moved(spot.directory):
            return False
        if is_entered(spot, status):
            return not self._is_moved.get((*spot.directory, spot.name), True)
        if self._listing.came_unseen(spot.directory, spot.name, status, self._since_ns):
            return False
        if spot.rule == spots.GIT and self._leads_by_symlink(spot, parent):
            return False
        return _changed_ns(spot.name, parent) < self._since_ns

    def is_same(self, spot: Spot, status: os.stat_result) -> bool:
        """Tell whether the same stood there when all was listed last, or nothing changed since."""
        return self._inodes.get(spot.path) == status.st_ino or status.st_ctime_ns < self._since_ns

    def is_new(self, name: str, parent: int) -> bool:
        """Tell whether what stands at *name* was surely made since."""
        return born_ns(name, parent) >= self._since_ns

    def came(self, spot: Spot, parent: int) -> bool:
        """Tell whether *spot* is surely nothing that stood there before."""
        is_new = self.is_new(spot.name, parent)
        is_within_new = directory_identity.birth_ns(parent) >= self._since_ns
        if spot.rule == spots.CONFIGURATION and spot.name == CONFIG:
            # Who commits or pushes in an older repository makes it anew.
            return is_within_new
        if is_new or is_within_new:
            return True
        return self._listing.was_absent(spot.directory, spot.name, self._since_ns)

    def _parent_changed_ns(self, spot: Spot, parent: int) -> int:
        at = spot.directory
        if at not in self._changed_ns:
            listed = self._listing.changed_ns(at)
            self._changed_ns[at] = os.fstat(parent).st_ctime_ns if listed is None else listed
        return self._changed_ns[at]

    def _may_be_moved(self, spot: Spot, status: os.stat_result, changed_ns: int) -> bool:
        if min(status.st_ctime_ns, changed_ns) < self._since_ns:
            return False
        return self._inodes.get(spot.path) != status.st_ino

    def _leads_by_symlink(self, spot: Spot, parent: int) -> bool:
        """Tell whether a `.git` file leads by a symlink that was made since."""
        kept = tree.keep(spot.name, parent)
        if kept is None or kept.kind != "file":
            return False
        path = self._known.path(Spot((), "", "", ""))
        for way in gitfile.way(kept.data, spot.directory, path):
            try:
                status = os.stat(way, dir_fd=self._root, follow_symlinks=False)
            except OSError:
                return False
            if stat.S_ISLNK(status.st_mode):
                return status.st_ctime_ns >= self._since_ns
        return False


def is_entered(spot: Spot, status: os.stat_result) -> bool:
    """Tell whether what is in the directory at *spot* is judged one by one."""
    return spot.rule != spots.AS_IT_WAS and stat.S_ISDIR(status.st_mode)


def born_ns(name: str, parent: int) -> int:
    """Return when what stands at *name* was made; 0 where that isn't kept."""
    try:
        fd = os.open(name, LOOK, dir_fd=parent)
    except FileNotFoundError:
        return 0
    try:
        return directory_identity.birth_ns(fd)
    finally:
        os.close(fd)


def _changed_ns(name: str, parent: int, depth: int = 0) -> int:
    """Return when what stands at *name*, or beneath it, was changed last."""
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode) or depth > tree.DEPTH_MAX:
        return status.st_ctime_ns
    directory = ways.enter(name, parent)
    try:
        inner = (_changed_ns(one, directory, depth + 1) for one in os.listdir(directory))
        return max(status.st_ctime_ns, *inner, 0)
    finally:
        os.close(directory)
