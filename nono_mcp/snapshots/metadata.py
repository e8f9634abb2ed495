"""Giving files and directories their modes, owners, attributes and times."""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import TYPE_CHECKING, Final

from nono_mcp.snapshots import encoding
from nono_mcp.snapshots.reading import is_kept, read_xattrs

if TYPE_CHECKING:
    from nono_mcp.snapshots.encoding import Entry

NEW_MODE: Final = 0o600
"""With which mode what is put back is made."""


def apply(fd: int, entry: Entry, *, mode: bool = True) -> None:
    """Make what is open as *fd* what *entry* says, but for its content.

    Without *mode* the mode is left to be set later, as the last thing.

    Raises:
        OSError: Some of it may have been done.
    """
    found = os.fstat(fd)
    if (found.st_uid, found.st_gid) != (entry.uid, entry.gid):
        os.fchown(fd, entry.uid, entry.gid)
    _set_xattrs(fd, encoding.decode_xattrs(entry.xattrs))
    if mode and stat.S_IMODE(os.fstat(fd).st_mode) != entry.mode:
        os.fchmod(fd, entry.mode)
    os.utime(fd, ns=(found.st_atime_ns, entry.mtime_ns))


class Fresh:
    """What files have that are made in one directory of ours, before anything is given to them."""

    def __init__(self) -> None:
        self._seen: tuple[int, int, int, int] | None = None
        self._plain = False

    def apply(self, fd: int, entry: Entry) -> None:
        """Make a file that was just made there, with `NEW_MODE`, what *entry* says.

        Owner, mode and attributes are what the first had, by the directory's own and the umask;
        only the first is asked for them.

        Raises:
            OSError: Some of it may have been done.
        """
        if self._seen is None:
            found = os.fstat(fd)
            mode = stat.S_IMODE(found.st_mode)
            self._seen = found.st_uid, found.st_gid, mode, found.st_atime_ns
            self._plain = not read_xattrs(fd)
        uid, gid, mode, atime_ns = self._seen
        if (uid, gid) != (entry.uid, entry.gid) or entry.xattrs or not self._plain:
            apply(fd, entry)
            return
        if entry.mode != mode:
            os.fchmod(fd, entry.mode)
        os.utime(fd, ns=(atime_ns, entry.mtime_ns))


def apply_named(dir_fd: int, name: str | bytes, entry: Entry) -> None:
    """Do the same for a symlink or a FIFO, which aren't opened."""
    found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    if (found.st_uid, found.st_gid) != (entry.uid, entry.gid):
        os.chown(name, entry.uid, entry.gid, dir_fd=dir_fd, follow_symlinks=False)
    if stat.S_ISFIFO(found.st_mode):
        os.chmod(name, entry.mode, dir_fd=dir_fd)
    times = (found.st_atime_ns, entry.mtime_ns)
    os.utime(name, ns=times, dir_fd=dir_fd, follow_symlinks=False)


def _set_xattrs(fd: int, wanted: dict[bytes, bytes]) -> None:
    if sys.platform != "linux":
        return  # nor are any kept there
    try:
        names = [os.fsencode(name) for name in os.listxattr(fd)]
    except OSError as error:
        if error.errno == errno.ENOTSUP and not wanted:
            return
        raise
    for name in names:
        if is_kept(name) and name not in wanted:
            os.removexattr(fd, name)
    for name, value in wanted.items():
        if name not in names or os.getxattr(fd, name) != value:
            os.setxattr(fd, name, value)
