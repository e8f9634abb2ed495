"""Messages between the supervisor, the fork server, its lanes and their workers.

A message is `marshal` of plain tuples in one SOCK_SEQPACKET datagram, with file descriptors beside
it; macOS has none such, and there it goes by `stream`. Both ends are this program in one
interpreter, and none of them runs what an agent sent.

Architecture invariant: no process that has executed an agent's program ever holds one of
these sockets, so what arrives is what this package sent.
"""

from __future__ import annotations

import _socket
import _struct as struct
import marshal
import posix as os
import sys

from nono_sandbox import confinement
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

MESSAGE_BYTES_MAX = 64 * 1024
"""A longer message travels in a memfd, so that no send can block on a full socket."""
FDS_MAX = 8
NO_WORD = (0, 0)
KIND = _socket.SOCK_STREAM if sys.platform == "darwin" else _socket.SOCK_SEQPACKET
"""The kind of socket that messages go by."""
_STANDARD_MAX = 2
if sys.platform == "linux":
    _RECEIVE_FLAGS = _socket.MSG_CMSG_CLOEXEC
else:
    _RECEIVE_FLAGS = 0
_INT_BYTES = struct.calcsize("i")
_ATOMS = frozenset({bool, bytes, float, int, str, type(None)})

VALUES: dict[str, type[Value]] = {
    cls.__name__: cls
    for cls in (
        confinement.Call,
        confinement.Confinement,
        confinement.Denial,
        confinement.Grant,
        confinement.Limits,
        confinement.Link,
        confinement.Narrowing,
        confinement.Network,
    )
}


class ClosedError(Exception):
    """The other end is gone."""


def new_word() -> tuple[int, int]:
    """Return a word for the filter of a session's lanes; see `exempt_send`."""
    first, second = struct.unpack("=QQ", os.urandom(16))
    return first, second


def plain(thing: object) -> Any:  # noqa: ANN401 - what marshal takes
    """Turn values, however nested, into what `marshal` takes: a list is a value, or holds some."""
    if isinstance(thing, Value):
        parts = thing.__dict__.values()
        return [
            type(thing).__name__,
            *(part if type(part) in _ATOMS else plain(part) for part in parts),
        ]
    if isinstance(thing, tuple) and not _is_plain(thing):
        return ["", *(plain(part) for part in thing)]
    return thing


def _is_plain(thing: tuple[object, ...]) -> bool:
    # To ask `marshal` is many times quicker than to look at an environment's every text.
    try:
        marshal.dumps(thing)  # type: ignore[arg-type]
    except ValueError:
        return False
    return True


def whole(thing: Any, values: Mapping[str, type[Value]] = VALUES) -> Any:  # noqa: ANN401 - whatever was sent
    """Turn what `plain` made, of *values* by their names, back into what it was."""
    if not isinstance(thing, list):
        return thing
    parts = [whole(part, values) for part in thing[1:]]
    return values[thing[0]](*parts) if thing[0] else tuple(parts)


