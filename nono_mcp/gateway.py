"""The proxy of a session: what it is made of, what it lends to calls, and what it tells.

The proxy has a thread and an event loop of its own, so that a slow client of ours keeps no worker
waiting, and the small process of `nono run` needs no loop around its program.

Architecture invariant: a credential goes from its source to the proxy and nowhere else; what the
owner hears of a request is a `Record`, which holds none.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from nono_mcp.credentials.fetch import Sources, take
from nono_mcp.credentials.secret import CredentialError
from nono_mcp.credentials.vault import Vault
from nono_mcp.held_scratch import HeldScratch
from nono_mcp.policy import egress
from nono_mcp.policy.egress import Refused
from nono_proxy.config import HostRule, Narrow
from nono_proxy.environment import OWNED
from nono_proxy.errors import CredentialUnavailableError
from nono_proxy.proxy import Proxy
from nono_sandbox import private
from nono_sandbox.confinement import NAMESPACES, READ, Grant

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from typing import Self, TypeVar

    from nono_mcp.credentials.vault import Use
    from nono_mcp.policy.document import NetworkSection
    from nono_proxy.config import Config
    from nono_proxy.records import Record
    from nono_proxy.tokens import Lease
    from nono_sandbox.confinement import Confinement

    T = TypeVar("T")
    Heard = Callable[[Record, Use | None], None]
    Variables = tuple[tuple[str, str], ...]

ADDRESS: Final = "127.0.0.1"
READY_S_MAX: Final = 30.0
_BACKLOG: Final = 1024
_REFUSED_MAX: Final = 8
"""Hosts a call is told of that were refused it."""


class Trusted(Protocol):
    """Where the certificates are that workers trust."""

    path: str
    """As they're told."""

    def fill(self, pem: str) -> None:
        """Put them there."""


class Bundle:
    """The file by which workers trust their proxy: there before they're confined, filled after."""

    def __init__(self, state_dir: str) -> None:
        self._directory = HeldScratch(state_dir, os.path.realpath(tempfile.gettempdir()))
        self.path = f"{self._directory.path}/ca.pem"
        self._fd = private.open_file(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL)

    def grant(self) -> Grant:
        """Return the grant of the file, to be read."""
        found = os.fstat(self._fd)
        return Grant(self.path, READ, exact=True, identity=(found.st_dev, found.st_ino))

    def fill(self, pem: str) -> None:
        """Put certificates in the file, in place of what it holds."""
        data = pem.encode()
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, data, 0)

    def remove(self) -> None:
        """Remove the file."""
        os.close(self._fd)
        self._directory.remove()


class SessionProxy:
    """The proxy of a session: the socket and the bundle, from before it runs; then it itself."""

    def __init__(self, tier: str, state_dir: str) -> None:
        self._own: socket.socket | None = None
        self.port = 0
        """The loopback port that workers have to be allowed, where they've no network of theirs."""
        if tier != NAMESPACES:
            self._own = socket.create_server((ADDRESS, 0), backlog=_BACKLOG)
            self.port = self._own.getsockname()[1]
        self._bundle = Bundle(state_dir)
        self._gateway: Gateway | None = None

    def around(self, confinement: Confinement) -> Confinement:
        """Return *confinement* with what its workers need to use the proxy."""
        return confinement.replace(grants=(*confinement.grants, self._bundle.grant()))

    def begin(self, config: Config, vault: Vault, report: Heard, door: int = -1) -> None:
        """Start the proxy, at the socket *door* if it has been handed out of a network.

        Raises:
            OSError: It couldn't be started. Nothing leaves.
        """
        keep_memory_shut()
        answered = self._own if self._own is not None else socket.socket(fileno=door)
        self._gateway = Gateway.start(answered, config, vault, self._bundle, report)

    def lend(self, call: str, own: Variables, hosts: tuple[str, ...] | None = None) -> Loan:
        """Return what *call* may use the proxy by, its *own* variables with it.

        With *hosts* it reaches no others, whatever the session may.
        """
        if self._gateway is None:
            raise OSError("the proxy isn't running")
        narrow = None if hosts is None else Narrow(tuple(map(HostRule.parse, hosts)))
        lease = self._gateway.mint(call, narrow)
        return Loan(self._gateway, lease, self._gateway.environment(lease, own))

    def end(self) -> None:
        """Stop the proxy, and take away what it had."""
        if self._gateway is not None:
            self._gateway.stop()
        if self._own is not None:
            self._own.close()
        self._bundle.remove()


def keep_memory_shut() -> None:
    """Let nobody attach to this process, whose memory may hold a credential from here on.

    On macOS nobody does who hasn't Apple's entitlement for it.
    """
    if sys.platform == "linux":
        from nono_sandbox import _uapi  # noqa: PLC0415 - there is none elsewhere

        _uapi.prctl(_uapi.PR_SET_DUMPABLE, 0)


