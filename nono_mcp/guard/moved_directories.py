"""The directories that are given their name back, held open: nothing else has their number then.

Architecture invariant: what isn't held isn't found by its number, which may be another's by now.
"""

from __future__ import annotations

import posix as os

from nono_mcp.guard import judging_spots, spots, ways
from nono_sandbox.opath import LOOK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.guard.marshalled import Key
    from nono_mcp.guard.spots import Spot
    from nono_mcp.guard.tree import Print

HELD_MAX = 128
"""What is more isn't given its name back."""


def is_movable(spot: Spot) -> bool:
    """Tell whether what a call moved from *spot* is given its name back."""
    return spot.rule == spots.GIT or (spot.name == spots.HOOKS and spot.rule != spots.TOO_MANY)


class MovedDirectories:
    """Directories that stood at guarded names."""

    def __init__(self) -> None:
        self._held: dict[Key, int] = {}

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all of them."""
        while self._held:
            os.close(self._held.popitem()[1])

    def hold(self, spot: Spot, parent: int, found: Print) -> None:
        """Hold what was *found* at *spot* in the open directory *parent*, if it's one of those."""
        old = self._held.pop(spot.key, None)
        if old is not None:
            os.close(old)
        if (
            not is_movable(spot)
            or not judging_spots.is_directory(found)
            or len(self._held) >= HELD_MAX
        ):
            return
        try:
            fd = os.open(spot.name, LOOK, dir_fd=parent)
        except OSError:
            return
        if judging_spots.number(os.fstat(fd)) == found:
            self._held[spot.key] = fd
        else:
            os.close(fd)

    def name_of(self, spot: Spot, parent: int) -> str | None:
        """Return the name that what stood at *spot* has now in *parent*, if it's surely that."""
        fd = self._held.get(spot.key)
        if fd is None:
            return None
        status = os.fstat(fd)
        with os.scandir(parent) as entries:
            for entry in entries:
                if entry.inode() == status.st_ino and _is(entry.name, parent, status, spot):
                    return entry.name
        return None


def _is(name: str, parent: int, status: os.stat_result, spot: Spot) -> bool:
    """Tell whether the directory of that *status* is at *name*, and of the kind that it was."""
    try:
        directory = ways.enter(name, parent)
    except OSError:
        return False
    try:
        same = ways.is_same(os.fstat(directory), status)
        return same and (spot.rule != spots.GIT or spots.is_module(directory))
    finally:
        os.close(directory)
