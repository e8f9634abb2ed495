"""System calls as `_uapi` has them, for whoever acts on behalf of another process.

Architecture invariant: no policy and no state. Meaning belongs in the modules that call.
"""

from __future__ import annotations

import os
import struct

from nono_sandbox import _foreign, _uapi

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes

SYS_PIDFD_GETFD = 438
SYS_FCHMODAT2 = 452
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10
_HEADER = struct.Struct("@QIxxxxQQQQIxxxx")
"""struct msghdr."""
_VECTOR = struct.Struct("@QQ")


class Unprivileged:
    """While it is entered, this thread has no capability in effect, as no worker has one."""

    def __init__(self) -> None:
        sets = (_foreign.Char * _uapi.CAPABILITIES.size)()
        _uapi.syscall("capget", _uapi.number_of("capget"), _uapi.THIS_THREAD, sets)
        self._all = bytes(sets)
        fields = list(_uapi.CAPABILITIES.unpack(self._all))
        fields[0] = fields[3] = 0  # the lower and the upper half of what is effective
        self._none = _uapi.CAPABILITIES.pack(*fields)

    def __enter__(self) -> None:
        if self._none != self._all:
            _uapi.set_capabilities(self._none)

    def __exit__(self, *_: object) -> None:
        if self._none != self._all:
            _uapi.set_capabilities(self._all)


def change_mode(fd: int, mode: int) -> None:
    """Change the mode of what *fd* refers to, be it but an O_PATH descriptor."""
    bits, at = _foreign.UInt(mode), _foreign.UInt(_uapi.AT_EMPTY_PATH)
    _uapi.syscall("fchmodat2", SYS_FCHMODAT2, fd, b"", bits, at)


def change_owner(fd: int, uid: int, gid: int) -> None:
    """Change owner and group of what *fd* refers to, be it but an O_PATH descriptor."""
    ids = _foreign.UInt(uid), _foreign.UInt(gid)
    _uapi.checked(_uapi.LIBC.call("fchownat", fd, b"", *ids, _uapi.AT_EMPTY_PATH), "fchownat")


def change_times(fd: int, times: bytes | None) -> None:
    """Change the times of what *fd* refers to, to two struct timespec or, by None, to now."""
    _uapi.checked(_uapi.LIBC.call("utimensat", fd, b"", times, _uapi.AT_EMPTY_PATH), "utimensat")


def open_plainly(directory_fd: int, path: bytes, flags: int) -> int:
    """Open *path* as seen from *directory_fd*, by way of no link of /proc's to an open file."""
    return _open(directory_fd, path, flags, RESOLVE_NO_MAGICLINKS)


def open_in_root(root_fd: int, path: bytes, flags: int) -> int:
    """Open *path* as if *root_fd* were the root, by way of no link of /proc's to an open file."""
    return _open(root_fd, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def _open(directory_fd: int, path: bytes, flags: int, resolve: int) -> int:
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve)
    size = _foreign.ULong(len(how))
    return _uapi.syscall("openat2", _uapi.SYS_OPENAT2, directory_fd, path, how, size)


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """Return a duplicate of a descriptor of another process, close-on-exec."""
    return _uapi.syscall("pidfd_getfd", SYS_PIDFD_GETFD, pidfd, fd, 0)


def connect(fd: int, address: bytes) -> None:
    """Connect a socket to an address as bytes; a signal interrupts it."""
    _uapi.checked(_uapi.LIBC.call("connect", fd, address, len(address)), "connect")


def bind(fd: int, address: bytes) -> None:
    """Give a socket an address, as bytes."""
    _uapi.checked(_uapi.LIBC.call("bind", fd, address, len(address)), "bind")


def sendmsg(
    fd: int, parts: tuple[bytes, bytes, bytes], flags: int, word: tuple[int, int] = (0, 0)
) -> int:
    """Send a message of *parts*: an address or nothing, its bytes, control messages or nothing.

    Return how many of its bytes were sent.

    *word* stands in two arguments that the kernel doesn't look at.
    """
    # They live until the call is over.
    address, body, control = parts
    held = [_held(part) for part in parts]
    name, content, ancillary = map(_foreign.addressof, held)
    vector = _held(_VECTOR.pack(content, len(body)))
    header = _HEADER.pack(
        *(name if address else 0, len(address), _foreign.addressof(vector), 1),
        *(ancillary if control else 0, len(control), 0),
    )
    words = [_foreign.ULong(each) for each in (flags, *word)]
    return _uapi.syscall("sendmsg", _uapi.number_of("sendmsg"), fd, header, *words)


def _held(content: bytes) -> ctypes.Array[_foreign.Char]:
    return (_foreign.Char * len(content)).from_buffer_copy(content)


def listen(fd: int, backlog: int) -> None:
    """Have a socket take connections."""
    _uapi.checked(_uapi.LIBC.call("listen", fd, backlog), "listen")