def socket_pair() -> tuple[_socket.socket, _socket.socket]:
    """Return the two ends of a channel, close-on-exec, neither in place of a standard stream."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, KIND)
    if min(ours.fileno(), theirs.fileno()) > _STANDARD_MAX:
        return ours, theirs
    ours.close()
    theirs.close()
    fill_standard_streams()
    return socket_pair()


def fill_standard_streams() -> None:
    """Open /dev/null for each standard stream this process was started without."""
    while (fd := os.open("/dev/null", os.O_RDWR)) <= _STANDARD_MAX:
        os.set_inheritable(fd, True)  # noqa: FBT003 - positional only
    os.close(fd)


def send(
    sock: _socket.socket,
    kind: str,
    *parts: object,
    fds: Sequence[int] = (),
    word: tuple[int, int] = NO_WORD,
) -> None:
    """Send one message; *fds* are duplicated into the other process.

    *word*, if it is one, is what the filter of this process lets descriptors through by.

    Raises:
        ClosedError: The other end is gone; nothing was sent.
    """
    send_plain(sock, kind, *(plain(part) for part in parts), fds=fds, word=word)


def send_plain(
    sock: _socket.socket,
    kind: str,
    *parts: object,
    fds: Sequence[int] = (),
    word: tuple[int, int] = NO_WORD,
) -> None:
    """Send one message, of *parts* that are what `plain` returns.

    Raises:
        ClosedError: The other end is gone; nothing was sent.
    """
    body = marshal.dumps((kind, *parts))  # type: ignore[arg-type]
    try:
        if sock.type == _socket.SOCK_STREAM:
            from nono_sandbox import stream

            stream.send(sock, body, fds)
        else:
            _send(sock, body, fds, word)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise ClosedError("the other end of the channel is gone") from error


def _send(sock: _socket.socket, body: bytes, fds: Sequence[int], word: tuple[int, int]) -> None:
    carried = list(fds)
    file = -1
    if len(body) > MESSAGE_BYTES_MAX:
        from nono_sandbox import anonymous_file

        file = anonymous_file.holding(body)
        carried.append(file)
        body = b""
    rights = struct.pack(f"{len(carried)}i", *carried)
    # A SEQPACKET end reads an empty datagram as end of file: the mark keeps it from being one.
    body = b"+" + body
    try:
        if not carried:
            sock.send(body)
        elif word != NO_WORD:
            from nono_sandbox import exempt_send

            exempt_send.send(sock, body, rights, word)
        else:
            sock.sendmsg([body], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    finally:
        if file >= 0:
            os.close(file)


def receive(sock: _socket.socket) -> tuple[tuple[Any, ...], list[int]]:
    """Receive one message and the descriptors that came with it, which are the caller's now.

    Raises:
        ClosedError: The other end is gone.
        BlockingIOError: The socket doesn't block and holds no message.
    """
    if sock.type == _socket.SOCK_STREAM:
        from nono_sandbox import stream

        body, received = stream.receive(sock)
    else:
        body, received = _received(sock)
    if not body:
        raise ClosedError("the other end of the channel is gone")
    message = marshal.loads(body)  # noqa: S302 - see the module's invariant
    return tuple(whole(part) for part in message), received


def _received(sock: _socket.socket) -> tuple[bytes, list[int]]:
    received: list[int] = []
    size = _socket.CMSG_SPACE(FDS_MAX * _INT_BYTES)
    try:
        body, ancillary, _, _ = sock.recvmsg(MESSAGE_BYTES_MAX + 64, size, _RECEIVE_FLAGS)
    except ConnectionResetError:
        # It went without reading all that we sent, which is told once and before what it said.
        body, ancillary, _, _ = sock.recvmsg(MESSAGE_BYTES_MAX + 64, size, _RECEIVE_FLAGS)
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            received.extend(struct.unpack(f"{len(data) // _INT_BYTES}i", data))
    return (_drain(received.pop()) if body == b"+" else body[1:]), received


def _drain(file: int) -> bytes:
    try:
        return os.pread(file, os.fstat(file).st_size, 0)
    finally:
        os.close(file)


def let_go_of_stdio() -> None:
    """Have nothing open for standard input, output and error any more.

    Who waits for the end of a pipe waits for everyone who holds it.
    """
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for fd in range(3):
        os.dup2(null, fd)
    os.close(null)


def keep_only(*kept: int) -> None:
    """Close every descriptor but standard input, output, error and *kept*."""
    if sys.platform == "linux":
        from nono_sandbox import _uapi

        first = 3
        for fd in sorted(fd for fd in kept if fd >= first):
            if fd > first:
                _uapi.close_range(first, fd - 1)
            first = fd + 1
        _uapi.close_range(first)
    else:
        close_listed(kept)


def close_listed(kept: Sequence[int]) -> None:
    """Do what `keep_only` does by a list of what is open, where no system call closes a range."""
    for name in os.listdir("/dev/fd"):
        fd = int(name)
        if fd > _STANDARD_MAX and fd not in kept:
            try:
                os.close(fd)
            except OSError:
                continue  # the listing's own
