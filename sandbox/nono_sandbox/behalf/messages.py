"""What a worker asks to have sent: copied from its memory, once, as the kernel would copy it.

Specified by sendmsg(2), cmsg(3) and unix(7). The bytes themselves are read when they are sent.

Architecture invariant: a descriptor that is to travel is taken from the very thread that asks,
and it is what was taken that travels.
"""

from __future__ import annotations

import errno
import os
import struct

from nono_sandbox.behalf import notifications
from nono_sandbox.behalf.addresses import ADDRESS_BYTES_MAX
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_sandbox.behalf.notifications import Caller

SPANS_MAX = 1024
"""UIO_MAXIOV."""
SIZE_BYTES_MAX = 0x7FFF_F000
"""MAX_RW_COUNT."""
CONTROL_BYTES_MAX = 16 * 1024
FDS_MAX = 253
"""SCM_MAX_FD."""
_HEADER = struct.Struct("=Qi4xQQQQi4x")
_LENGTH_AT = _HEADER.size
"""Of a struct mmsghdr: where the kernel tells how much of a message was sent."""
_SPAN = struct.Struct("=QQ")
_CONTROL = struct.Struct("=Qii")
_ALIGNMENT = 8
_IDS = struct.Struct("=iII")
"""struct ucred."""
_SOL_SOCKET, _SCM_RIGHTS, _SCM_CREDENTIALS = 1, 1, 2
_HIGHEST = 1 << 63


class Message(Value):
    """A message, its parts still where the worker has them."""

    name: bytes
    """The address, or nothing."""
    spans: tuple[tuple[int, int], ...]
    """Where its bytes are: address and length."""
    size_bytes: int
    control: bytes
    flags: int
    told_at: int | None = None
    """Where its length is to be told; the call's result is then how many messages were sent."""


def asked_for(call: str, args: tuple[int, ...], caller: Caller) -> Message | None:
    """Return the message of *call*, the first if there are several, or None if there is none.

    Raises:
        OSError: What the call is to return.
    """
    if call == "sendto":
        length = notifications.as_int(args[5])
        if not 0 <= length <= ADDRESS_BYTES_MAX:
            raise _error(errno.EINVAL)
        name = caller.read(args[4], length)
        size = min(args[2], SIZE_BYTES_MAX)
        return Message(name, ((args[1], size),), size, b"", args[3] & 0xFFFF_FFFF)
    if call == "sendmsg":
        return _of_header(args[1], args[2], caller)
    if not args[2] & 0xFFFF_FFFF:
        return None
    return _of_header(args[1], args[3], caller).replace(told_at=args[1] + _LENGTH_AT)


def _of_header(address: int, flags: int, caller: Caller) -> Message:
    raw = caller.read(address, _HEADER.size)
    name_at, name_bytes, spans_at, count, control_at, control_bytes, _ = _HEADER.unpack(raw)
    name = b""
    if name_at:
        if name_bytes < 0:
            raise _error(errno.EINVAL)
        name = caller.read(name_at, min(name_bytes, ADDRESS_BYTES_MAX))
    if count > SPANS_MAX:
        raise _error(errno.EMSGSIZE)
    if control_bytes > CONTROL_BYTES_MAX:
        raise _error(errno.ENOBUFS)
    spans, size = _spans(caller.read(spans_at, count * _SPAN.size))
    control = caller.read(control_at, control_bytes)
    return Message(name, spans, size, control, flags & 0xFFFF_FFFF)


def _spans(raw: bytes) -> tuple[tuple[tuple[int, int], ...], int]:
    spans: list[tuple[int, int]] = []
    size = 0
    for address, length in _SPAN.iter_unpack(raw):
        if length >= _HIGHEST:
            raise _error(errno.EINVAL)
        kept = min(length, SIZE_BYTES_MAX - size)
        spans.append((address, kept))
        size += kept
    return tuple(spans), size


def body(message: Message, start: int, size_bytes: int, caller: Caller) -> bytes:
    """Return what the worker's memory holds of *message* now, from *start* on, not more than that.

    Raises:
        OSError: EFAULT, since not all of it is there.
    """
    parts = []
    for address, length in message.spans:
        skipped = min(start, length)
        start -= skipped
        taken = min(length - skipped, size_bytes)
        if taken:
            parts.append(caller.read(address + skipped, taken))
            size_bytes -= taken
    return b"".join(parts)


def handed_over(control: bytes, caller: Caller, *, is_local: bool) -> bytes:
    """Return *control* with descriptors of ours in place of the worker's.

    Who it says it is, is checked as the kernel would, and left out: nobody but the kernel could
    say it for another.

    Raises:
        OSError: What the call is to return.
    """
    parts = []
    at = 0
    while at + _CONTROL.size <= len(control):
        length, level, kind = _CONTROL.unpack_from(control, at)
        if not _CONTROL.size <= length <= len(control) - at:
            raise _error(errno.EINVAL)
        content = control[at + _CONTROL.size : at + length]
        if level != _SOL_SOCKET or kind not in (_SCM_RIGHTS, _SCM_CREDENTIALS):
            parts.append(_part(level, kind, content))
        elif is_local and kind == _SCM_RIGHTS:
            parts.append(_part(level, kind, _taken(content, caller)))
        elif is_local:
            _check_ids(content, caller)
        at += -(-length // _ALIGNMENT) * _ALIGNMENT
    return b"".join(parts)


def _part(level: int, kind: int, content: bytes) -> bytes:
    padding = bytes(-len(content) % _ALIGNMENT)
    return _CONTROL.pack(_CONTROL.size + len(content), level, kind) + content + padding


def _taken(content: bytes, caller: Caller) -> bytes:
    numbers = struct.unpack_from(f"={len(content) // 4}i", content)
    if len(numbers) > FDS_MAX:
        raise _error(errno.EINVAL)
    return struct.pack(f"={len(numbers)}i", *(caller.take(fd) for fd in numbers))


def _check_ids(content: bytes, caller: Caller) -> None:
    if len(content) != _IDS.size:
        raise _error(errno.EINVAL)
    found = notifications.status(caller.tid)
    pid, uid, gid = _IDS.unpack(content)
    uids, gids = (found[name].split()[:3] for name in (b"Uid", b"Gid"))
    if pid != int(found[b"Tgid"]) or uid not in map(int, uids) or gid not in map(int, gids):
        raise _error(errno.EPERM)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
