"""Whether a file that was changed has another time, however it was changed.

A store through a shared map makes no system call. Most file systems are told of the first store to
a page (`page_mkwrite`, Documentation/filesystems/locking.rst) and give the file a new time then.
tmpfs isn't told (mm/shmem.c): a page that was read before is written to unseen. Where a server or
another process keeps the times, they come when that has them.

Architecture invariant: what isn't known to tell counts as not telling.
"""

from __future__ import annotations

import posix as os
import sys
import time

_EXT, _XFS, BTRFS = 0xEF53, 0x58465342, 0x9123683E
"""ext2, ext3 and ext4 have one."""
TELLING = frozenset(
    {
        _EXT,
        _XFS,
        BTRFS,
        0xF2F52010,  # F2FS
        0xCA451A4E,  # bcachefs
    }
)
"""The `f_type` of statfs(2), by include/uapi/linux/magic.h and those file systems' own."""

LOCKED = frozenset({_EXT, _XFS, BTRFS})
"""Of those, where whatever is changed by a system call has another time when its lock is free."""
MOVES_TELL = frozenset({_EXT, BTRFS})
"""Of those, where a file that is renamed, or changes places with another, always has one too."""

TMPFS, OVERLAYFS = 0x01021994, 0x794C7630
EXACT = TELLING | {TMPFS, OVERLAYFS}
"""Where a directory whose names change has another ctime at once, by this machine's clock."""

_S_NS = 10**9
APART = {
    0x4D44: 2 * _S_NS,  # FAT
    0x2011BAB0: 2 * _S_NS,  # exFAT
    0x4244: _S_NS,  # HFS
    0x482B: _S_NS,  # HFS+
}
"""How far apart times of changes are at least, where they are written in whole seconds."""

_COARSE = 5
"""CLOCK_REALTIME_COARSE, by which the kernel gives files their times."""
_APART_NS = 50_000
_TRIES = 100
_WORDS = 32
"""Of memory, and so more than `struct statfs` has."""
_TYPE_MASK = 0xFFFFFFFF


def are_told(fd: int) -> bool:
    """Tell whether whatever changes a file changes its times, where the open *fd* is."""
    return file_system(fd) in TELLING


def file_system(fd: int) -> int:
    """Return the `f_type` of where the open *fd* is; 0, where there's no such thing."""
    if sys.platform != "linux":
        return 0
    from nono_sandbox._foreign import Pointer, addressof, longs
    from nono_sandbox._uapi import LIBC, checked

    words = longs(_WORDS)
    checked(LIBC.call("fstatfs", fd, Pointer(addressof(words))), "fstatfs")
    return int(words[0] & _TYPE_MASK)


def telling_device(fd: int) -> int | None:
    """Return the device of the open *fd*, if whatever changes a file there changes its times."""
    return os.fstat(fd).st_dev if are_told(fd) else None


def apart_ns(fd: int, born_ns: int) -> int:
    """Return how far apart two times of changes are at least where the open *fd* is; 1 if close.

    ext2, ext3 and ext4 with small inodes keep neither a birth (*born_ns* is 0) nor nanoseconds.
    """
    kind = file_system(fd)
    return _S_NS if kind == _EXT and not born_ns else APART.get(kind, 1)


class Began:
    """When something began, in the time of files, even if the clock is set back until it's over."""

    def __init__(self) -> None:
        self._ns = now_ns()
        self._ahead_ns = _ahead_ns()
        self._apart_ns = 1

    def count(self, apart_ns: int) -> None:
        """Go by times that are so far *apart_ns*: what is earlier is cut off."""
        self._apart_ns = apart_ns

    def since_ns(self) -> int:
        """Return the first time that a file can have which was changed since then."""
        exact_ns = self._ns + min(_ahead_ns()[0] - self._ahead_ns[1], 0)
        return exact_ns - exact_ns % self._apart_ns


def now_ns() -> int:
    """Return the time that a file gets which is changed now, or an earlier one."""
    return time.clock_gettime_ns(_COARSE) if sys.platform == "linux" else time.time_ns()


def _ahead_ns() -> tuple[int, int]:
    """Return by how much the clock is ahead of one that nobody sets: at least, and at most."""
    steady = time.CLOCK_MONOTONIC
    if sys.platform == "linux":
        # It goes on while the machine sleeps.
        steady = time.CLOCK_BOOTTIME
    found = []
    for _ in range(_TRIES):
        before_ns = time.clock_gettime_ns(steady)
        now_ns = time.time_ns()
        after_ns = time.clock_gettime_ns(steady)
        found.append((after_ns - before_ns, now_ns - after_ns, now_ns - before_ns))
        if after_ns - before_ns < _APART_NS:
            break
    # Of who isn't let run in between the two clocks seem apart.
    _, least, most = min(found)
    return least, most
