"""HTTP/1.1 heads by one allow-list grammar (RFC 9112, narrowed to what can be read in one way).

A head is accepted whole by one possessive regular expression, so that it's read in linear time,
or not at all. Bodies are counted, never decoded; `nono_proxy.chunked` counts the chunked ones.

Architecture invariant: no I/O; nothing is repaired, folded or guessed.
"""

import re
from typing import NamedTuple

from nono_proxy.errors import GrammarError

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
# Words of visible octets with blanks between them, none at the end (RFC 9110 5.5).
_VALUE = rb"(?:[\x21-\x7e\x80-\xff]++(?:[ \t]++[\x21-\x7e\x80-\xff]++)*+)?+"
_FIELDS = rb"((?:" + _TOKEN + rb":[ \t]*+" + _VALUE + rb"[ \t]*+\r\n)*+)"
_REQUEST = re.compile(rb"([A-Z]{1,20}+) ([\x21-\x7e]++) HTTP/1\.([01])\r\n" + _FIELDS + rb"\r\n")
_RESPONSE = re.compile(
    rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t \x21-\x7e\x80-\xff]*+))?+\r\n" + _FIELDS + rb"\r\n"
)
_TRAILERS = re.compile(_FIELDS + rb"\r\n")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_LIST = re.compile(rb"[ \t]*,[ \t]*")

# Fields that frame a message or say whom it's for: they can't be declared hop-by-hop nor trail.
FRAMING = frozenset(
    {
        b"authorization",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"cookie",
        b"expect",
        b"host",
        b"proxy-authorization",
        b"set-cookie",
        b"transfer-encoding",
    }
)
HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
        b"content-length",
    }
)
_WEBSOCKET = b"websocket"

Field = tuple[bytes, bytes]


class Request(NamedTuple):
    """A request's head: its end-to-end fields as (lower-case name, whole line)."""

    method: bytes
    target: bytes
    host: bytes
    fields: list[Field]
    length: int
    chunked: bool
    keep_alive: bool
    proxy_authorization: bytes | None
    upgrade: bytes | None
    expects: bool
    modern: bool


class Response(NamedTuple):
    """A response's head: its end-to-end fields as (lower-case name, whole line)."""

    status: int
    reason: bytes
    fields: list[Field]
    length: int | None
    chunked: bool
    keep_alive: bool
    upgrade: bytes | None


class _Framing(NamedTuple):
    kept: list[Field]
    hop: dict[bytes, bytes]
    nominated: list[bytes]


def value_of(line: bytes) -> bytes:
    """Return the value of a field line."""
    return line.partition(b":")[2].strip(b" \t")


def _split(block: bytes) -> _Framing:
    """Tell end-to-end fields from those between two hops, each of which may stand once."""
    kept: list[Field] = []
    hop: dict[bytes, bytes] = {}
    for line in block.split(b"\r\n")[:-1]:
        name = line[: line.index(b":")].lower()
        if name not in HOP:
            kept.append((name, line))
        elif name not in hop:
            hop[name] = value_of(line)
        elif name == b"connection":
            hop[name] += b"," + value_of(line)
        else:
            raise GrammarError(f"two fields of the name {name.decode()}")
    connection = hop.get(b"connection")
    if connection is None:
        return _Framing(kept, hop, [])
    nominated = _LIST.split(connection.lower())
    if any(name in FRAMING for name in nominated):
        raise GrammarError("Connection names a field that isn't its own")
    if len(nominated) > 1 or nominated[0] not in (b"close", b"keep-alive"):
        kept = [field for field in kept if field[0] not in nominated]
    return _Framing(kept, hop, nominated)


def _length(hop: dict[bytes, bytes], minor: bytes) -> tuple[int | None, bool]:
    """Return the length of a body, and whether it's chunked."""
    coding = hop.get(b"transfer-encoding")
    length = hop.get(b"content-length")
    if coding is not None:
        if length is not None or minor == b"0" or coding.lower() != b"chunked":
            raise GrammarError("Transfer-Encoding other than chunked, or with another framing")
        return None, True
    if length is None:
        return None, False
    number = length_of(length)
    if number is None:
        raise GrammarError("Content-Length isn't a number")
    return number, False


