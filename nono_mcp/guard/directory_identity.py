"""By what a directory is told from another that comes to have its path: device, inode and birth.

Most file systems give the inode number of what was removed to what is made next, so the time of
its birth is asked for as well. Where one directory may come to have another time of birth, as on
overlayfs once it's written to, the device is what is gone by instead.

Architecture invariant: what isn't known is blank, and counts as being the same.
"""

from __future__ import annotations

import posix as os
import sys

from nono_mcp.guard import times

_BORN = times.TELLING | {times.TMPFS}
"""Where a directory's birth is kept, and stays."""

_STATX_BTIME = 0x800
_WORDS = 32
"""`struct statx` is 256 bytes: the mask is in word 0, the time of birth in words 10 and 11."""
_BIRTH = 10
_HALF = 0xFFFFFFFF
_S_NS = 10**9


def told_by(fd: int | None) -> str:
    """Return what the open directory *fd* is told by: device, inode, birth, each 0 if unused."""
    if fd is None:
        return ""
    status = os.fstat(fd)
    born_ns = birth_ns(fd)
    return f"{0 if born_ns else status.st_dev:x}-{status.st_ino:x}-{born_ns:x}"


def is_born(text: str) -> bool:
    """Tell whether that holds a time of birth: then it's nobody else's, after a restart too."""
    return not text.endswith("-0") and text != ""


def birth_ns(fd: int) -> int:
    """Return when what is open as *fd* was made, by its file system; 0 where that isn't kept."""
    if sys.platform != "linux":
        return 0
    if times.file_system(fd) not in _BORN:
        return 0
    from nono_sandbox._foreign import Pointer, addressof, longs
    from nono_sandbox._uapi import AT_EMPTY_PATH, LIBC

    words = longs(_WORDS)
    where = Pointer(addressof(words))
    try:
        failed = LIBC.call("statx", fd, b"", AT_EMPTY_PATH, _STATX_BTIME, where)
    except AttributeError:
        return 0  # a libc without it
    if failed or not words[0] & _STATX_BTIME:
        return 0
    born_ns: int = words[_BIRTH] * _S_NS + (words[_BIRTH + 1] & _HALF)
    return max(born_ns, 0)
