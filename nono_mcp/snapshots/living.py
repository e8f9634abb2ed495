"""Who runs something in a workspace: many at once, or one alone, who puts a snapshot back.

A lock of the kernel's on a file in our state, shared by calls and exclusive for a restore, so that
every server of a workspace takes part, and one that dies has let go.

Architecture invariant: nothing waits here. Who finds it taken decides what to do.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import sys
from pathlib import Path

DIRECTORY = "run"
_FLOCK = struct.Struct("hhqqi4x")
"""Type, whence, start, length and process, as fcntl(2) has them on Linux."""


class Living:
    """The calls that run in one workspace. To be used from one thread."""

    def __init__(self, state_dir: str, workspace: str) -> None:
        directory = Path(state_dir) / DIRECTORY
        # One after the other: a mode is for the last alone, and we may be the first to come here.
        Path(state_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)
        name = hashlib.sha256(os.fsencode(workspace)).hexdigest()[:16]
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(directory / f"calls-{name}.lock", flags, 0o600)
        self._alone = False
        self.count = 0
        """How many calls of this process run."""

    def enter(self) -> bool:
        """Begin a call, unless a restore is going on."""
        if self._alone or not (self.count or self._lock(fcntl.LOCK_SH)):
            return False
        if not self.count:
            self._show(fcntl.F_RDLCK)
        self.count += 1
        return True

    def leave(self) -> None:
        """End a call."""
        self.count -= 1
        if not self.count:
            self._show(fcntl.F_UNLCK)
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def be_alone(self) -> bool:
        """Keep calls out, unless one runs, here or in another process."""
        if self._alone or self.count or not self._lock(fcntl.LOCK_EX):
            return False
        self._alone = True
        return True

    def let_in(self) -> None:
        """Let calls in again."""
        self._alone = False
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def runs_elsewhere(self) -> bool:
        """Tell whether a call of another process runs; on macOS that isn't known, and no."""
        if sys.platform != "linux":
            return False
        wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        # Locks of an open file, not of a process: our own is in nobody's way here.
        found = fcntl.fcntl(self._fd, fcntl.F_OFD_GETLK, wanted)
        kind: int = _FLOCK.unpack(found)[0]
        return kind != fcntl.F_UNLCK

    def _show(self, kind: int) -> None:
        """Let others see that a call runs here, or that none does."""
        if sys.platform == "linux":
            lock = _FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0)
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, lock)

    def close(self) -> None:
        """Let go of everything."""
        os.close(self._fd)

    def _lock(self, kind: int) -> bool:
        try:
            fcntl.flock(self._fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