def length_of(value: bytes) -> int | None:
    """Return the length that a Content-Length says; None if it says none."""
    return int(value) if _LENGTH.fullmatch(value) is not None else None


def _keep_alive(nominated: list[bytes], minor: bytes) -> bool:
    return b"close" not in nominated and (minor == b"1" or b"keep-alive" in nominated)


def _upgrade(hop: dict[bytes, bytes], nominated: list[bytes]) -> bytes | None:
    """Return the protocol to change to; one that this proxy doesn't know isn't heard of.

    What comes behind an upgrade is judged no more: one to HTTP/2 would carry requests.
    """
    wanted = hop.get(b"upgrade", b"").lower()
    return wanted if wanted == _WEBSOCKET and b"upgrade" in nominated else None


def is_request(head: bytes) -> bool:
    """Tell whether that's the head of a request by its form: it may still frame itself badly."""
    return _REQUEST.fullmatch(head) is not None


def parse_request(head: bytes) -> Request:
    r"""Read a request's head, up to and with its empty line.

    Raises:
        GrammarError: It can't be read in exactly one way. Answer 400, close, pass nothing on.
    """
    match = _REQUEST.fullmatch(head)
    if match is None:
        raise GrammarError("not the head of a request")
    method, target, minor, block = match.groups()
    kept, hop, nominated = _split(block)
    length, chunked = _length(hop, minor)
    host = None
    fields: list[Field] = []
    expects = False
    for field in kept:
        name = field[0]
        if name == b"host":
            if host is not None:
                raise GrammarError("a second Host")
            host = value_of(field[1])
            continue
        if name == b"expect":
            if expects or value_of(field[1]).lower() != b"100-continue" or minor == b"0":
                raise GrammarError("Expect is 100-continue or nothing")
            expects = True
        fields.append(field)
    if host is None and method == b"CONNECT" and minor == b"0":
        # Python before 3.12 asks for tunnels so; the target says as much as a Host would.
        host = target
    if host is None:
        raise GrammarError("no Host")
    return Request(
        method,
        target,
        host,
        fields,
        length or 0,
        chunked,
        _keep_alive(nominated, minor),
        hop.get(b"proxy-authorization"),
        _upgrade(hop, nominated),
        expects,
        minor == b"1",
    )


def parse_response(head: bytes, *, bodiless: bool) -> Response:
    r"""Read a response's head; *bodiless* if its request was HEAD.

    A length of None without chunks means: until the connection closes.

    Raises:
        GrammarError: It can't be read in exactly one way. Answer 502, use that connection no more.
    """
    match = _RESPONSE.fullmatch(head)
    if match is None:
        raise GrammarError("not the head of a response")
    minor, digits, reason, block = match.groups()
    kept, hop, nominated = _split(block)
    length, chunked = _length(hop, minor)
    status = int(digits)
    upgrade = _upgrade(hop, nominated)
    keep_alive = _keep_alive(nominated, minor)
    if status < 200 or status == 204:  # noqa: PLR2004 - RFC 9112 6.3: no body, and no framing
        if chunked or length:
            raise GrammarError("a response without a body frames one")
        length = 0
    elif status == 304 or bodiless:  # noqa: PLR2004 - framing describes what isn't there
        kept, length, chunked = _framed(kept, hop), 0, False
    return Response(status, reason or b"", kept, length, chunked, keep_alive, upgrade)


def _framed(kept: list[Field], hop: dict[bytes, bytes]) -> list[Field]:
    """Give back the length that describes a body which isn't sent."""
    length = hop.get(b"content-length")
    return kept if length is None else [*kept, (b"content-length", b"Content-Length: " + length)]


def parse_trailers(block: bytes) -> list[Field]:
    r"""Read the fields after a chunked body, up to and with the empty line.

    Raises:
        GrammarError: They aren't fields, or name what can't come late.
    """
    match = _TRAILERS.fullmatch(block)
    if match is None:
        raise GrammarError("not trailers")
    kept, hop, _ = _split(match[1])
    if hop or any(name in FRAMING for name, _ in kept):
        raise GrammarError("a trailer frames the message")
    return kept