@dataclass(frozen=True, slots=True)
class Loan:
    """One call's use of a proxy."""

    gateway: Gateway
    lease: Lease
    environment: Variables

    def refused(self) -> tuple[Refused, ...]:
        """Return the first hosts that the proxy refused the call."""
        return self.gateway.refused(self.lease)

    def end(self) -> None:
        """Revoke it."""
        self.gateway.revoke(self.lease)


def vault_for(rules: NetworkSection) -> Vault:
    """Return the credentials of *rules*; variables that hold one leave the environment."""
    sources = egress.sources(rules)
    return Vault(sources, Sources(take(sources, os.environ)))


class Gateway:
    """One running proxy, and the calls that may use it. Made by `start`."""

    def __init__(
        self,
        config: Config,
        vault: Vault,
        bundle: Trusted,
        report: Heard,
    ) -> None:
        self._config = config
        self._vault = vault
        self._bundle = bundle
        self._report = report
        self._refused: dict[str, dict[tuple[str, int], Refused]] = {}
        """Of each call that has a lease."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._proxy: Proxy | None = None
        self._stopped = asyncio.Event()
        self._ready = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._main, name="nono-proxy", daemon=True)
        self._at = (ADDRESS, 0)
        self._door: socket.socket | None = None

    @classmethod
    def start(  # noqa: PLR0913 - a gateway is made of these
        cls,
        door: socket.socket,
        config: Config,
        vault: Vault,
        bundle: Trusted,
        report: Heard,
        *,
        known_as: tuple[str, int] | None = None,
    ) -> Self:
        """Start answering at *door*, which is the gateway's from now on.

        Programs are told to find it there, or where it's *known_as*.
        *report* is called in the proxy's thread; once it raises, nothing leaves any more.

        Raises:
            OSError: The proxy couldn't be started. Nothing leaves.
        """
        gateway = cls(config, vault, bundle, report)
        gateway._door = door
        gateway._at = known_as or (ADDRESS, door.getsockname()[1])
        gateway._thread.start()
        if not gateway._ready.wait(READY_S_MAX) or gateway._failure is not None:
            door.close()
            raise OSError(f"the proxy couldn't be started: {gateway._failure}")
        return gateway

    def mint(self, call: str, narrow: Narrow | None = None) -> Lease:
        """Return what *call* may use the proxy by, until it's revoked."""
        self._refused[call] = {}
        return self._within(lambda proxy: proxy.mint(call, narrow=narrow))

    def revoke(self, lease: Lease) -> None:
        """End what a call may do; its connections are aborted."""
        self._within(lambda proxy: proxy.revoke(lease))
        self._refused.pop(lease.call, None)

    def refused(self, lease: Lease) -> tuple[Refused, ...]:
        """Return the first hosts that were refused to who has *lease*."""
        return tuple(self._refused.get(lease.call, {}).values())

    def environment(self, lease: Lease, own: Variables) -> Variables:
        """Return a worker's variables: its *own*, but for those that would lead past the proxy."""
        kept = {name: value for name, value in dict(own).items() if name not in OWNED}
        ours = lease.environment(*self._at, self._bundle.path)
        return tuple(sorted({**kept, **ours}.items()))

    def drain(self, longest_s: float) -> Future[None]:
        """Take no new connection; what is returned is done when those there are have ended."""
        if self._loop is None or self._proxy is None:
            raise OSError("the proxy isn't running")
        return asyncio.run_coroutine_threadsafe(self._proxy.drain(longest_s), self._loop)

    def stop(self) -> None:
        """Abort every connection and forget every credential."""
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join(READY_S_MAX)
        self._vault.forget()

    def _within(self, act: Callable[[Proxy], T]) -> T:
        """Do *act* in the proxy's own thread."""

        async def done() -> T:
            if self._proxy is None:
                raise OSError("the proxy isn't running")
            return act(self._proxy)

        if self._loop is None:
            raise OSError("the proxy isn't running")
        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(READY_S_MAX)

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            self._failure = error
            self._ready.set()

    async def _serve(self) -> None:
        if self._door is None:
            raise OSError("there is no socket to listen on")
        self._loop = asyncio.get_running_loop()
        async with Proxy(
            *([self._door], self._config, self._lookup, self._heard), known_as=[self._at]
        ) as proxy:
            self._proxy = proxy
            self._bundle.fill(proxy.ca_bundle_pem)
            self._ready.set()
            await self._stopped.wait()
            self._proxy = None

    async def _lookup(self, name: str) -> bytes:
        try:
            found = await asyncio.to_thread(self._vault.get, name)
        except CredentialError as error:
            raise CredentialUnavailableError(str(error)) from None
        return found.reveal().encode()

    def _heard(self, record: Record) -> None:
        use = self._vault.use(record.route) if record.injected and record.route else None
        self._report(record, use)
        found = self._refused.get(record.call or "", {})
        if record.event == "refused" and record.host and record.port and len(found) < _REFUSED_MAX:
            at = record.host, record.port
            found.setdefault(at, Refused(*at, record.detail or record.code))
