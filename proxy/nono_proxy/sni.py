"""The server name in a TLS ClientHello, read from the first bytes of a connection.

RFC 8446 4.1.2 and 5.1, RFC 6066 3. A hello may be split over records and over reads.

Architecture invariant: no I/O; a hello that can be read in two ways is refused.
"""

from enum import Enum
from typing import NamedTuple

from nono_proxy.authority import parse_host
from nono_proxy.errors import AuthorityError

_CLIENT_HELLO = 1
_SERVER_NAME = 0
_RECORD_MAX = 16384
_HELLO_MAX = 65536
_RECORD_HEADER = 5
_MESSAGE_HEADER = 4


class NotTLS(Enum):
    """Why no name was found."""

    MORE = "more octets are needed"
    OTHER = "not a TLS handshake"
    BROKEN = "a broken ClientHello"


class Hello(NamedTuple):
    """What a ClientHello asks for; without a name, *host* is None."""

    host: str | None


class _BrokenError(Exception):
    pass


class _Reader:
    """Takes length-prefixed pieces off a buffer."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left():
            raise _BrokenError
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, octets: int) -> int:
        return int.from_bytes(self.take(octets), "big")

    def vector(self, octets: int) -> bytes:
        return self.take(self.number(octets))


def _message(data: bytes) -> bytes | NotTLS:
    """Return the first handshake message, put together from its records."""
    message = b""
    at = 0
    while not _whole(message):
        header = data[at : at + _RECORD_HEADER]
        if not header.startswith(b"\x16\x03"[: len(header)]):
            return NotTLS.BROKEN if at else NotTLS.OTHER
        if len(header) < _RECORD_HEADER:
            return NotTLS.MORE
        length = int.from_bytes(header[3:], "big")
        piece = data[at + _RECORD_HEADER : at + _RECORD_HEADER + length]
        message += piece
        if not 0 < length <= _RECORD_MAX or not _plausible(message):
            return NotTLS.BROKEN
        if len(piece) < length and not _whole(message):
            return NotTLS.MORE
        at += _RECORD_HEADER + length
    return message[_MESSAGE_HEADER : _MESSAGE_HEADER + _size(message)]


def _size(message: bytes) -> int:
    return int.from_bytes(message[1:_MESSAGE_HEADER], "big")


def _whole(message: bytes) -> bool:
    return len(message) >= _MESSAGE_HEADER and len(message) >= _MESSAGE_HEADER + _size(message)


def _plausible(message: bytes) -> bool:
    """Tell whether this can be the beginning of a ClientHello."""
    if message[:1] not in (b"", bytes([_CLIENT_HELLO])):
        return False
    return len(message) < _MESSAGE_HEADER or _size(message) <= _HELLO_MAX


def _name(extension: bytes) -> str:
    """Return the one host name of a server_name extension."""
    names = _Reader(extension)
    listed = _Reader(names.vector(2))
    kind, name = listed.number(1), listed.vector(2)
    if names.left() or listed.left() or kind != _SERVER_NAME:
        raise _BrokenError
    # An address is no server name, and neither is a name with a trailing dot (RFC 6066 3).
    host = parse_host(name.decode("ascii"))
    if name.endswith(b"."):
        raise _BrokenError
    return host


def _hello(message: bytes) -> Hello:
    reader = _Reader(message)
    reader.take(2 + 32)
    reader.vector(1)
    reader.vector(2)
    reader.vector(1)
    host: str | None = None
    seen: set[int] = set()
    extensions = _Reader(reader.vector(2) if reader.left() else b"")
    if reader.left():
        raise _BrokenError
    while extensions.left():
        kind, body = extensions.number(2), extensions.vector(2)
        if kind in seen:
            raise _BrokenError
        seen.add(kind)
        if kind == _SERVER_NAME:
            host = _name(body)
    return Hello(host)


def read(data: bytes) -> Hello | NotTLS:
    """Return what the first octets of a connection ask for."""
    message = _message(data)
    if isinstance(message, NotTLS):
        return NotTLS.BROKEN if message is NotTLS.MORE and len(data) > _HELLO_MAX else message
    try:
        return _hello(message)
    except (_BrokenError, AuthorityError, UnicodeDecodeError):
        return NotTLS.BROKEN
