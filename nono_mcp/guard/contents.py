"""What files in a hostile tree hold: those that are closed to their owner, and those with holes.

Architecture invariant: nothing is followed, and nothing is waited for.
"""

from __future__ import annotations

import _stat as stat
import errno
import posix as os

from nono_mcp.guard import ways
from nono_sandbox.opath import LOOK, change_mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK_BYTES = 1024**2
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def opened(name: str, parent: int) -> tuple[int, int]:
    """Open the file *name*, which may be closed to its owner too, and return its mode as well."""
    held = os.open(name, LOOK, dir_fd=parent)
    try:
        status = os.fstat(held)
        mode = stat.S_IMODE(status.st_mode)
        try:
            fd = os.open(name, _READ, dir_fd=parent)
        except PermissionError:
            change_mode(held, mode | stat.S_IRUSR)
            try:
                fd = os.open(name, _READ, dir_fd=parent)
            finally:
                change_mode(held, mode)
        found = os.fstat(fd)
        if not (ways.is_same(found, status) and stat.S_ISREG(found.st_mode)):
            os.close(fd)
            raise OSError(errno.EAGAIN, "it was changed while it was copied")
    finally:
        os.close(held)
    return fd, mode


def written(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield where in the first *size* bytes of a file something was written, and not holes."""
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        at = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        if start < at:
            yield start, at


def hold_same(one: int, other: int) -> bool:
    """Tell whether two open files hold the same bytes."""
    size = os.fstat(one).st_size
    if size != os.fstat(other).st_size:
        return False
    # Where both have a hole, both are the same.
    for fd in (one, other):
        for start, end in written(fd, size):
            for at in range(start, end, CHUNK_BYTES):
                count = min(end - at, CHUNK_BYTES)
                if os.pread(one, count, at) != os.pread(other, count, at):
                    return False
    return True
