"""Who may speak to the HTTP server: the checks before anything of a request is read.

A browser on this machine can reach loopback for any page it shows (DNS rebinding: MCP's
"Transports", Security Warning), and so can every local user. So the Host must be ours, an Origin
must be ours, and the token must be somebody's.

Architecture invariant: this module does no I/O. A request is refused by its headers alone.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, MISDIRECTED = 400, 401, 403, 421
_BEARER = b"bearer "
_DECIDING = (b"host", b"origin", b"authorization")
_MISSED_SINCE = b"last-event-id"
_LENGTHS = (b"content-length", b"transfer-encoding")
_PORTS = {"http": 80, "https": 443}
_NEEDED = "send Authorization: Bearer and a token of this server's"


@dataclass(frozen=True, slots=True)
class Refused:
    """The status and text to answer with instead of serving."""

    status: int
    text: str


def digest_of(token: bytes) -> str:
    """Return what a token is known by."""
    return hashlib.sha256(token).hexdigest()


def knows(digests: Iterable[str], token: bytes) -> bool:
    """Tell whether *token* is one of those that are known, in a time that tells of none."""
    given = digest_of(token)
    # All of them, whichever it is.
    return sum(hmac.compare_digest(digest, given) for digest in digests) > 0


def passed_on(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Yield what the SDK is told of a request that is let in.

    It knows hosts by one spelling. And nothing is kept for who comes back, who is served as if they
    hadn't been there.
    """
    for name, value in headers:
        if name != _MISSED_SINCE:
            yield name, value.lower() if name == b"host" else value


@dataclass(frozen=True, slots=True)
class HttpAccess:
    """Lets requests in that name this server and hold a token of somebody's."""

    hosts: frozenset[str]
    """What the Host header may be, in lower case: authorities with their port."""
    owners: Mapping[str, str] = field(repr=False)
    """Whose the tokens are: names by digests."""
    scheme: str = "http"

    @classmethod
    def of(
        cls, names: Iterable[str], port: int, owners: Mapping[str, str], scheme: str = "http"
    ) -> HttpAccess:
        """Return the rules of the server that is called any of *names*, at *port*."""
        written = {f"[{name}]" if ":" in name else name.lower() for name in names}
        hosts = {f"{name}:{port}" for name in written}
        return cls(frozenset(hosts | written if port == _PORTS[scheme] else hosts), owners, scheme)

    def refusal(self, headers: Iterable[tuple[bytes, bytes]]) -> Refused | None:
        """Return why a request with these headers isn't for this server, whoever sends it."""
        found: dict[bytes, list[bytes]] = {name: [] for name in (*_DECIDING, *_LENGTHS)}
        for name, value in headers:
            if name in found:
                found[name].append(value)
        if any(len(found[name]) > 1 for name in _DECIDING):
            return Refused(BAD_REQUEST, "a header that decides who is let in stands there twice")
        if all(found[name] for name in _LENGTHS):
            # What is before us may have taken the other one, and the rest for somebody else's
            # request (RFC 9112 section 6.1).
            return Refused(BAD_REQUEST, "two headers tell how long the request is")
        if not found[b"host"] or not self._is_ours(found[b"host"][0]):
            return Refused(MISDIRECTED, "this server isn't at the host that was asked for")
        if found[b"origin"] and not self._is_our_origin(found[b"origin"][0]):
            return Refused(FORBIDDEN, "no page of another origin may use this server")
        return None

    def token(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Return the bearer token among *headers*, or nothing."""
        for name, value in headers:
            if name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER:
                return value[len(_BEARER) :]
        return b""

    def owner(self, token: bytes) -> str | Refused:
        """Return whose *token* is, or the refusal of who has none."""
        given = digest_of(token)
        owner = None
        for digest, name in self.owners.items():
            if hmac.compare_digest(digest, given):
                owner = name
        return Refused(UNAUTHORIZED, _NEEDED) if owner is None or not token else owner

    def _is_ours(self, host: bytes) -> bool:
        return host.decode("latin-1").lower() in self.hosts

    def _is_our_origin(self, origin: bytes) -> bool:
        scheme, _, host = origin.partition(b"://")
        return scheme == self.scheme.encode() and self._is_ours(host)
