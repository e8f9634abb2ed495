"""The worker's only way out: one proxy a session, from the first listener to the last connection.

    async with Proxy(listeners, config, lookup, report) as proxy:
        lease = proxy.mint("call-1")

Architecture invariant: what the proxy decides by is in its `Config`; how it decides is in the pure
modules beside this one; credentials and records are its owner's.
"""

import asyncio
import datetime as dt
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from nono_proxy.client import Client
from nono_proxy.config import Config, Narrow
from nono_proxy.dial import Connector, Resolver, system_resolver, tcp_connector
from nono_proxy.door import Door
from nono_proxy.errors import ProxyError
from nono_proxy.state import Report, State
from nono_proxy.tls import SessionAuthority
from nono_proxy.tokens import Lease
from nono_proxy.tunnel import Tunnels
from nono_proxy.vault import Lookup

__all__ = ["Connector", "Lookup", "Proxy", "Report", "Resolver", "system_resolver", "tcp_connector"]

_VALID = dt.timedelta(days=7)
_SWEEP_S = 1.0
_BACKLOG = 128
_DRAIN_LOOK_S = 0.05
_TOLD_MAX = 32
_AT_HAND_BYTES = 1 << 20


class Proxy:
    """A running proxy; see the module."""

    def __init__(  # noqa: PLR0913 - a proxy is made of these
        self,
        listeners: Sequence[socket.socket],
        config: Config,
        lookup: Lookup,
        report: Report,
        *,
        resolver: Resolver = system_resolver,
        connector: Connector = tcp_connector,
        known_as: Sequence[tuple[str, int]] = (),
    ) -> None:
        self._listeners = listeners
        # What clients call it besides: behind a container's network it has a name of its own.
        self._own = frozenset({*map(_name, listeners), *known_as})
        self._config = config
        self._lookup = lookup
        self._report = report
        self._resolver = resolver
        self._connector = connector
        self._authority = SessionAuthority(dt.datetime.now(dt.UTC), _VALID)
        self._doors: list[Door] = []
        self._running: State | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        state = State(
            self._config,
            lookup=self._lookup,
            report=self._report,
            resolver=self._resolver,
            connector=self._connector,
            authority=self._authority,
            own=self._own,
        )
        self._running = state
        # The allocator keeps twice as much free at hand as the longest that was ever given back at
        # once (mallopt(3), M_MMAP_THRESHOLD). Without, each long piece may cost new pages.
        bytes(_AT_HAND_BYTES)
        tunnels = Tunnels(state)
        for listener in self._listeners:
            listener.listen(_BACKLOG)
            door = Door(
                state.watch,
                state.loop,
                listener,
                lambda: Client(state, tunnels.open, None),
                # Some more than may stay are let in, to be told so.
                room=lambda: state.config.limits.connections_max + _TOLD_MAX,
            )
            self._doors.append(door)
        self._timer = state.loop.call_later(_SWEEP_S, self._sweep)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        state = self._state
        if self._timer is not None:
            self._timer.cancel()
        for door in self._doors:
            door.close()
        for lease in list(state.ledger.leases):
            state.ledger.revoke(lease)
        for member in list(state.members):
            member.abort()
        for task in list(state.tasks):
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)
        state.pool.clear()
        state.vault.forget()
        state.memory.forget()
        # Transports say goodbye from the loop.
        await asyncio.sleep(0)
        state.watch.close()
        state.pipes.close()
        self._running = None

    @property
    def _state(self) -> State:
        if self._running is None:
            raise ProxyError("the proxy isn't running")
        return self._running

    def _sweep(self) -> None:
        self._state.sweep()
        self._timer = self._state.loop.call_later(_SWEEP_S, self._sweep)

    @property
    def ca_pem(self) -> str:
        """Return the session's authority alone."""
        return self._authority.certificate_pem

    @property
    def ca_bundle_pem(self) -> str:
        """Return what a worker is to trust: the system's roots and the session's authority."""
        return system_roots() + self._config.upstream_roots_pem + self.ca_pem

    def mint(self, call: str, *, narrow: Narrow | None = None) -> Lease:
        """Return a call's password and tokens; they live until revoked."""
        state = self._state
        until = state.loop.time() + state.config.limits.token_s
        lease = state.ledger.mint(call, state.config.routes, narrow, until)
        state.forget()
        return lease

    def revoke(self, lease: Lease) -> None:
        """End a call: its tokens are worth nothing, its connections are aborted."""
        self._state.revoke(lease)

    async def drain(self, longest_s: float) -> None:
        """Take no new connection, and wait until what is under way has ended, or that long."""
        state = self._state
        for door in self._doors:
            door.close()
        for member in list(state.members):
            member.retire()
        until = state.loop.time() + longest_s
        while state.members and state.loop.time() < until:  # noqa: ASYNC110 - many may end
            await asyncio.sleep(_DRAIN_LOOK_S)

    async def reconfigure(self, config: Config) -> None:
        """Decide by *config* from now on; tunnels that it wouldn't open are aborted."""
        state = self._state
        self._config = config
        state.configure(config)
        state.pool.clear()


def system_roots() -> str:
    """Return the certificates that the system trusts, as PEM."""
    paths = ssl.get_default_verify_paths()
    # What there's no file for, typeshed doesn't know to be None.
    cafile: str | None = paths.cafile
    if cafile is not None:
        return Path(cafile).read_text(encoding="ascii", errors="replace")
    loaded = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(map(ssl.DER_cert_to_PEM_cert, loaded))


def _name(listener: socket.socket) -> tuple[str, int]:
    address = listener.getsockname()
    return str(address[0]), int(address[1])
