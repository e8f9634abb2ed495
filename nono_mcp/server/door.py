"""Who may speak to the HTTP server: the checks before anything of a request is read.

A browser on this machine can reach loopback for any page it shows (DNS rebinding: MCP's
"Transports", Security Warning), and so can every local user. So the Host must be ours, an Origin
must be ours, and the token must be the one made at the start.

Architecture invariant: this module does no I/O. A request is refused by its headers alone.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, MISDIRECTED = 400, 401, 403, 421
_BEARER = b"bearer "


@dataclass(frozen=True, slots=True)
class Refused:
    """The status and text to answer with instead of serving."""

    status: int
    text: str


@dataclass(frozen=True, slots=True)
class Door:
    """Lets requests in that name this server and hold its token."""

    hosts: frozenset[str]
    """What the Host header may be, in lower case: authorities with their port."""
    token: str

    @classmethod
    def of(cls, address: str, port: int, token: str) -> Door:
        """Return the door of the server at *address*, a loopback address, and *port*."""
        names = {f"[{address}]" if ":" in address else address, "localhost"}
        hosts = {f"{name}:{port}" for name in names}
        return cls(frozenset(hosts | names if port == 80 else hosts), token)  # noqa: PLR2004 - HTTP's

    def refusal(self, headers: Iterable[tuple[bytes, bytes]]) -> Refused | None:
        """Return why a request with these headers (names in lower case) isn't let in, if so."""
        found: dict[bytes, list[bytes]] = {b"host": [], b"origin": [], b"authorization": []}
        for name, value in headers:
            if name in found:
                found[name].append(value)
        if any(len(values) > 1 for values in found.values()):
            return Refused(BAD_REQUEST, "a header that decides who is let in stands there twice")
        if not found[b"host"] or not self._is_ours(found[b"host"][0]):
            return Refused(MISDIRECTED, "this server isn't at the host that was asked for")
        if found[b"origin"] and not self._is_our_origin(found[b"origin"][0]):
            return Refused(FORBIDDEN, "no page of another origin may use this server")
        if not found[b"authorization"] or not self._is_token(found[b"authorization"][0]):
            return Refused(UNAUTHORIZED, "send Authorization: Bearer and the server's token")
        return None

    def _is_ours(self, host: bytes) -> bool:
        return host.decode("latin-1").lower() in self.hosts

    def _is_our_origin(self, origin: bytes) -> bool:
        scheme, _, host = origin.partition(b"://")
        return scheme == b"http" and self._is_ours(host)

    def _is_token(self, credentials: bytes) -> bool:
        scheme, token = credentials[: len(_BEARER)], credentials[len(_BEARER) :]
        return scheme.lower() == _BEARER and hmac.compare_digest(token, self.token.encode())
