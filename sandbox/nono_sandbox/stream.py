"""Whole messages over SOCK_STREAM, with descriptors beside them: for macOS.

Its local sockets know no SOCK_SEQPACKET. A message is its length in four bytes, then so many
bytes; length 0 says that the body is in a file, whose descriptor comes last. Descriptors travel
with the first byte, and a receiver never reads past the end of a message, so they can't get lost
between two (unix(4); XNU's soreceive stops where control data begins).

Architecture invariant: what a send waits for is the other end reading, which it always does:
bodies are short and a socket holds several.
"""

from __future__ import annotations

import _socket
import os
import select
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

BODY_BYTES_MAX = 2048
"""A longer body travels in a file; a socket of macOS holds 8192 bytes."""
FDS_MAX = 8
_HEAD = struct.Struct("=I")
_INT_BYTES = struct.calcsize("i")


def send(sock: _socket.socket, body: bytes, fds: Sequence[int]) -> None:
    """Send one message; *fds* are duplicated into the other process.

    Raises:
        BrokenPipeError, ConnectionResetError: The other end is gone.
    """
    if len(body) <= BODY_BYTES_MAX:
        _send(sock, body, fds)
        return
    # Only a long message pays for the import.
    from nono_sandbox import anonymous_file

    file = anonymous_file.holding(body)
    try:
        _send(sock, b"", [*fds, file])
    finally:
        os.close(file)


def _send(sock: _socket.socket, body: bytes, fds: Sequence[int]) -> None:
    rights = struct.pack(f"{len(fds)}i", *fds)
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if fds else []
    left = memoryview(_HEAD.pack(len(body)) + body)
    while left:
        try:
            left = left[sock.sendmsg([left], ancillary) :]
        except BlockingIOError:
            _wait(sock, select.POLLOUT)
        else:
            ancillary = []


def receive(sock: _socket.socket) -> tuple[bytes, list[int]]:
    """Receive one message, and its descriptors; an empty one says that the other end is gone.

    Raises:
        BlockingIOError: The socket doesn't block and holds no message.
        TimeoutError: None came in the time that the socket gives.
    """
    fds: list[int] = []
    head = _exactly(sock, _HEAD.size, fds, wait=False)
    if len(head) < _HEAD.size:
        return b"", fds
    size = _HEAD.unpack(head)[0]
    if size:
        body = _exactly(sock, size, fds, wait=True)
        return (body if len(body) == size else b""), fds
    file = fds.pop()
    try:
        return os.pread(file, os.fstat(file).st_size, 0), fds
    finally:
        os.close(file)


def _exactly(sock: _socket.socket, size: int, fds: list[int], *, wait: bool) -> bytes:
    """Return the next *size* bytes, or fewer at the end; *wait* for the first as well."""
    found = b""
    room = _socket.CMSG_SPACE(FDS_MAX * _INT_BYTES)
    while len(found) < size:
        try:
            part, ancillary, _, _ = sock.recvmsg(size - len(found), room)
        except BlockingIOError:
            if not found and not wait:
                raise
            _wait(sock, select.POLLIN)
            continue
        except ConnectionResetError:
            return b""
        _take(ancillary, fds)
        if not part:
            return b""
        found += part
    return found


def _take(ancillary: list[tuple[int, int, bytes]], fds: list[int]) -> None:
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            for fd in struct.unpack(f"{len(data) // _INT_BYTES}i", data):
                # macOS can't receive them so (Linux: MSG_CMSG_CLOEXEC).
                os.set_inheritable(fd, False)  # noqa: FBT003 - positional only
                fds.append(fd)


def _wait(sock: _socket.socket, event: int) -> None:
    poll = select.poll()
    poll.register(sock.fileno(), event)
    poll.poll()
