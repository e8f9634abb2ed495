"""A directory for temporary files that goes with who made it, or with the next one made.

A session or run without a /tmp of its own has one, and a proxy, for the certificates that programs
trust. What says of it where it is, and which it is, lies in our state directory, locked as long as
its maker lives. Of one who was killed the lock is free, and the next removes what was left.

Architecture invariant: only the very directory that was made is emptied, and only as who made it.
Workers, and other users of the machine, may make any name beside it, and move anything there; what
they can't do is write in our state, and where they can, nothing is kept or gone by there.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time

from nono_sandbox import private, scratch
from nono_sandbox.opath import LOOK, change_mode, reopen

FOLDER = "scratch"
"""In our state directory."""
UNSAID_S_MAX = 60.0
"""How long a record may say nothing before it counts as that of one who was killed."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK_IN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_RANDOM_BYTES = 8
_RECORD_BYTES_MAX = 8192
_NOT_YET = (0, 0)
"""Which directory it is, while it's being made."""


class HeldScratch:
    """Such a directory in *parent*; without a *state_dir* that is ours, nothing says where it is.

    Raises:
        OSError: It can't be made.
    """

    def __init__(self, state_dir: str | None, parent: str) -> None:
        self.path = scratch.unused(parent)
        self._identity = _NOT_YET
        self._fd = -1
        self._records = -1 if state_dir is None else _records(state_dir)
        self._record = os.urandom(_RANDOM_BYTES).hex()
        try:
            if self._records >= 0:
                remove_left(self._records)
                # Nobody takes it for one that was left: it's young, and then it's locked. Who looks
                # whether it is one has it locked for a moment.
                self._fd = _new_record(state_dir, self._record, self._records)
                fcntl.flock(self._fd, fcntl.LOCK_EX)
            self._say()
            private.make_directory(self.path)
            status = os.stat(self.path, follow_symlinks=False)  # noqa: PTH116 - a run would wait for pathlib
            self._identity = status.st_dev, status.st_ino
            self._say()
        except BaseException:
            self.remove()
            raise

    def _say(self) -> None:
        if self._fd >= 0:
            os.pwrite(self._fd, json.dumps([self.path, *self._identity]).encode(), 0)

    def remove(self) -> None:
        """Remove it and all in it; no process may be at work there any more.

        Raises:
            OSError: Something in it can't be removed. What could be, has been.
        """
        try:
            _remove_one(self.path, self._identity)
            if self._fd >= 0:
                os.unlink(self._record, dir_fd=self._records)
        finally:
            for fd in (self._fd, self._records):
                if fd >= 0:
                    os.close(fd)
            self._fd = self._records = -1


def _new_record(state_dir: str | None, name: str, records: int) -> int:
    try:
        return private.open_file(name, private.NEW, records)
    except OSError as error:
        error.filename = f"{state_dir}/{FOLDER}"  # where that is, for who is told
        raise


def _records(state_dir: str) -> int:
    """Return the directory of records, open, or -1 where others may write in it (sudo)."""
    path = f"{state_dir}/{FOLDER}"
    private.ensure_directories(path)
    fd = os.open(path, _DIRECTORY)
    if _is_ours_alone(os.fstat(fd)):
        return fd
    os.close(fd)
    return -1


def _is_ours_alone(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def remove_left(records: int) -> None:
    """Remove what was left by those of the open directory *records* who were killed.

    What can't be removed stays.
    """
    for name in os.listdir(records):
        try:
            fd = os.open(name, _LOOK_IN, dir_fd=records)
        except OSError:
            continue  # its maker has ended meanwhile, or it's another user's
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_over(fd):
                os.unlink(name, dir_fd=records)
        except (OSError, ValueError):
            continue  # it lives, something in it can't be removed, or what it says is no path
        finally:
            os.close(fd)


def _is_over(record: int) -> bool:
    """Remove what the locked *record* is of; tell whether nothing is left to remove.

    Raises:
        OSError: Something in it can't be removed.
    """
    status = os.fstat(record)
    if not _is_ours_alone(status) or not stat.S_ISREG(status.st_mode):
        return False
    said = _parsed(os.read(record, _RECORD_BYTES_MAX))
    if said is None:
        return abs(time.time() - status.st_mtime) > UNSAID_S_MAX
    path, device, inode = said
    _remove_one(path, (device, inode))
    return True


def _parsed(data: bytes) -> tuple[str, int, int] | None:
    """Return which directory a record says it is of, if it says so."""
    try:
        path, device, inode = json.loads(data)
        said = os.fspath(path), int(device), int(inode)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
    return said if path.startswith("/") and scratch.is_name(path.rpartition("/")[2]) else None


def _remove_one(path: str, identity: tuple[int, int]) -> None:
    """Remove the directory *path*, if it's the one that was made.

    Raises:
        OSError: Something in it can't be removed.
    """
    try:
        looked = os.open(path, LOOK)
    except FileNotFoundError:
        return
    try:
        status = os.fstat(looked)
        if status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode):
            return
        if (status.st_dev, status.st_ino) == identity:
            _empty(looked)
        elif identity != _NOT_YET:
            return
    finally:
        os.close(looked)
    try:
        os.rmdir(path)  # noqa: PTH106 - a run would wait for pathlib
    except OSError as error:
        # Of what wasn't made yet nothing is in it. By this name another may be.
        if identity != _NOT_YET or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _empty(looked: int) -> None:
    # Whatever mode it was given by a worker.
    change_mode(looked, stat.S_IRWXU)
    top = reopen(looked, os.O_RDONLY | os.O_DIRECTORY)
    try:
        scratch.empty(top)
    finally:
        os.close(top)
