"""What the connections of one proxy share.

Architecture invariant: one object, one proxy; nothing at module level.
"""

import asyncio
import os
import ssl
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from nono_proxy.config import Config, Route
from nono_proxy.dial import Connector, Dialer, Resolver
from nono_proxy.errors import Refusal
from nono_proxy.judge import Judge
from nono_proxy.memory import Memory
from nono_proxy.pipes import Pipes
from nono_proxy.plan import Plan
from nono_proxy.records import Record
from nono_proxy.tls import SessionAuthority
from nono_proxy.tokens import Lease, Ledger
from nono_proxy.upstream import Pool
from nono_proxy.vault import Lookup, Vault
from nono_proxy.watching import watch

Report = Callable[[Record], None]

_MINUTE_S = 60.0


class Come(NamedTuple):
    """What came of a request or a tunnel."""

    address: str | None = None
    status: int | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    duration_s: float = 0.0
    injected: bool = False
    scrubbed_count: int = 0


_NOTHING = Come()


class Member(Protocol):
    """A connection that can be ended from outside, and looked at now and then."""

    lease: Lease | None

    def abort(self) -> None:
        """End it at once."""

    def sweep(self, now: float) -> None:
        """End it if it took too long."""

    def recheck(self) -> None:
        """End it if what it does is no longer allowed."""

    def retire(self) -> None:
        """End it once what is under way has ended."""


class State:
    """Configuration, tokens, credentials and connections of one running proxy."""

    def __init__(  # noqa: PLR0913 - a proxy is made of these
        self,
        config: Config,
        *,
        lookup: Lookup,
        report: Report,
        resolver: Resolver,
        connector: Connector,
        authority: SessionAuthority,
        own: frozenset[tuple[str, int]],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.watch = watch(self.loop)
        self.pipes = Pipes()
        self.ledger = Ledger()
        self.members: set[Member] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.failures = 0
        self._report = report
        self._resolver = resolver
        self._connector = connector
        self._authority = authority
        self._own = own
        self.broken = False
        """Whether a record couldn't be written."""
        self._minutes: dict[str, tuple[float, int]] = {}
        self._bytes: dict[Lease, int] = {}
        self._held: Counter[Lease | None] = Counter()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self.memory = Memory()
        self.pool = Pool(config.limits.upstream_idle_s)
        self.vault = Vault(lookup, config.limits.credential_hold_s)
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Decide by *config* from now on."""
        self.config = config
        self.memory.configure(config.routes)
        self.judge = Judge(config, self.ledger, self._own)
        self.dialer = Dialer(
            config,
            resolver=self._resolver,
            connector=self._connector,
            vault=self.vault,
            own=self._own,
            watch=self.watch,
        )
        self._authority.constrain([rule for route in config.routes for rule in route.rules])
        for member in list(self.members):
            member.recheck()

    def record(self, record: Record) -> None:
        """Report a decision; if that fails, nothing is decided any more."""
        if self.broken:
            return
        try:
            self._report(record)
        except BaseException:
            self.broken = True
            for member in list(self.members):
                member.abort()
            raise

    def verify_open(self) -> None:
        """Refuse everything once a record couldn't be written."""
        if self.broken:
            raise Refusal("log-unavailable")

    def spend_request(self, route: Route, now: float) -> None:
        """Count a request against its route's minute."""
        if route.requests_per_minute_max is None:
            return
        start, count = self._minutes.get(route.name, (now, 0))
        if now - start >= _MINUTE_S:
            start, count = now, 0
        if count >= route.requests_per_minute_max:
            raise Refusal("rate-limited", route.name)
        self._minutes[route.name] = (start, count + 1)

    def spend_bytes(self, lease: Lease | None, count: int) -> bool:
        """Count octets against a call; tell whether they are still within its bound."""
        bound = self.config.limits.call_bytes_max
        if bound is None or lease is None:
            return True
        spent = self._bytes.get(lease, 0) + count
        self._bytes[lease] = spent
        return spent <= bound

    def hold(self, lease: Lease | None, count: int) -> None:
        """Count octets of a body that is about to be held; `let_go` of them is to follow.

        Raises:
            Refusal: There would be too many, in all or of this call. None were counted.
        """
        limits = self.config.limits
        of_call, in_all = self._held[lease] + count, self._held.total() + count
        if of_call > limits.held_call_bytes_max or in_all > limits.held_bytes_max:
            raise Refusal("bodies-held")
        self._held[lease] = of_call

    def let_go(self, lease: Lease | None, count: int) -> None:
        """Count octets no more that were held."""
        self._held[lease] -= count
        if not self._held[lease]:
            del self._held[lease]

    def revoke(self, lease: Lease) -> None:
        """End a call: its tokens, and its connections."""
        if not self.ledger.revoke(lease):
            return
        self._bytes.pop(lease, None)
        self.forget()
        for member in list(self.members):
            if member.lease is lease:
                member.abort()

    def forget(self) -> None:
        """Judge anew: which calls live has changed."""
        self.judge.forget()
        self.memory.forget()

    def sweep(self) -> None:
        """Look at every connection."""
        now = self.loop.time()
        for member in list(self.members):
            member.sweep(now)
        self.vault.sweep(now)
        self.memory.sweep(now)
        self.pool.sweep(now)

    def server_context(self, host: str) -> ssl.SSLContext:
        """Return what *host* is played with: its leaf goes to OpenSSL without touching a disk."""
        found = self._contexts.get(host)
        if found is None:
            found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            found.minimum_version = ssl.TLSVersion.TLSv1_2
            found.set_alpn_protocols(["http/1.1"])
            with _file_of(self._authority.leaf_pem(host)) as path:
                found.load_cert_chain(path)
            self._contexts[host] = found
        return found

    def run(self, task: asyncio.Task[None]) -> None:
        """Keep a task until it's done."""
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


def record_of(plan: Plan, event: str, code: str, detail: str = "", come: Come = _NOTHING) -> Record:
    """Return the record of what is known of a request, and of what came of it."""
    target = plan.target
    return Record(
        event,
        code,
        None if plan.lease is None else plan.lease.call,
        None if plan.route is None else plan.route.name,
        plan.entrance,
        None if target is None else target.host,
        None if target is None else target.port,
        come.address,
        plan.method.decode("ascii") or None,
        plan.path.decode("ascii", "replace") or None,
        plan.rule,
        *come[1:],
        detail,
    )


@contextmanager
def _file_of(data: bytes) -> Iterator[str]:
    """Give *data* a name for as long as a library needs one; in memory where there's memfd."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("leaf")
        try:
            os.write(descriptor, data)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.TemporaryDirectory() as directory:
        # A umask may take from us what we made.
        Path(directory).chmod(0o700)
        path = Path(directory, "leaf.pem")
        path.touch(0o600)
        path.chmod(0o600)
        path.write_bytes(data)
        yield str(path)
