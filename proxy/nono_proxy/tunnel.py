"""CONNECT: what a tunnel carries is looked at once, and then relayed or read.

A tunnel's first octets must be a ClientHello for the host it was asked for, unless a rule says raw.
Where a route reads requests, TLS ends here and begins anew towards the upstream; if that fails, the
tunnel fails.

Architecture invariant: no octet reaches an upstream before the first ones were judged.
"""

import asyncio
import ssl
from collections.abc import Callable

from nono_proxy import sni
from nono_proxy.authority import literal
from nono_proxy.client import ESTABLISHED, Client
from nono_proxy.ends import End
from nono_proxy.errors import Refusal
from nono_proxy.plan import Inner, Plan
from nono_proxy.sni import Hello, NotTLS
from nono_proxy.state import Come, State, record_of

# A fatal alert, unrecognized_name (RFC 8446 6): clients say more of it than of a reset.
_ALERT = b"\x15\x03\x03\x00\x02\x02\x70"
_TLS_PORT = 443
_REST_S = 30.0
_FIRST_BYTES_MAX = 70000


class Tunnels:
    """Opens tunnels."""

    def __init__(self, state: State) -> None:
        self._state = state

    def open(self, client: Client, plan: Plan) -> None:
        """Begin a tunnel that was judged."""
        self._state.run(asyncio.create_task(self._open(client, plan)))

    async def _open(self, client: Client, plan: Plan) -> None:
        if plan.target is None:
            raise AssertionError("what was judged has a target")
        far: End | None = None
        try:
            if plan.route is None:
                now = self._state.loop.time
                far, address = await self._state.dialer.dial(
                    plan.target, lambda: End(now, waits=True), tls=False
                )
                far.hold()
            else:
                address = ""
            transport, early = client.take_over()
        except Refusal as refusal:
            if far is not None:
                far.abort()
            client.refuse(plan, refusal.code, refusal.detail)
            return
        tunnel = Tunnel(self._state, plan, far, address, self.open)
        tunnel.begin(transport, early)


