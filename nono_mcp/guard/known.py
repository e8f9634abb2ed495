"""What is guarded beneath a workspace's top directory, as it was when it was last in order.

Architecture invariant: reads only. What it keeps of contents is bounded, and says so of what isn't
all there.
"""

from __future__ import annotations

import os

from nono_mcp.guard import gitfile, judge, names, spots
from nono_mcp.guard.copies import Copies
from nono_mcp.guard.tree import Kept
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nono_mcp.guard.spots import Spot
    from nono_mcp.guard.tree import Print

    Key = tuple[tuple[str, ...], str]
    Stamp = tuple[int, int, int] | None

KEPT_BYTES_MAX = 64 * 1024 * 1024
"""Of all that is known together; what comes after can't be put back."""
SPOTS_MAX = 20_000
"""That calls may add to; of more of them none may stay, since each is looked at again."""


class One(Value):
    """A spot as it was."""

    print: Print
    kept: Kept | None
    stamps: tuple[tuple[str, Stamp], ...] = ()
    """Its files, each with what changes with it by whatever name."""


class Known:
    """All that is known of one workspace."""

    def __init__(self, root_path: str, closed: Iterable[str]) -> None:
        self._root_path = root_path
        self.closed = frozenset(closed)
        """Paths that no worker can change, or that each may."""
        self.bare: set[tuple[str, ...]] = set()
        """Directories that are repositories themselves."""
        self.copies = Copies()
        self._spots: dict[Key, One] = {}
        self._gitfiles: set[Key] = set()
        self._crowded: set[Key] = set()
        self._unsure: set[Key] = set()
        """What was taken while a call ran, which may have it mapped and so change it unseen."""
        self._bytes_left = KEPT_BYTES_MAX

    def get(self, spot: Spot) -> One | None:
        """Return what is known of *spot*."""
        return self._spots.get(spot.key)

    def learn(self, spot: Spot, parent: int, root: int, found: Print) -> None:
        """Take *spot*, as it was *found* in the open directory *parent*, for the person's."""
        if spot.rule == spots.TOO_MANY:
            self._crowded.add(spot.key)
            return
        kept = judge.kept(spot, parent, found)
        self.take(spot, kept, root, found)
        if kept is not None:
            self.copies.learn(spot, kept)

    def take(self, spot: Spot, kept: Kept | None, root: int, found: Print) -> None:
        """Take *spot*, as it was *found*, for what it should be: *kept*, if it's no directory."""
        self._unsure.discard(spot.key)
        if kept is None or is_at_top(spot):
            self._spots[spot.key] = One(found, None)
            return
        self._spots[spot.key] = One(found, self._fitting(spot, kept), _stamps(spot, kept, root))
        if self.has_to_lead_inside(spot, kept, root):
            self._gitfiles.add(spot.key)

    def doubt(self, spot: Spot) -> None:
        """Compare what *spot* holds, and not its status alone, for as long as a call runs."""
        self._unsure.add(spot.key)

    def trust(self) -> None:
        """Go by the status of everything again, since no call runs that could have it mapped."""
        self._unsure.clear()

    def is_doubted(self, spot: Spot | None = None) -> bool:
        """Tell whether the status of *spot*, or of any, says too little."""
        return bool(self._unsure) if spot is None else spot.key in self._unsure

    def forget(self, spot: Spot) -> None:
        """Know nothing more of *spot*, where nothing is."""
        self._spots.pop(spot.key, None)
        self._gitfiles.discard(spot.key)
        self._unsure.discard(spot.key)

    def path(self, spot: Spot) -> str:
        """Return the absolute path of *spot*."""
        return f"{self._root_path.rstrip('/')}/{spot.path}"

    def is_open(self, spot: Spot) -> bool:
        """Tell whether no worker can have changed *spot*, or each may."""
        if not self.closed:
            return False
        path = self.path(spot)
        while path:
            if path in self.closed:
                return True
            path = path.rpartition("/")[0]
        return False

    def is_full(self) -> bool:
        """Tell whether as much is known as calls may add to."""
        return len(self._spots) >= SPOTS_MAX

    def is_crowded(self, spot: Spot) -> bool:
        """Tell whether there was more than is looked through before."""
        return spot.key in self._crowded

    def is_gitfile(self, spot: Spot) -> bool:
        """Tell whether *spot* has to lead where the guard looks, whatever becomes of that."""
        return spot.key in self._gitfiles

    def has_to_lead_inside(self, spot: Spot, kept: Kept, root: int) -> bool:
        """Tell whether *spot* is a `.git` file that names a repository that is looked at."""
        if spot.rule != spots.GIT or kept.kind != "file" or not kept.is_whole:
            return False
        return gitfile.leads_inside(kept.data, spot.directory, root, self._root_path)

    def touched(self, root: int) -> set[str]:
        """Return the paths to look at whatever else changed: by other names, a map or a target."""
        found = {"/".join((*directory, name)) for directory, name in self._gitfiles | self._unsure}
        return found | self.differing(root)

    def differing(self, root: int) -> set[str]:
        """Return the paths of the files that aren't as they were known, by whatever name."""
        found: set[str] = set()
        for one in self._spots.values():
            found.update(path for path, stamp in one.stamps if _stamp(path, root) != stamp)
        return found

    def _fitting(self, spot: Spot, kept: Kept) -> Kept:
        old = self._spots.get(spot.key)
        if old is not None and old.kept == kept:
            return kept
        self._bytes_left -= _size(kept)
        if self._bytes_left >= 0:
            return kept
        return Kept(kept.kind, kept.mode, is_whole=False)


def is_at_top(spot: Spot) -> bool:
    """Tell whether *spot* is the top directory's own: another guard's, here known to be copied."""
    if spot.directory:
        return spot.directory[0] == ".git"
    return spot.name == ".git" or spot.name in names.NAMES


def _size(kept: Kept) -> int:
    return len(kept.data) + sum(_size(inner) for _, inner in kept.entries)


def _stamps(spot: Spot, kept: Kept, root: int) -> tuple[tuple[str, Stamp], ...]:
    return tuple((path, _stamp(path, root)) for path in _files(spot.path, kept))


def _files(path: str, kept: Kept) -> Iterator[str]:
    if kept.kind != "directory":
        yield path
    for name, inner in kept.entries:
        yield from _files(f"{path}/{name}", inner)


def _stamp(path: str, root: int) -> Stamp:
    # Only compared: if a symlink is on the way by now, it is another file that is found.
    try:
        status = os.stat(path, dir_fd=root, follow_symlinks=False)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_ctime_ns
