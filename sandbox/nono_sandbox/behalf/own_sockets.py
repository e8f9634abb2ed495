"""The local sockets that a session's workers bound to paths.

A path says nothing about who listens behind it: what can be written can be replaced, and a
program outside may serve a socket inside a grant. So it is inodes that are known here, each held
open, so that its number isn't given to another.

Which inode a socket was bound to the kernel is asked (sock_diag(7), CONFIG_UNIX_DIAG): the path may
lead elsewhere by the time that it is looked at.

Architecture invariant: whoever isn't known here isn't connected to.
"""

from __future__ import annotations

import _struct as struct
import os

from nono_sandbox import namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

KNOWN_MAX = 256
"""Sockets known at once; of more, the ones without a name go first, then the oldest."""

_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBHIIIII")
_MESSAGE = struct.Struct("=BBBBIII")
_ATTRIBUTE = struct.Struct("=HH")
_AF_UNIX = 1
_ALL_STATES = 0xFFFF_FFFF
_UDIAG_SHOW_VFS = 2
_UNIX_DIAG_VFS = 1
_NO_COOKIE = 0xFFFF_FFFF
_NLM_F_DUMP = 0x300
_ANSWER_BYTES_MAX = 8192
_DUMP_BYTES_MAX = 1 << 20
_MINOR_BITS = 20
_INODE_BITS = 0xFFFF_FFFF
"""All that the kernel tells of an inode's number."""


def are_all(asked: _socket.socket, path_fd: int, mounts: str) -> bool:
    """Tell whether *path_fd* is a local socket of the network that *asked* is of.

    In a network of a session's own that's the same as being the session's. *mounts* names the
    mountinfo(5) that has the mount it was opened by. An inode is one socket's for ever.
    """
    wanted = _inode(path_fd, mounts)
    request = _REQUEST.pack(_AF_UNIX, 0, 0, _ALL_STATES, 0, _UDIAG_SHOW_VFS, 0, 0)
    asked.send(_header(_NLM_F_REQUEST | _NLM_F_DUMP, request) + request)
    found = False
    while True:
        said = asked.recv(_DUMP_BYTES_MAX)
        at = 0
        while at + _HEADER.size <= len(said):
            length, kind, *_ = _HEADER.unpack_from(said, at)
            if kind != _SOCK_DIAG_BY_FAMILY:
                return found
            found = found or (wanted is not None and _vfs(said[at : at + length]) == wanted)
            at += -(-length // 4) * 4


def _header(flags: int, request: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, flags, 1, 0)


class OwnSockets:
    """The sockets of one session."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, int], int] = {}

    def add(self, socket_fd: int, path_fd: int) -> bool:
        """Know *path_fd*, taken over, if it is what the socket was bound to; tell whether it is."""
        if _bound_to(socket_fd) != _inode(path_fd):
            os.close(path_fd)
            return False
        self._make_room()
        self._forget(_key(path_fd))
        self._held[_key(path_fd)] = path_fd
        return True

    def knows(self, path_fd: int) -> bool:
        """Tell whether *path_fd* is such a socket."""
        return _key(path_fd) in self._held

    def _make_room(self) -> None:
        if len(self._held) < KNOWN_MAX:
            return
        for key, fd in list(self._held.items()):
            if not os.fstat(fd).st_nlink:
                self._forget(key)
        if len(self._held) >= KNOWN_MAX:
            self._forget(next(iter(self._held)))

    def _forget(self, key: tuple[int, int]) -> None:
        fd = self._held.pop(key, None)
        if fd is not None:
            os.close(fd)


def _key(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _bound_to(socket_fd: int) -> tuple[int, int] | None:
    """Return device and inode that a local socket was bound to, as the kernel numbers them."""
    number = os.fstat(socket_fd).st_ino & _INODE_BITS
    request = _REQUEST.pack(
        _AF_UNIX, 0, 0, _ALL_STATES, number, _UDIAG_SHOW_VFS, _NO_COOKIE, _NO_COOKIE
    )
    asked = namespaces.asking()
    try:
        asked.send(_header(_NLM_F_REQUEST, request) + request)
        said = asked.recv(_ANSWER_BYTES_MAX)
    finally:
        asked.close()
    length, kind, *_ = _HEADER.unpack_from(said)
    return _vfs(said[:length]) if kind == _SOCK_DIAG_BY_FAMILY else None


def _vfs(message: bytes) -> tuple[int, int] | None:
    """Return device and inode of the path that the socket of *message* was bound to, if it was."""
    at = _HEADER.size + _MESSAGE.size
    while at + _ATTRIBUTE.size <= len(message):
        size, kind = _ATTRIBUTE.unpack_from(message, at)
        if kind == _UNIX_DIAG_VFS:
            inode, device = struct.unpack_from("=II", message, at + _ATTRIBUTE.size)
            return device, inode
        at += max(_ATTRIBUTE.size, -(-size // 4) * 4)
    return None


def _inode(fd: int, mounts: str = "/proc/self/mountinfo") -> tuple[int, int] | None:
    """Return the same two of an open file; `stat` tells others on overlayfs and btrfs."""
    told = dict(line.split(":\t") for line in _text(f"/proc/self/fdinfo/{fd}").splitlines())
    for line in _text(mounts).splitlines():
        mount, _, device, *_ = line.split(" ", 3)
        if mount == told["mnt_id"]:
            major, minor = map(int, device.split(":"))
            return major << _MINOR_BITS | minor, int(told["ino"]) & _INODE_BITS
    return None


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as stream:
        return stream.read()