class Tunnel:
    """One tunnel, from its CONNECT to its end."""

    def __init__(
        self,
        state: State,
        plan: Plan,
        far: End | None,
        address: str,
        connect: Callable[[Client, Plan], None],
    ) -> None:
        self.lease = plan.lease
        self._state = state
        self._plan = plan
        self._connect = connect
        self._address = address
        self._near = End(state.loop.time)
        self._far = far
        self._started = state.loop.time()
        self._judged = plan.raw
        self._first = b""
        self._over = False
        self._burial: asyncio.TimerHandle | None = None

    def begin(self, transport: asyncio.Transport, early: bytes) -> None:
        """Tell the client, and look at what comes first."""
        self._state.members.add(self)
        self._near.connection_made(transport)
        self._near.owner = self
        if self._far is not None:
            self._far.owner = self
        transport.set_protocol(self._near)
        self._record("tunnel-open")
        transport.write(ESTABLISHED)
        if self._judged:
            self._pair()
        transport.resume_reading()
        if early:
            self._near.data_received(early)

    def _pair(self) -> None:
        if self._far is None or self._near.transport is None or self._far.transport is None:
            self.abort()
            return
        self._near.peer, self._far.peer = self._far, self._near
        self._far.release()

    def first(self, data: bytes) -> None:
        """Judge what the client says first."""
        self._first += data
        found = sni.read(self._first)
        if found is NotTLS.MORE and len(self._first) < _FIRST_BYTES_MAX:
            return
        route, target = self._plan.route, self._plan.target
        if target is None:
            raise AssertionError("what was judged has a target")
        plain = route is None or not route.tls
        if found is NotTLS.OTHER and plain and target.port != _TLS_PORT:
            self._read(tls=False)
        elif isinstance(found, NotTLS):
            self._refuse("not-tls", found.value)
        elif not _names(found, target.host):
            self._refuse("sni-mismatch", f"{found.host or 'no name'} is not {target.host}")
        elif route is not None:
            self._read(tls=True)
        else:
            self._judged = True
            self._pair()
            first, self._first = self._first, b""
            self._near.data_received(first)

    def _read(self, *, tls: bool) -> None:
        """Read requests from now on, as if the client had come to the upstream itself."""
        transport, target = self._near.transport, self._plan.target
        if transport is None or target is None:
            return
        if self._far is not None:
            self._far.owner = None
            self._far.abort()
            self._far = None
        self._over = True
        inner = Client(self._state, self._connect, Inner(target, tls, self.lease))
        first, self._first = self._first, b""
        if not tls:
            self._state.members.discard(self)
            transport.set_protocol(inner)
            inner.connection_made(transport)
            inner.data_received(first)
            return
        transport.pause_reading()
        # Until the handshake is done it's this that a call's end ends.
        self._state.run(asyncio.create_task(self._intercepted(transport, inner, first)))

    async def _intercepted(self, transport: asyncio.Transport, inner: Client, first: bytes) -> None:
        try:
            await self._intercept(transport, inner, first)
        finally:
            self._state.members.discard(self)

    async def _intercept(self, transport: asyncio.Transport, inner: Client, first: bytes) -> None:
        """End the client's TLS here."""
        loop = self._state.loop
        if self._plan.target is None:
            raise AssertionError("what was judged has a target")
        context = self._state.server_context(self._plan.target.host)
        shake = asyncio.create_task(
            loop.start_tls(
                transport,
                inner,
                context,
                server_side=True,
                ssl_handshake_timeout=self._state.config.limits.head_s,
            )
        )
        # The hello was read already; TLS gets it as soon as it stands between.
        # Its first step puts TLS between, the second tells it of the transport.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        protocol = transport.get_protocol()
        if isinstance(protocol, asyncio.BufferedProtocol):
            _feed(protocol, first)
        try:
            upgraded = await shake
        except (ssl.SSLError, OSError, TimeoutError) as error:
            code = "client-trust" if "alert" in str(error).lower() else "interception-failed"
            reason = getattr(error, "reason", None) or type(error).__name__
            self._state.record(record_of(self._plan, "client", code, str(reason)))
            transport.abort()
            return
        if upgraded is None or transport.is_closing():
            transport.abort()
            return
        inner.connection_made(upgraded)

    def _refuse(self, code: str, detail: str) -> None:
        self._state.record(record_of(self._plan, "refused", code, detail))
        if self._near.transport is not None:
            if self._first[:1] == b"\x16":
                self._near.transport.write(_ALERT)
            self._near.transport.close()
        self._end("refused")

    def spend(self, count: int) -> None:
        """Count octets against the call."""
        if not self._state.spend_bytes(self.lease, count):
            self._refuse("bytes-exceeded", "")
            self.abort()

    def lost(self) -> None:
        """Take the end of one side; it's the end of both."""
        self._end("")
        self._forget()

    def _end(self, detail: str) -> None:
        if self._over:
            return
        self._over = True
        self._record("tunnel-close", detail)
        for end in (self._near, self._far):
            if end is not None:
                end.end()
        # Who doesn't take the rest holds a descriptor of ours: that counts, and not for ever.
        self._burial = self._state.loop.call_later(_REST_S, self.abort)
        self._forget()

    def _forget(self) -> None:
        """Count no more, once both sides are gone."""
        if all(end is None or end.transport is None for end in (self._near, self._far)):
            self._state.members.discard(self)
            if self._burial is not None:
                self._burial.cancel()

    def abort(self) -> None:
        """End the tunnel at once."""
        for end in (self._near, self._far):
            if end is not None:
                end.abort()

    def sweep(self, now: float) -> None:
        """End a tunnel that nothing went through for too long."""
        limits = self._state.config.limits
        if self._over:
            # Of a handshake the bound is TLS's own.
            return
        active = max(self._started, self._near.active, self._far.active if self._far else 0.0)
        if not self._judged and now - self._started > limits.head_s:
            self._refuse("not-tls", "nothing came")
        elif now - active > limits.tunnel_idle_s:
            self.abort()

    def recheck(self) -> None:
        """End a tunnel that a new configuration wouldn't open."""
        if self._plan.target is None or not self._state.judge.still(self._plan):
            self.abort()

    def retire(self) -> None:
        """Let it be: what it carries isn't looked into, so nobody knows when that has ended."""

    def _record(self, event: str, detail: str = "") -> None:
        come = Come(
            self._address or None,
            bytes_up=self._near.count,
            bytes_down=self._far.count if self._far else 0,
            duration_s=self._state.loop.time() - self._started,
        )
        self._state.record(record_of(self._plan, event, "allowed", detail, come))


def _feed(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    """Hand *data* to TLS, as much at once as it has room for."""
    while data:
        room = memoryview(protocol.get_buffer(len(data)))
        count = min(len(data), len(room))
        room[:count] = data[:count]
        protocol.buffer_updated(count)
        data = data[count:]


def _names(hello: Hello, host: str) -> bool:
    """Tell whether a hello is for *host*; an address has no server name (RFC 6066 3)."""
    return hello.host == host if literal(host) is None else hello.host is None
