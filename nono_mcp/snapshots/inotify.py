"""Linux's inotify as it is: watches on open directories, and the events they raise (inotify(7)).

Architecture invariant: no path is resolved here. What is watched is what a descriptor holds.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_UNMOUNT = 0x2000
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x01000000
IN_ISDIR = 0x40000000
CHANGES = (
    IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
)
"""All that changes a directory or what it names; a dirty page that is written a second time
raises nothing until its file is closed by the last who wrote it (IN_CLOSE_WRITE)."""
READ_BYTES = 256 * 1024
_HEADER = struct.Struct("iIII")


class Inotify:
    """One inotify instance."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._checked(self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))

    def fileno(self) -> int:
        """Return the descriptor that is readable when there are events."""
        return self._fd

    def watch(self, directory_fd: int, mask: int) -> int:
        """Watch an open directory; the number is the same for as long as it is watched.

        Raises:
            OSError: ENOSPC is the limit fs.inotify.max_user_watches, or the kernel's memory.
        """
        path = b"/proc/self/fd/%d" % directory_fd
        return self._checked(self._libc.inotify_add_watch(self._fd, path, mask | IN_ONLYDIR))

    def forget(self, watch: int) -> None:
        """Watch a directory no more, which the kernel may have ended by itself."""
        if self._libc.inotify_rm_watch(self._fd, watch) < 0 and ctypes.get_errno() != errno.EINVAL:
            raise OSError(ctypes.get_errno(), "inotify_rm_watch")

    def events(self) -> list[tuple[int, int, bytes]]:
        """Return (watch, mask, name) of what has happened; nothing if nothing has."""
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return []
        return list(_parsed(data))

    def close(self) -> None:
        """End it, and every watch."""
        os.close(self._fd)

    def _checked(self, result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result


def _parsed(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    offset = 0
    while offset < len(data):
        watch, mask, _, size_bytes = _HEADER.unpack_from(data, offset)
        offset += _HEADER.size + size_bytes
        yield watch, mask, data[offset - size_bytes : offset].rstrip(b"\0")
