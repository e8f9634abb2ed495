"""Whether a call is about to fill a disk, where nothing else says how much it may add.

A file system that a call may write to is to keep some free space: what is asked for or, where there
was too little of it already, a share of what there was. Asking a file system how much is free
costs next to nothing; what of the loss is the call's own is found out when it is nearly full.

Architecture invariant: reads only; ends nothing. A call that added less than half of what is gone
isn't to blame.
"""

from __future__ import annotations

import os

from nono_sandbox import growth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SHARE = 4
"""Of what is free when a call begins one part in so many stays, if less than is asked for."""


class Reserve:
    """The free space of the file systems that *places* are on, which aren't a session's own."""

    def __init__(self, places: Iterable[str], free_bytes_min: int, began_ns: int) -> None:
        by_device: dict[int, list[str]] = {}
        for place in places:
            try:
                by_device.setdefault(os.stat(place).st_dev, []).append(place)
            except OSError:
                continue  # it has gone, and nothing can be added to it
        self._all = [_FileSystem(some, free_bytes_min, began_ns) for some in by_device.values()]

    def crossed(self, pids: Callable[[], Iterator[str]]) -> bool:
        """Tell whether a call with the processes *pids* has left too little of one."""
        return any(one.crossed(pids) for one in self._all)


class _FileSystem:
    def __init__(self, places: list[str], free_bytes_min: int, began_ns: int) -> None:
        self._place = places[0]
        self._growth = growth.Growth(places, (), began_ns)
        self._free_bytes = _free(self._place)
        self._keep_bytes = min(free_bytes_min, self._free_bytes // SHARE)

    def crossed(self, pids: Callable[[], Iterator[str]]) -> bool:
        try:
            free = _free(self._place)
        except OSError:
            return False  # it has gone
        if free >= self._keep_bytes:
            return False
        return self._growth.over((self._free_bytes - free) // 2, pids)


def _free(place: str) -> int:
    """Return how much may still be added; files and their blocks run out each by itself."""
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    if not status.f_files:
        return free  # as many files as there are blocks
    return min(free, status.f_favail * growth.INODE_BYTES)
