"""Whether a directory finds a file by names that aren't written as its own is.

Events there say by which name somebody went, and not what the file is called.

Architecture invariant: reads only, and of names no more than one that says it.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys

_GETFLAGS = 0x80086601
"""FS_IOC_GETFLAGS of <linux/fs.h>, where long has 64 bits; what it gives is an int."""
_CASEFOLD = 0x40000000
_ROOM = bytes(8)


def is_told_to(directory: int) -> bool:
    """Tell whether the open *directory* has the flag for that (ext4, F2FS, tmpfs)."""
    if sys.platform != "linux":
        return False
    try:
        found = fcntl.ioctl(directory, _GETFLAGS, _ROOM)
    except OSError:
        return False  # a file system that has no flags
    return bool(struct.unpack_from("I", found)[0] & _CASEFOLD)


def is_by_nature(directory: int) -> bool:
    """Tell whether the file system of the open *directory* does so everywhere (XFS, ZFS).

    That is tried with a name in it or, where none has letters, with its own.
    """
    if sys.platform != "linux":
        return False
    with os.scandir(directory) as entries:
        name = next((one.name for one in entries if one.name.swapcase() != one.name), None)
    if name is not None:
        return _is_found(name, directory) and name.swapcase() not in os.listdir(directory)
    own = os.readlink(f"/proc/self/fd/{directory}").rpartition("/")[2]
    above = os.open("..", os.O_PATH | os.O_CLOEXEC, dir_fd=directory)
    try:
        return own.swapcase() != own and _is_found(own, above)
    finally:
        os.close(above)


def _is_found(name: str, directory: int) -> bool:
    """Tell whether *name* is found in the other case too."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        other = os.stat(name.swapcase(), dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return os.path.samestat(found, other)
