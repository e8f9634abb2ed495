"""Phantom tokens and the ledger of those that live.

A token is looked up by its SHA-256, then compared in constant time, so that how long a guess takes
says nothing of how near it was.

Architecture invariant: no I/O; time is given, and the ledger belongs to one proxy.
"""

import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

from nono_proxy import environment
from nono_proxy.config import Narrow, Route, SigV4

MARKER = "nono"
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
# 43 characters of base 62 and 52 of base 32 hold 256 bits.
_BODY = 43
_BODY_32 = 52
_MARK, _MARK_32 = MARKER.encode(), MARKER.upper().encode()
_SHAPE = re.compile(rb"nono[0-9A-Za-z]{43}|NONO[A-Z2-7]{52}")


def _digits(alphabet: str, count: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(count))


def mint(route: Route) -> str:
    """Return a token of the route's shape that nobody can guess."""
    if any(isinstance(placement, SigV4) for placement in route.placements):
        return f"{route.phantom_prefix}{MARKER.upper()}{_digits(_BASE32, _BODY_32)}"
    spare = route.phantom_length - len(route.phantom_prefix) - len(MARKER)
    return f"{route.phantom_prefix}{MARKER}{_digits(_BASE62, max(_BODY, spare))}"


def mint_secret() -> str:
    """Return a call's password for the proxy."""
    return _digits(_BASE62, _BODY)


def may_hold_shapes(data: bytes) -> bool:
    """Tell whether something of a token's shape can stand in *data*; it's quicker than counting."""
    return _MARK in data or _MARK_32 in data


def count_shapes(data: bytes) -> int:
    """Return how many things of a token's shape stand in *data*, whether they live or not."""
    return len(_SHAPE.findall(data)) if may_hold_shapes(data) else 0


@dataclass(frozen=True, slots=True, eq=False)
class Lease:
    """What one call holds: its proxy password and a token for each route."""

    call: str
    secret: str = field(repr=False)
    tokens: Mapping[str, str] = field(repr=False)
    routes: tuple[Route, ...] = ()
    narrow: Narrow | None = None

    def environment(self, address: str, port: int, ca_path: str) -> dict[str, str]:
        """Return the variables a worker needs, its proxy being at *address* and *port*.

        *ca_path* is where the worker finds `Proxy.ca_bundle_pem`.
        """
        origin = f"{address}:{port}"
        return {
            **environment.proxy_variables(f"http://nono:{self.secret}@{origin}", address, port),
            **environment.trust_variables(ca_path),
            **environment.route_variables(self.routes, self.tokens, f"http://{origin}"),
            **environment.git_variables(self.routes, self.tokens),
        }


class Entry(NamedTuple):
    """What a token or a password opens."""

    value: bytes
    lease: Lease
    route: str | None
    expires_s: float


class Ledger:
    """Every live token and password, by digest."""

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}
        self._leases: set[Lease] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._leases)} leases>"

    @property
    def leases(self) -> Iterable[Lease]:
        """Return the live ones."""
        return self._leases

    def mint(
        self, call: str, routes: Iterable[Route], narrow: Narrow | None, until: float
    ) -> Lease:
        """Return a new lease: a password, and a token for each route that lends a credential."""
        kept = tuple(
            route
            for route in routes
            if narrow is None or narrow.routes is None or route.name in narrow.routes
        )
        tokens = {route.name: mint(route) for route in kept if route.credential is not None}
        lease = Lease(call, mint_secret(), tokens, kept, narrow)
        self._enter(lease.secret, lease, None, until)
        for name, token in tokens.items():
            self._enter(token, lease, name, until)
        self._leases.add(lease)
        return lease

    def _enter(self, text: str, lease: Lease, route: str | None, until: float) -> None:
        value = text.encode("ascii")
        self._entries[sha256(value).digest()] = Entry(value, lease, route, until)

    def revoke(self, lease: Lease) -> bool:
        """Forget a lease's token and password; tell whether it was live."""
        if lease not in self._leases:
            return False
        self._leases.discard(lease)
        self._entries = {
            digest: entry for digest, entry in self._entries.items() if entry.lease is not lease
        }
        return True

    def find(self, presented: bytes, now: float) -> Entry | None:
        """Return what *presented* opens at this time."""
        entry = self._entries.get(sha256(presented).digest())
        if entry is None or not hmac.compare_digest(entry.value, presented):
            return None
        return entry if now < entry.expires_s else None
