"""Reading one file, symlink or FIFO of a workspace as it is at one moment.

Architecture invariant: what is read is what was opened, and what changes while it's read is read
again or said to keep changing; never followed, never waited for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from typing import TYPE_CHECKING, Final

from nono_mcp.snapshots import encoding
from nono_mcp.snapshots.encoding import Entry, Segment
from nono_mcp.snapshots.modes import Modes, looking
from nono_mcp.snapshots.objects import BLOCK_BYTES, Objects
from nono_sandbox.opath import change_mode, reopen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SEGMENTS_MAX: Final = 1 << 18
"""A file of more runs and holes than this isn't protected."""
KEPT_CHANGING: Final = "kept changing"
_TRIES: Final = 3
# What opening or reading says of a file that isn't one any more.
_BECAME_ELSE: Final = frozenset(
    {errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EAGAIN, errno.EINVAL}
)
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KEPT: Final = (b"system.posix_acl_access", b"system.posix_acl_default")
_STAT_BLOCK_BYTES: Final = 512


class UnreadableError(Exception):
    """It can't be kept; the message says why in a word or two."""


class Reader:
    """Reads a workspace's entries into a store."""

    def __init__(self, objects: Objects, modes: Modes, path: Callable[[], list[bytes]]) -> None:
        self._objects = objects
        self._modes = modes
        self.path = path
        self._forced_open = False

    def read(
        self, dir_fd: int, name: bytes, status: os.stat_result
    ) -> tuple[Entry, os.stat_result]:
        """Return the entry *name* and the status that it had when it was read.

        Raises:
            UnreadableError: It can't be kept.
            FileNotFoundError: It's gone.
        """
        for _ in range(_TRIES):
            before = status
            self._forced_open = False
            try:
                entry = self._once(dir_fd, name, before)
            except OSError as error:
                if error.errno not in _BECAME_ELSE:
                    raise
                entry = None
            status = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            if entry is not None and _same(before, status, ctime=not self._forced_open):
                return entry, status
            if stat.S_ISDIR(status.st_mode):
                raise FileNotFoundError(errno.ENOENT, "became a directory")
        raise UnreadableError(KEPT_CHANGING)

    def _once(self, dir_fd: int, name: bytes, status: os.stat_result) -> Entry | None:
        mode = status.st_mode
        if stat.S_ISREG(mode):
            with self._opened(dir_fd, name, status) as fd:
                xattrs = read_xattrs(fd)
                kind, target = self._content(fd, status)
            size = status.st_size
        elif stat.S_ISLNK(mode):
            kind, target, xattrs = encoding.SYMLINK, os.readlink(name, dir_fd=dir_fd), b""
            size = len(target)
        elif stat.S_ISFIFO(mode):
            kind, target, xattrs, size = encoding.FIFO, b"", b"", 0
        else:
            raise UnreadableError("socket" if stat.S_ISSOCK(mode) else "device")
        return Entry(
            name, kind, stat.S_IMODE(mode), status.st_uid, status.st_gid, status.st_mtime_ns, size,
            target, xattrs,
        )  # fmt: skip

    @contextlib.contextmanager
    def _opened(self, dir_fd: int, name: bytes, status: os.stat_result) -> Iterator[int]:
        try:
            fd = os.open(name, _READ, dir_fd=dir_fd)
        except PermissionError:
            if status.st_uid != os.geteuid():
                raise UnreadableError("unreadable") from None
            fd = self._forced(dir_fd, name, status)
        try:
            yield fd
        finally:
            os.close(fd)

    def _forced(self, dir_fd: int, name: bytes, status: os.stat_result) -> int:
        with looking(dir_fd, name) as look_fd:
            found = os.fstat(look_fd)
            if found.st_ino != status.st_ino or not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EAGAIN, "changed while it was opened")
            self._forced_open = True
            self._modes.note([*self.path(), name], found)
            mode = stat.S_IMODE(found.st_mode)
            change_mode(look_fd, mode | stat.S_IRUSR)
            try:
                return reopen(look_fd, os.O_RDONLY | os.O_NONBLOCK)
            finally:
                change_mode(look_fd, mode)

    def _content(self, fd: int, status: os.stat_result) -> tuple[int, bytes]:
        size = status.st_size
        sparse = status.st_blocks * _STAT_BLOCK_BYTES < size
        if size <= BLOCK_BYTES and not sparse:
            return encoding.FILE, self._objects.put_blob(_read_whole(fd, size))
        runs = list(_runs(fd, size)) if sparse else [(0, size)]
        if size <= BLOCK_BYTES and runs == [(0, size)]:
            return encoding.FILE, self._objects.put_blob(_read_whole(fd, size))
        segments = [
            Segment(start, end - start, self._objects.put_blob(_read_at(fd, start, end)))
            for start, end in _blocks(runs)
        ]
        return encoding.MAPPED, self._objects.put_map(encoding.encode_map(size, segments))


def _same(a: os.stat_result, b: os.stat_result, *, ctime: bool) -> bool:
    # The ctime of a file that was closed to us is ours to have changed.
    return (
        a.st_ino == b.st_ino
        and a.st_size == b.st_size
        and a.st_mtime_ns == b.st_mtime_ns
        and a.st_mode == b.st_mode
        and (a.st_ctime_ns == b.st_ctime_ns or not ctime)
    )


def _read_whole(fd: int, size: int) -> bytes:
    data = os.read(fd, size + 1)
    while 0 < len(data) < size:
        more = os.read(fd, size + 1 - len(data))
        if not more:
            break
        data += more
    return data


def _read_at(fd: int, start: int, end: int) -> bytes:
    data = os.pread(fd, end - start, start)
    while start + len(data) < end:
        more = os.pread(fd, end - start - len(data), start + len(data))
        if not more:
            # Cut short under our eyes: its size tells, and it's read again.
            return data + bytes(end - start - len(data))
        data += more
    return data


def _runs(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield where a sparse file has data."""
    start, count = 0, 0
    while start < size:
        try:
            start = os.lseek(fd, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        count += 1
        if count > SEGMENTS_MAX:
            raise UnreadableError("too many holes")
        yield start, end
        start = end


def _blocks(runs: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Cut runs where blocks begin, so that an insertion in one leaves the others alone."""
    for start, end in runs:
        at = start
        while at < end:
            cut = min(end, at - at % BLOCK_BYTES + BLOCK_BYTES)
            yield at, cut
            at = cut


def read_xattrs(fd: int) -> bytes:
    """Return the extended attributes that are kept, encoded: none on macOS."""
    if sys.platform != "linux":
        return b""  # Python has no words for macOS's
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return b""
        raise
    if not names:
        return b""
    kept = [name for name in map(os.fsencode, names) if is_kept(name)]
    return encoding.encode_xattrs([(name, os.getxattr(fd, name)) for name in kept])


def is_kept(name: bytes) -> bool:
    """Tell whether the extended attribute *name* is part of a snapshot."""
    return name.startswith(b"user.") or name in _KEPT
