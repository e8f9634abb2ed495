"""What is judged of what came, or was changed, since a program began.

What stands at a guarded name and isn't in order by what is in it is

- put away, if it was made since: by its birth, or by its having come to that name, be it a
  rename or a link of something older;
- put back, if what stood there before was kept by who looked `beside` the program;
- told of and left, if it may have stood there before and wasn't kept. So is what
  an older directory holds that may have been moved there, and the `config` of an older repository:
  who commits or pushes there changes it.

Architecture invariant: what has a ctime from before, by a way on which nothing can have been moved,
is the person's.
"""

from __future__ import annotations

import _stat as stat
import posix as os

from nono_mcp.guard import finding, gitfile, looking, names, objects, spots, times, tree, ways
from nono_mcp.guard.action import LEFT, REMOVED, Action, undo
from nono_mcp.guard.finding import Found
from nono_mcp.guard.judging import BARE, Judging
from nono_mcp.guard.known import Known
from nono_mcp.guard.quarantine import Quarantine
from nono_mcp.guard.spots import Spot
from nono_sandbox.look import LOOK, WAY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nono_mcp.guard.known import One
    from nono_mcp.guard.listing import Listing, Plain

CHANGED = (
    "it was changed, or moved there, while the program ran, and what was there before isn't "
    "known: look through it"
)
_MARKS = ("HEAD", "objects", "refs", "commondir")


def judged(
    about: tuple[str, str, int, tuple[Iterable[str], Iterable[str]]],
    listing: Listing,
    parts: tuple[Iterable[Plain], Iterable[Plain]],
    inodes: dict[str, int],
    kept: Known | None = None,
) -> tuple[Action, ...]:
    """Judge what is doubtful of what is guarded in a *listing*, and return what was done.

    *about* is our state directory, the workspace, since when, and what is closed and given up. The
    *parts* are what is doubtful, and what isn't. What stands at guarded names adds its *inodes*.
    What stood there before is known as far as it was *kept*.

    Raises:
        OSError: It can't be looked at.
    """
    state_dir, path, since_ns, (closed, given_up) = about
    root = os.open(path, ways.DIRECTORY)
    try:
        known = kept or Known(path, times.telling_device(root))
        known.closed, known.given_up = frozenset(closed), frozenset(given_up)
        fresh = Fresh(known, Quarantine(state_dir), root, (since_ns, listing))
        doubtful = list(_opened_up(parts[0], root, since_ns))
        touched = [found for found in doubtful if fresh.is_touched(found, inodes)]
        if not touched:
            return ()
        fresh.learn({*doubtful, *(Found(*one) for one in parts[1])}.difference(touched))
        return fresh.judge(touched)
    finally:
        os.close(root)


def _opened_up(doubtful: Iterable[Plain], root: int, since_ns: int) -> Iterable[Found]:
    """Yield what is *doubtful*, and what is in directories that were shut."""
    for one in doubtful:
        found = Found(*one)
        if found.kind != finding.SHUT:
            yield found
        elif not _was_shut("/".join(found.directory), root, since_ns):
            yield from finding.by_walk(root, found.directory, packages=True, forcing=True)


def _was_shut(path: str, root: int, since_ns: int) -> bool:
    """Tell whether nobody can have got into a directory since: to open it up gives it a ctime."""
    try:
        status = os.stat(path, dir_fd=root, follow_symlinks=False)
    except OSError:
        return False
    return status.st_ctime_ns < since_ns and not status.st_mode & stat.S_IXUSR


