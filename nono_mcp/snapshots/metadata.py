"""Giving files and directories their modes, owners, attributes and times."""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import TYPE_CHECKING

from nono_mcp.snapshots import encoding
from nono_mcp.snapshots.reading import is_kept

if TYPE_CHECKING:
    from nono_mcp.snapshots.encoding import Entry


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
