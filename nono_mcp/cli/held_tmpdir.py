"""The directory for temporary files of a run without a /tmp of its own, gone once that is over.

What says of it where it is, and which it is, lies in our state directory, locked as long as the run
lives. Of a run that was killed the lock is free, and the next run without namespaces removes what
it left.

Architecture invariant: only the very directory that was made is removed. Workers may make any name
beside it, and move anything there; what they can't do is write in our state.
"""

from __future__ import annotations

import fcntl
import json
import os

from nono_sandbox import private, scratch

FOLDER = "scratch"
"""In our state directory."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RANDOM_BYTES = 8
_RECORD_BYTES_MAX = 8192


class HeldTmpdir:
    """Such a directory in *parent*; without a *state_dir* nothing says where it is.

    Raises:
        OSError: It can't be made.
    """

    def __init__(self, state_dir: str | None, parent: str) -> None:
        self._fd = -1
        if state_dir is None:
            self.path = scratch.make(parent)
            return
        records = f"{state_dir}/{FOLDER}"
        private.ensure_directories(records)
        remove_left(records)
        self._record = f"{records}/{os.urandom(_RANDOM_BYTES).hex()}"
        # Nobody takes it for one that was left: it's empty until it's locked. Who looks whether it
        # is one has it locked for a moment.
        self._fd = private.open_file(self._record, private.NEW)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self.path = scratch.make(parent)
        status = os.stat(self.path, follow_symlinks=False)
        written = json.dumps([self.path, status.st_dev, status.st_ino])
        os.write(self._fd, written.encode())

    def remove(self) -> None:
        """Remove it and all in it; no process may be at work there any more.

        Raises:
            OSError: Something in it can't be removed. What could be, has been.
        """
        try:
            scratch.remove(self.path)
            if self._fd >= 0:
                os.unlink(self._record)
        finally:
            if self._fd >= 0:
                os.close(self._fd)


def remove_left(records: str) -> None:
    """Remove what runs left that were killed; what can't be removed stays."""
    for name in os.listdir(records):
        path = f"{records}/{name}"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # its run has ended meanwhile, or it's another user's (sudo)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            data = os.read(fd, _RECORD_BYTES_MAX)
            if data:
                _remove_one(*json.loads(data))
                os.unlink(path)
        except (OSError, ValueError):
            continue  # it lives, or something in it can't be removed
        finally:
            os.close(fd)


def _remove_one(path: str, device: int, inode: int) -> None:
    """Remove the directory *path*, if it's the one that was made.

    Raises:
        OSError: Something in it can't be removed.
    """
    try:
        top = os.open(path, _DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        status = os.fstat(top)
        if (status.st_dev, status.st_ino) != (device, inode):
            return
        scratch.empty(top)
    finally:
        os.close(top)
    os.rmdir(path)