class Fresh(Judging):
    """The judging of what came since a time, as far as that can be told."""

    def __init__(
        self,
        known: Known,
        quarantine: Quarantine,
        root: int,
        before: tuple[int, Listing],
    ) -> None:
        super().__init__(known, quarantine, root, 0)
        self._from_ns, self._listing = before
        is_before = self._listing.taken_ns < self._from_ns
        self._inodes = self._listing.inodes if is_before else {}
        self._directories = self._listing.before if is_before else {}
        self._changed_ns: dict[tuple[str, ...], int] = {}
        """When a directory was changed last, before anything was put away from it."""
        self._is_moved: dict[tuple[str, ...], bool] = {}
        """Whether a directory on the way may have come to its name since."""

    def is_touched(self, found: Found, seen: dict[str, int]) -> bool:
        """Tell whether something may have come or changed in what was *found*; add inodes."""
        if found.kind in looking.NOT_ENTERED:
            return True
        touched = False

        def see(spot: Spot, parent: int) -> bool:
            nonlocal touched
            try:
                status = os.stat(spot.name, dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError:
                return False
            seen[spot.path] = status.st_ino
            self._note_way(spot.directory, parent, seen)
            self._note(spot, parent, status)
            touched = touched or not self._is_old(spot, parent, status)
            return stat.S_ISDIR(status.st_mode)

        def see_bare(directory: tuple[str, ...], fd: int) -> None:
            for name in _MARKS:
                see(Spot(directory, name, spots.DIRECTORY, BARE), fd)
            spots.visit_bare(directory, fd, see)

        try:
            looking.visit(self._known, found, self._root, see, see_bare)
        except OSError:
            return True  # of which the judging tells
        return touched

    def learn(self, others: Iterable[Found]) -> None:
        """Take what nobody touched for the person's, and copies of it too."""
        for found in others:
            looking.learn(self._known, found, self._root)

    def judge(self, touched: Iterable[Found]) -> tuple[Action, ...]:
        """Judge what was *touched*, and return what was done."""
        for found in sorted(touched, key=lambda one: len(one.directory)):
            if found.kind in looking.NOT_ENTERED:
                self.left(found)
                continue
            try:
                looking.visit(self._known, found, self._root, self.see, self.see_bare)
            except OSError as error:
                path = self._known.path(Spot(found.directory, found.name or ".git", "", ""))
                self._tell(Action(path, LEFT, "what is guarded there", why=str(error)))
        return self.done()

    def _note(self, spot: Spot, parent: int, status: os.stat_result) -> None:
        """Note of a directory on the way whether it may have come to its name."""
        changed_ns = self._parent_changed_ns(spot, parent)
        if stat.S_ISDIR(status.st_mode):
            self._is_moved[*spot.directory, spot.name] = (
                self._is_moved.get(spot.directory, False)
                or self._may_be_moved(spot, status, changed_ns)
                or self._listing.came_unseen(spot.directory, spot.name, status, self._from_ns)
            )

    def _note_way(self, directory: tuple[str, ...], fd: int, seen: dict[str, int]) -> None:
        """Note the same of an open *directory* in a repository that is no spot itself."""
        if directory in self._is_moved or not any(
            directory[:count] in self._is_moved for count in range(1, len(directory))
        ):
            return
        above = os.open("..", WAY, dir_fd=fd)
        try:
            self._note_way(directory[:-1], above, seen)
            status = os.fstat(fd)
            seen["/".join(directory)] = status.st_ino
            spot = Spot(directory[:-1], directory[-1], spots.DIRECTORY, names.GIT)
            self._note(spot, above, status)
        finally:
            os.close(above)

    def _parent_changed_ns(self, spot: Spot, parent: int) -> int:
        at = spot.directory
        if at not in self._changed_ns:
            listed = self._listing.changed_ns(at)
            self._changed_ns[at] = os.fstat(parent).st_ctime_ns if listed is None else listed
        return self._changed_ns[at]

    def _may_be_moved(self, spot: Spot, status: os.stat_result, changed_ns: int) -> bool:
        if min(status.st_ctime_ns, changed_ns) < self._from_ns:
            return False
        return self._inodes.get(spot.path) != status.st_ino

    def _is_old(self, spot: Spot, parent: int, status: os.stat_result) -> bool:
        """Tell whether *spot*, and all the way to it, is surely as it was."""
        if self._is_moved.get(spot.directory, False):
            return False
        if _is_entered(spot, status):
            return not self._is_moved.get((*spot.directory, spot.name), True)
        if self._listing.came_unseen(spot.directory, spot.name, status, self._from_ns):
            return False
        if spot.rule == spots.GIT and self._leads_by_symlink(spot, parent):
            return False
        return _changed_ns(spot.name, parent) < self._from_ns

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
                return status.st_ctime_ns >= self._from_ns
        return False

    def _was_there(self, spot: Spot, parent: int) -> bool:
        if spot.what == BARE:
            return False  # by its HEAD alone, which tells nothing of the rest
        status = os.stat(spot.name, dir_fd=parent, follow_symlinks=False)
        return not _is_entered(spot, status) and self._is_old(spot, parent, status)

    def see_bare(self, directory: tuple[str, ...], fd: int) -> None:
        """Judge the repository that the open directory *fd* is."""
        old = True
        for name in _MARKS:
            spot = Spot(directory, name, spots.DIRECTORY, BARE)
            if ways.is_there(name, fd):
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                same = self._inodes.get(spot.path) == status.st_ino
                old = old and (same or status.st_ctime_ns < self._from_ns)
        if old:
            self._known.bare.add(directory)
        super().see_bare(directory, fd)

    def _undo(self, spot: Spot, parent: int, one: One | None) -> str:
        if finding.in_package(spot.directory) and spot.what == names.what_of(
            spot.directory, spot.name
        ):
            return super()._undo(spot, parent, one)
        if one is not None and one.kept is not None:
            return super()._undo(spot, parent, one)
        if self._came(spot, parent):
            return super()._undo(spot, parent, None)
        return self._left_or_within(spot, parent)

    def _came(self, spot: Spot, parent: int) -> bool:
        """Tell whether *spot* is surely, or all but surely, nothing that stood there before."""
        if spot.what == BARE:
            return any(_born_ns(name, parent) >= self._from_ns for name in _MARKS)
        status = os.stat(spot.name, dir_fd=parent, follow_symlinks=False)
        born_ns = _born_ns(spot.name, parent)
        is_new = born_ns >= self._from_ns
        if spot.rule == spots.CONFIGURATION and spot.name == "config":
            return is_new and objects.birth_ns(parent) >= self._from_ns
        if is_new or objects.birth_ns(parent) >= self._from_ns:
            return True
        above = "/".join(spot.directory)
        looked = above in self._directories
        if born_ns and not stat.S_ISDIR(status.st_mode):
            # Else it was there perhaps, and its mode or content was changed.
            looked = (looked or above in self._inodes) and born_ns < self._listing.taken_ns
        elif not stat.S_ISDIR(status.st_mode):
            looked = True
        if not looked:
            return False
        return self._may_be_moved(spot, status, self._parent_changed_ns(spot, parent))

    def _left_or_within(self, spot: Spot, parent: int) -> str:
        """Put away what is new in a directory that is older, and tell of what isn't."""
        before = len(self._actions)
        status = os.stat(spot.name, dir_fd=parent, follow_symlinks=False)
        moved = not stat.S_ISDIR(status.st_mode) or self._is_moved.get(spot.directory, False)
        if moved or spot.what == BARE or not self._within(spot, parent, 0):
            self._tell(Action(self._known.path(spot), LEFT, spot.what, why=CHANGED))
            return LEFT
        return REMOVED if len(self._actions) > before else ""

    def _within(self, spot: Spot, parent: int, depth: int) -> bool:
        """Put away what is new in what stands at *spot*; tell whether nothing else was touched."""
        status = os.stat(spot.name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            return status.st_ctime_ns < self._from_ns
        if depth > tree.DEPTH_MAX or self._is_moved.get((*spot.directory, spot.name), False):
            return False
        rest = True
        directory = ways.enter(spot.name, parent)
        try:
            # Before anything is put away from it.
            changed_ns = os.fstat(directory).st_ctime_ns
            for name in sorted(os.listdir(directory)):
                at = (*spot.directory, spot.name)
                inner = Spot(at, name, spots.AS_IT_WAS, spot.what)
                if _born_ns(name, directory) >= self._from_ns:
                    path = self._known.path(inner)
                    self._tell(undo(self._quarantine, path, inner, directory, None))
                elif _came_by_itself(name, directory, changed_ns, self._from_ns):
                    rest = False
                else:
                    rest = self._within(inner, directory, depth + 1) and rest
        finally:
            os.close(directory)
        return rest


def _is_entered(spot: Spot, status: os.stat_result) -> bool:
    return spot.rule != spots.AS_IT_WAS and stat.S_ISDIR(status.st_mode)


def _came_by_itself(name: str, parent: int, changed_ns: int, since_ns: int) -> bool:
    """Tell whether the directory *name* may have been moved into one that was *changed_ns*."""
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    return stat.S_ISDIR(status.st_mode) and min(status.st_ctime_ns, changed_ns) >= since_ns


def _born_ns(name: str, parent: int) -> int:
    try:
        fd = os.open(name, LOOK, dir_fd=parent)
    except FileNotFoundError:
        return 0
    try:
        return objects.birth_ns(fd)
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
