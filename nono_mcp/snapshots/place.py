"""The store's directory and its locks (FORMAT.md section 1).

Architecture invariant: what isn't ours alone isn't used, and no lock is waited for without end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nono_mcp.snapshots.errors import BusyError, StoreError
from nono_sandbox import private

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY: Final = "snapshots"
LOCK_WAIT_S: Final = 60.0
_PAUSE_S_MAX: Final = 0.01
_ENTER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_store(state_dir: str) -> int:
    """Return a descriptor of the store's directory, made if there is none.

    Raises:
        StoreError: It's a symlink, somebody else's, or open to others.
    """
    path = Path(state_dir) / DIRECTORY
    private.ensure_directories(state_dir)
    private.ensure_directory(str(path))
    return _private(str(path), None)


def open_beneath(store_fd: int, name: str) -> int:
    """Return a descriptor of a directory in the store, made if there is none.

    Raises:
        StoreError: It isn't safely ours.
    """
    private.ensure_directory(name, store_fd)
    return _private(name, store_fd)


def _private(path: str, dir_fd: int | None) -> int:
    try:
        fd = os.open(path, _ENTER, dir_fd=dir_fd)
    except OSError as error:
        raise StoreError(f"{path}: can't be opened as a directory: {error.strerror}") from error
    found = os.fstat(fd)
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        os.close(fd)
        raise StoreError(f"{path}: others have access to it; chmod go= it, or remove it")
    return fd


def open_private(dir_fd: int, name: str, flags: int) -> int:
    """Return a descriptor of a file of the store.

    Raises:
        StoreError: It's a link, somebody else's, or open to others.
    """
    try:
        fd = private.open_file(name, flags | os.O_NONBLOCK, dir_fd)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"{name}: can't be opened: {error.strerror}") from error
    found = os.fstat(fd)
    ours = found.st_uid == os.geteuid() and not found.st_mode & 0o077
    if not (ours and stat.S_ISREG(found.st_mode) and found.st_nlink == 1):
        os.close(fd)
        raise StoreError(f"{name}: not a file of the store's own")
    return fd


@contextlib.contextmanager
def locked(dir_fd: int, name: str, what: str, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock *name*; *what* is locked, in words.

    Raises:
        BusyError: Another process has held it for `LOCK_WAIT_S`.
    """
    fd = open_private(dir_fd, name, os.O_RDWR | os.O_CREAT)
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    deadline = time.monotonic() + LOCK_WAIT_S
    pause_s = 0.0002
    try:
        while not _try_lock(fd, how):
            # Never a blocking flock: a stopped process that holds it would stop us for good.
            if time.monotonic() > deadline:
                raise BusyError(f"another process has kept {what} busy for {LOCK_WAIT_S:.0f} s")
            time.sleep(pause_s)
            pause_s = min(_PAUSE_S_MAX, pause_s * 1.5)
        yield
    finally:
        os.close(fd)


def _try_lock(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def try_own(fd: int) -> bool:
    """Lock a file for us alone, if nobody has it; closing *fd* lets go of it."""
    return _try_lock(fd, fcntl.LOCK_EX)


def write_whole(fd: int, data: bytes, offset: int) -> None:
    """Write all of *data* at *offset*.

    Raises:
        OSError: Part of it may have been written.
    """
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written
