"""What is guarded beneath a workspace's top directory, as it was when it was last in order.

Architecture invariant: reads only. What it keeps of contents is bounded, and says so of what isn't
all there.
"""

from __future__ import annotations

import posix as os

from nono_mcp.guard import finding, gitfile, judging_spots, marshalled, names, spots
from nono_mcp.guard.known_contents import KnownContents
from nono_mcp.guard.spots import Spot
from nono_mcp.guard.tree import Kept
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Self

    from nono_mcp.guard.tree import Print

    Key = tuple[tuple[str, ...], str]
    Stamp = tuple[int, int, int] | None

KEPT_BYTES_MAX = 64 * 1024 * 1024
"""Of all that is known together; what comes after can't be put back."""
SPOTS_MAX = 20_000
"""That calls may add to; of more of them none may stay, since each is looked at again."""


class One(Value):
    """A guarded spot as it was when it was last in order."""

    print: Print
    kept: Kept | None
    stamps: tuple[tuple[str, Stamp], ...] = ()
    """Its files, each with what changes with it by whatever name."""


class Baseline:
    """What was guarded beneath one workspace, when it was last in order."""

    def __init__(self, root_path: str, device: int | None = None) -> None:
        self._root_path = root_path
        self._device = device
        """The one whose files have another time when they're changed, if that's known of any."""
        self.closed: frozenset[str] = frozenset()
        """Paths that no call of ours can change."""
        self.given_up: frozenset[str] = frozenset()
        """Paths that each may."""
        self.is_shared = False
        """Others' calls run, which may have anything mapped, and change what ours can't."""
        self.version = 0
        """Another one whenever something else is known."""
        self.bare: set[tuple[str, ...]] = set()
        """Directories that are repositories themselves."""
        self.copies = KnownContents()
        self._spots: dict[Key, One] = {}
        self._gitfiles: set[Key] = set()
        self._crowded: set[Key] = set()
        self._unsure: set[Key] = set()
        """What was taken while a call ran, which may have it mapped and so change it unseen."""
        self._untimed: set[Key] = set()
        """What may be changed without another time."""
        self._bytes_left = KEPT_BYTES_MAX

    def get(self, spot: Spot) -> One | None:
        """Return what is known of *spot*."""
        return self._spots.get(spot.key)

    def holds(self, spot: Spot, parent: int, found: Print) -> bool:
        """Tell whether what was *found* at *spot* is what is known of it."""
        one = self._spots.get(spot.key)
        if one is None or one.print != found:
            return False
        return not self.is_doubted(spot) or judging_spots.kept(spot, parent, found) == one.kept

    def learn(self, spot: Spot, parent: int, root: int, found: Print) -> None:
        """Take *spot*, as it was *found* in the open directory *parent*, for the person's."""
        if spot.rule == spots.TOO_MANY:
            self._crowded.add(spot.key)
            self.version += 1
            return
        kept = judging_spots.kept(spot, parent, found)
        self.take(spot, kept, root, found)
        if kept is not None and not _is_published(spot):
            self.copies.learn(spot, kept)

    def take(self, spot: Spot, kept: Kept | None, root: int, found: Print) -> None:
        """Take *spot*, as it was *found*, for what it should be: *kept*, if it's no directory."""
        self.version += 1
        self._unsure.discard(spot.key)
        self._untimed.discard(spot.key)
        if kept is None or is_at_top(spot):
            self._spots[spot.key] = One(found, None)
            return
        self._spots[spot.key] = One(found, self._fitting(spot, kept), _stamps(spot, kept, root))
        if self.has_to_lead_inside(spot, kept, root):
            self._gitfiles.add(spot.key)
        if self._device is None or _device(spot.path, root) != self._device:
            self._untimed.add(spot.key)

    def doubt(self, spot: Spot) -> None:
        """Compare what *spot* holds, and not its status alone, for as long as a call runs."""
        self._unsure.add(spot.key)

    def trust(self) -> None:
        """Go by the status of what has one again: no call runs that could have it mapped."""
        self.is_shared = False
        self._unsure.clear()

    def is_doubted(self, spot: Spot | None = None) -> bool:
        """Tell whether the status of *spot*, or of any, says too little."""
        if self.is_shared:
            return True
        if spot is None:
            return bool(self._unsure or self._untimed)
        return spot.key in self._unsure or spot.key in self._untimed

    def forget(self, spot: Spot) -> None:
        """Know nothing more of *spot*, where nothing is."""
        if self._spots.pop(spot.key, None) is not None:
            self.version += 1
        self._untimed.discard(spot.key)
        self._gitfiles.discard(spot.key)
        self._unsure.discard(spot.key)

    def path(self, spot: Spot) -> str:
        """Return the absolute path of *spot*."""
        return f"{self._root_path.rstrip('/')}/{spot.path}"

    def is_open(self, spot: Spot) -> bool:
        """Tell whether no call can have changed *spot*, or each may."""
        closed = self.given_up if self.is_shared else self.given_up | self.closed
        if not closed:
            return False
        path = self.path(spot)
        while path:
            if path in closed:
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
        keys = self._spots.keys() if self.is_shared else self._gitfiles | self._unsure
        return _paths(keys) | _paths(self._untimed) | self.differing(root)

    def untimed(self) -> set[str]:
        """Return the paths of what may be changed without another time."""
        return _paths(self._untimed)

    def absent(self, root: int) -> Iterator[tuple[Spot, Kept]]:
        """Yield what isn't there in the open directory *root*, and was kept whole."""
        for (directory, name), one in tuple(self._spots.items()):
            what = names.what_of(directory, name) or names.GIT
            spot = Spot(directory, name, spots.AS_IT_WAS, what)
            there = _stamp(spot.path, root) is not None
            if one.kept is not None and one.kept.is_whole and not (there or self.is_open(spot)):
                yield spot, one.kept

    def differing(self, root: int) -> set[str]:
        """Return the paths of the files that aren't as they were known, by whatever name."""
        found: set[str] = set()
        for one in self._spots.values():
            found.update(path for path, stamp in one.stamps if _stamp(path, root) != stamp)
        return found

    def is_any_there(self, root: int) -> bool:
        """Tell whether any file is as it was known, or none was."""
        stamps = [stamp for one in self._spots.values() for stamp in one.stamps]
        return not stamps or any(_stamp(path, root) == stamp for path, stamp in stamps)

    def written(self) -> tuple[object, ...]:
        """Return what is known as plain values."""
        spots_ = tuple(
            (key, one.print, marshalled.of_kept(one.kept), one.stamps)
            for key, one in sorted(self._spots.items(), key=_key)
        )
        keys = (self.bare, self._gitfiles, self._crowded, self._unsure, self._untimed)
        sets = tuple(tuple(sorted(each)) for each in keys)
        return (self._root_path, spots_, sets, self.copies.written(), self._bytes_left)

    @classmethod
    def of_written(cls, value: Any, root_path: str, device: int | None) -> Self | None:  # noqa: ANN401 - whatever was read
        """Return what *value* says of the workspace *root_path*; None, if it says nothing of it."""
        if not isinstance(value, tuple) or value[:1] != (root_path,):
            return None
        _, spots_, sets, copies, bytes_left = value
        known = cls(root_path, device)
        known._spots = {
            key: One(found, marshalled.to_kept(kept), stamps) for key, found, kept, stamps in spots_
        }
        known.bare = set(sets[0])
        known._gitfiles, known._crowded, known._unsure, known._untimed = map(set, sets[1:])
        known.copies = KnownContents(copies)
        known._bytes_left = bytes_left
        return known

    def _fitting(self, spot: Spot, kept: Kept) -> Kept:
        old = self._spots.get(spot.key)
        if old is not None and old.kept == kept:
            return kept
        self._bytes_left -= _size(kept)
        if self._bytes_left >= 0:
            return kept
        return Kept(kept.kind, kept.mode, is_whole=False)


def _is_published(spot: Spot) -> bool:
    """Tell whether *spot* is a package's, as whoever published that has it."""
    named = spot.what == names.what_of(spot.directory, spot.name)
    return named and finding.in_package(spot.directory) > 0


def _key(item: tuple[Key, One]) -> Key:
    return item[0]


def is_at_top(spot: Spot) -> bool:
    """Tell whether *spot* is the top directory's own: another guard's, here known to be copied."""
    if len(spot.directory) == 1 and names.what_inside(spot.directory[0], spot.name):
        return True
    if spot.directory:
        return names.is_git(spot.directory[0])
    return names.is_git(spot.name) or names.is_around(spot.name) or bool(names.what(spot.name))


def _paths(keys: Iterable[Key]) -> set[str]:
    return {"/".join((*directory, name)) for directory, name in keys}


def _device(path: str, root: int) -> int | None:
    try:
        return os.stat(path, dir_fd=root, follow_symlinks=False).st_dev
    except OSError:
        return None


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
