"""The lock between calls of a workspace, many at once, and who puts a snapshot back, alone.

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

from nono_sandbox import private

DIRECTORY = "run"
_FLOCK = struct.Struct("hhqqi4x")
"""Type, whence, start, length and process, as fcntl(2) has them on Linux."""
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def runs(state_dir: str, workspace: str) -> bool:
    """Tell whether a call runs in a workspace, here or elsewhere; on macOS: whether one may."""
    try:
        fd = os.open(_path(state_dir, workspace), _FLAGS)
    except FileNotFoundError:
        return False
    try:
        return _runs(fd) if sys.platform == "linux" else True
    finally:
        os.close(fd)


class RestoreLock:
    """The lock of one workspace. To be used from one thread."""

    def __init__(self, state_dir: str, workspace: str) -> None:
        path = _path(state_dir, workspace)
        # One after the other: a mode is for the last alone, and we may be the first to come here.
        private.ensure_directories(state_dir)
        private.ensure_directory(str(path.parent))
        self._fd = private.open_file(str(path), _FLAGS | os.O_CREAT)
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
        return _runs(self._fd)

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


def _path(state_dir: str, workspace: str) -> Path:
    name = hashlib.sha256(os.fsencode(workspace)).hexdigest()[:16]
    return Path(state_dir) / DIRECTORY / f"calls-{name}.lock"


def _runs(fd: int) -> bool:
    """Tell whether others show a call by way of another open file than *fd*."""
    if sys.platform != "linux":
        return False
    wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    # Locks of an open file, not of a process: our own is in nobody's way here.
    kind: int = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, wanted))[0]
    return kind != fcntl.F_UNLCK
