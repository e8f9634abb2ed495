"""Heads as they are sent on: built from what was read, never copied.

Architecture invariant: no I/O.
"""

from collections.abc import Sequence

from nono_proxy.authority import Authority
from nono_proxy.grammar import Field, Request, Response
from nono_proxy.scrub import Scrubber

_BODILESS = frozenset({b"GET", b"HEAD", b"DELETE", b"OPTIONS"})
# What isn't sent with a credential: what comes back has to be looked through.
UNLENT = frozenset({b"accept-encoding", b"sec-websocket-extensions"})
_COOKIES = (b"set-cookie", b"set-cookie2")
# RFC 9110 8.6: no length with these.
_UNFRAMED = (101, 204, 304)
_PORTS = {True: 443, False: 80}


def host_of(target: Authority, *, tls: bool) -> bytes:
    """Return a Host value: without the port where that's the scheme's own."""
    return (target.host if target.port == _PORTS[tls] else str(target)).encode("ascii")


def request_head(
    request: Request, target: bytes, host: bytes, fields: Sequence[Field], *, lent: bool
) -> bytes:
    """Return a request's head for an upstream; a credential was put in if *lent*."""
    lines = [b"%b %b HTTP/1.1\r\nHost: %b" % (request.method, target, host)]
    if lent:
        lines += [line for name, line in fields if name not in UNLENT]
        lines.append(b"Accept-Encoding: identity")
    else:
        lines += [line for _, line in fields]
    if request.upgrade is not None:
        lines.append(b"Connection: Upgrade\r\nUpgrade: " + request.upgrade)
    if request.chunked:
        lines.append(b"Transfer-Encoding: chunked")
    elif request.length or request.method not in _BODILESS:
        lines.append(b"Content-Length: %d" % request.length)
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def response_head(
    response: Response,
    fields: Sequence[Field],
    *,
    close: bool,
    chunked: bool,
    bodiless: bool = False,
) -> bytes:
    """Return a response's head for the client."""
    lines = [b"HTTP/1.1 %d %b" % (response.status, response.reason)]
    lines += [line for _, line in fields]
    if chunked:
        lines.append(b"Transfer-Encoding: chunked")
    elif response.length is not None and not bodiless and response.status not in _UNFRAMED:
        lines.append(b"Content-Length: %d" % response.length)
    if response.upgrade is not None and response.status == 101:  # noqa: PLR2004
        lines.append(b"Connection: Upgrade\r\nUpgrade: " + response.upgrade)
    elif close:
        lines.append(b"Connection: close")
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def scrubbed(fields: Sequence[Field], scrubber: Scrubber) -> list[Field]:
    """Return the fields of an answer to a request that a credential went out with."""
    kept = [field for field in fields if field[0] not in _COOKIES]
    if not scrubber.finds(b"\n".join([line for _, line in kept])):
        return kept
    return [(name, scrubber.scrub(line)) for name, line in kept]
