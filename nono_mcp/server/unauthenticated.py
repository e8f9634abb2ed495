"""Connections of who has shown no token yet: how many there are, and how long they stay.

Whoever can reach the port can open connections and say nothing on them, or one byte a minute, or
half of a TLS handshake. So they are bounded where they are accepted: for each address (an IPv6
host's is its /64), in all, and in time. One over a bound takes the place of another, of the address
that has most, by lot among the older half: who has just come and speaks at once is always heard,
and whoever floods the port turns out themselves.

Architecture invariant: nothing of what is sent is looked at. A connection stops being a stranger's
when `Unauthenticated.known` is told so, and is one again when it isn't served any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
import socket
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALL_MAX = 256
EACH_MAX = 128
ACCEPTED_MAX = 4
"""Connections that are taken at one go: what they send is looked at before there are more."""
BACKLOG_MAX = 256
PATIENCE_S = 20.0
"""How long a connection may take to show a token: an authorization server is asked meanwhile."""
_PREFIX_BITS = 64

Peer = tuple[str, int]


class Unauthenticated:
    """Knows every connection that is accepted, and ends those that are too many or too slow."""

    def __init__(
        self,
        *,
        all_max: int = ALL_MAX,
        each_max: int = EACH_MAX,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._all_max = all_max
        self._each_max = each_max
        self.patience_s = patience_s
        self._open: dict[Peer, _Accepted] = {}
        self._strange: defaultdict[str, dict[Peer, None]] = defaultdict(dict)
        self._late: dict[Peer, asyncio.TimerHandle] = {}
        self._count = 0

    @classmethod
    def within(cls, open_files_max: int) -> Unauthenticated:
        """Return what takes half of *open_files_max* at most: calls need the rest."""
        all_max = max(2, min(ALL_MAX, open_files_max // 2))
        return cls(all_max=all_max, each_max=min(EACH_MAX, all_max // 2))

    @property
    def count(self) -> int:
        """Return how many there are."""
        return self._count

    def at(self, listener: socket.socket) -> socket.socket:
        """Return *listener*'s socket, whose connections are known from now on."""
        return _Listener(listener, self._accepted)

    @contextlib.contextmanager
    def known(self, peer: Peer | None) -> Iterator[None]:
        """Leave the connection of *peer* alone while the body runs: it's somebody's."""
        if peer is None or peer not in self._open:
            yield
            return
        connection = self._open[peer]
        self._forget(peer)
        try:
            yield
        finally:
            # Another one may have the same port by now.
            if self._open.get(peer) is connection:
                self._add(peer)

    def _accepted(self, fd: int, peer: Peer) -> socket.socket:
        connection = _Accepted(fileno=fd)
        connection.on_close = lambda: self._closed(peer, connection)
        # After a reset the port may be used again before anybody has closed the last connection.
        self._forget(peer)
        self._open[peer] = connection
        self._add(peer)
        # Not once it was known: then it's the server's to end it, when it has been idle.
        loop = asyncio.get_running_loop()
        self._late[peer] = loop.call_later(self.patience_s, self._end, peer)
        return connection

    def _add(self, peer: Peer) -> None:
        address = _address(peer)
        self._strange[address][peer] = None
        self._count += 1
        if len(self._strange[address]) > self._each_max:
            self._turn_out(address)
        elif self._count > self._all_max:
            self._turn_out(max(self._strange, key=lambda one: len(self._strange[one])))

    def _turn_out(self, address: str) -> None:
        oldest_first = list(self._strange[address])
        older = oldest_first[: max(1, len(oldest_first) // 2)]
        self._end(random.choice(older))  # noqa: S311 - a lot, no secret

    def _end(self, peer: Peer) -> None:
        self._forget(peer)
        # Whoever reads or writes it finds it closed, and closes it; a handshake of TLS's too.
        with contextlib.suppress(OSError):
            self._open[peer].shutdown(socket.SHUT_RDWR)

    def _closed(self, peer: Peer, connection: socket.socket) -> None:
        if self._open.get(peer) is connection:
            self._forget(peer)
            del self._open[peer]

    def _forget(self, peer: Peer) -> None:
        late = self._late.pop(peer, None)
        if late is not None:
            late.cancel()
        address = _address(peer)
        if peer in self._strange[address]:
            del self._strange[address][peer]
            self._count -= 1
        if not self._strange[address]:
            del self._strange[address]


class _Accepted(socket.socket):
    on_close: Callable[[], None] | None = None

    def close(self) -> None:
        if self.on_close is not None:
            self.on_close()
            self.on_close = None
        super().close()


class _Listener(socket.socket):
    """A listening socket that tells of what it accepts; the event loop calls `accept`."""

    def __init__(
        self, listener: socket.socket, accepted: Callable[[int, Peer], socket.socket]
    ) -> None:
        super().__init__(fileno=listener.detach())
        self._told = accepted

    def listen(self, backlog: int = BACKLOG_MAX, /) -> None:
        """Listen; the event loop has one number for what waits and for what it takes at one go."""
        super().listen(max(backlog, BACKLOG_MAX))

    def accept(self) -> tuple[socket.socket, tuple[object, ...]]:
        connection, address = super().accept()
        host, port = address[:2]
        return self._told(connection.detach(), (str(host), int(port))), address


def _address(peer: Peer) -> str:
    """Return by what connections count as one host's."""
    host = ipaddress.ip_address(peer[0].partition("%")[0])
    if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped is None:
        return str(ipaddress.ip_network((host, _PREFIX_BITS), strict=False))
    return str(host)
