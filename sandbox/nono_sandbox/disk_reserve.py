"""Whether a call is about to fill a disk, where nothing else says how much it may add.

A file system that a call may write to is to keep some free space: what is asked for or, where there
was too little of it already, a share of what there was. Asking a file system how much is free
costs next to nothing; what of the loss is the call's own is found out when it is nearly full.

What one call left of it is there for the next to take a share of. So a session has such a bound
too, of what was free when it began: past that, if at least half of what is gone since is its
calls' doing, each of them may take little more.

Architecture invariant: reads only; ends nothing. A call that added less than half of what is gone
since it began isn't to blame.
"""

from __future__ import annotations

import posix as os
import time

from nono_sandbox import disk_growth
from nono_sandbox.confinement import Places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHARE = 4
"""Of what is free when a call begins one part in so many stays, if less than is asked for."""
LAST_SHARE = 64
"""Where a session has used up its part, a call may take one part in so many of what is left."""


def at_beginning(paths: tuple[str, ...]) -> Places:
    """Return the places of a session that begins now."""
    began_ns = time.time_ns()
    free: dict[int, int] = {}
    for path in paths:
        try:
            device = os.stat(path).st_dev
            if device not in free:
                free[device] = _free(path)
        except OSError:
            continue
    return Places(paths, began_ns, tuple(free.items()))


class Reserve:
    """The free space of the file systems that *places* are on, which aren't a session's own."""

    def __init__(
        self, places: Places, own: tuple[str, ...], free_bytes_min: int, began_ns: int
    ) -> None:
        """Begin. What was changed since *began_ns* (`time.time_ns`) may be the call's.

        The places in *own* are on file systems that are the session's alone.
        """
        by_device: dict[int, list[str]] = {}
        for place in places.paths:
            try:
                by_device.setdefault(os.stat(place).st_dev, []).append(place)
            except OSError:
                continue  # it has gone, and nothing can be added to it
        free = dict(places.free_bytes)
        self._all = []
        for device, some in by_device.items():
            call = _Since(some, own, free_bytes_min, began_ns)
            session = None
            if device in free:
                session = _Since(some, own, free_bytes_min, places.began_ns, free[device])
            self._all.append((call, session))

    def crossed(self, pids: Callable[[], Iterator[str]]) -> bool:
        """Tell whether a call with the processes *pids* has left too little of one."""
        return any(_crossed(call, session, pids) for call, session in self._all)


def _crossed(call: _Since, session: _Since | None, pids: Callable[[], Iterator[str]]) -> bool:
    try:
        free = _free(call.place)
    except OSError:
        return False  # it has gone
    if free < call.keep_bytes and call.is_to_blame(free, pids):
        return True
    if session is None or free >= session.keep_bytes:
        return False
    if free >= call.free_bytes - call.free_bytes // LAST_SHARE:
        return False
    return call.is_to_blame(free, pids) and session.is_to_blame(free, pids)


class _Since:
    """A file system since a call or a session began, which had *free_bytes*, or has now."""

    def __init__(
        self,
        places: list[str],
        own: tuple[str, ...],
        free_bytes_min: int,
        began_ns: int,
        free_bytes: int | None = None,
    ) -> None:
        self.place = places[0]
        self._growth = disk_growth.Growth(places, own, began_ns, wary=True)
        self.free_bytes = _free(self.place) if free_bytes is None else free_bytes
        self.keep_bytes = min(free_bytes_min, self.free_bytes // SHARE)

    def is_to_blame(self, free_bytes: int, pids: Callable[[], Iterator[str]]) -> bool:
        """Tell whether at least half of what is gone is new there, or held by *pids*."""
        # What is free may be counted in inodes, and what was taken of it in blocks; or the reverse.
        gone = max(self.free_bytes - free_bytes, self._growth.seen_bytes())
        return self._growth.over(gone // 2, pids)


def _free(place: str) -> int:
    """Return how much may still be added; files and their blocks run out each by itself."""
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    if not status.f_files:
        return free  # as many files as there are blocks
    return min(free, status.f_favail * disk_growth.INODE_BYTES)
