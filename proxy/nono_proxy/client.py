"""The worker's end: one connection, its requests judged one after the other.

Architecture invariant: nothing a client sends is passed on before `nono_proxy.judge` has judged the
head it belongs to.
"""

import asyncio
from collections.abc import Callable
from enum import Enum, auto

from nono_proxy import head_verdict, heads, refusals
from nono_proxy.closing import Closing
from nono_proxy.errors import GrammarError, Refusal
from nono_proxy.exchange import Exchange
from nono_proxy.memory import Judged, Key
from nono_proxy.plan import Inner, Plan
from nono_proxy.state import State, record_of
from nono_proxy.streams import Stream

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_GUESSES = frozenset({"authentication-failed", "token-unknown"})
_CLIENT_ALERTS = ("alert unknown ca", "alert bad certificate", "alert certificate unknown")


class Mode(Enum):
    """What the next octets are."""

    HEAD = auto()
    BODY = auto()
    WAIT = auto()
    RELAY = auto()
    LINGER = auto()


class Client(Stream):
    """A connection of a worker, or what's inside a tunnel that is read."""

    def __init__(
        self, state: State, connect: Callable[["Client", Plan], None], inner: Inner | None
    ) -> None:
        super().__init__()
        self.lease = inner.lease if inner is not None else None
        self.full = False
        """Whether what was written has to be read before more is."""
        self._state = state
        self._connect = connect
        self._inner = inner
        self._where = inner and (inner.target, inner.tls, inner.lease)
        self._mode = Mode.HEAD
        self._buffer = b""
        self._since = state.loop.time()
        self._exchange: Exchange | None = None
        self._relay: Callable[[bytes], None] | None = None
        self._failures = 0
        self._retires = False
        self._closing: Closing | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; a connection beyond the bound is told so and ended."""
        super().connection_made(transport)
        most = self._state.config.limits.connections_max
        # What is inside a tunnel was counted when the tunnel was.
        if self._inner is None and len(self._state.members) >= most:
            self.refuse(Plan(), "too-many-connections", "")
            return
        self._state.members.add(self)
        if self._buffer:
            self._advance()

    def data_received(self, data: bytes) -> None:
        """Read on."""
        mode = self._mode
        if self.transport is None:
            # A handshake can deliver before it says that it's done.
            self._buffer += data
        elif mode is Mode.HEAD:
            if not self._buffer:
                self._since = self._state.loop.time()
            self._buffer = self._buffer + data if self._buffer else data
            self._advance()
        elif mode is Mode.BODY:
            self._body(data)
        elif mode is Mode.RELAY and self._relay is not None:
            self._relay(data)
        elif mode is Mode.LINGER:
            if self._closing is not None:
                self._closing.discard(len(data))
        else:
            self._buffer += data
            if len(self._buffer) > self._state.config.limits.head_bytes_max:
                self.transport.pause_reading()

    def _advance(self) -> None:
        """Take the heads that are whole, one after the other."""
        limits = self._state.config.limits
        while self._mode is Mode.HEAD and self._buffer:
            try:
                found = heads.cut(self._buffer, limits)
            except Refusal as refusal:
                self.refuse(Plan(), refusal.code, refusal.detail)
                return
            if found is None:
                return
            head, self._buffer = found
            self._handle(head)

    def _handle(self, head: bytes) -> None:
        """Judge a head, or remember how it was judged, and act on it."""
        state = self._state
        now = state.loop.time()
        key = (self._where, head)
        judged = state.memory.find(key, now)
        if judged is None or state.broken:
            judged = self._judge(key, now)
        if judged is None:
            return
        self.lease = judged.plan.lease
        if judged.request.method == b"CONNECT":
            # What comes next waits for its judge in the buffer.
            self._mode = Mode.WAIT
            self._connect(self, judged.plan)
            return
        exchange = self._exchange = Exchange(self, state, judged, now)
        try:
            self._begin(exchange)
        except Refusal as refusal:
            self._exchange = None
            close = head_verdict.ends(judged.request)
            self.refuse(judged.plan, refusal.code, refusal.detail, close=close)

    def _judge(self, key: Key, now: float) -> Judged | None:
        """Judge a head; None if it was answered here."""
        verdict = head_verdict.judge(self._state, self._inner, key, now)
        if isinstance(verdict, Judged):
            return verdict
        if verdict is None:
            # What comes next is judged as if it had come without.
            self.write(ESTABLISHED)
        else:
            self.refuse(verdict.plan, verdict.code, verdict.detail, close=verdict.closes)
        return None

    def _begin(self, exchange: Exchange) -> None:
        """Read what has come of the body, so that nothing leaves if it's broken; then send."""
        if not exchange.receiving:
            self._mode = Mode.WAIT
        else:
            self._mode = Mode.BODY
            if self._buffer:
                buffer, self._buffer = self._buffer, b""
                self._body(buffer)
                if self._mode is Mode.LINGER:
                    return
        exchange.start()

    def _body(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        try:
            rest = exchange.send_body(data)
        except GrammarError as error:
            exchange.fail("bad-request", str(error))
            return
        except Refusal as refusal:
            exchange.fail(refusal.code, refusal.detail)
            return
        if not exchange.receiving and self._mode is Mode.BODY:
            self._mode = Mode.WAIT
            self._buffer = rest

    def done(self, *, close: bool) -> None:
        """Go on to the next request: the answer to the last has been written."""
        self._exchange = None
        if close or self._retires:
            self._linger()
            return
        self._mode = Mode.HEAD
        self._since = self._state.loop.time()
        if self.transport is not None:
            self.transport.resume_reading()
        if self._buffer:
            # From the loop, so that a long pipeline doesn't become a deep stack.
            self._state.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Take what came behind the last request, the end of what the client says included."""
        self._advance()
        if self._mode is Mode.HEAD and self.transport is not None:
            self.transport.resume_reading()

    def take_over(self) -> tuple[asyncio.Transport, bytes]:
        """Give the transport away, and what has come behind the CONNECT.

        Raises:
            Refusal: The client is gone.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            raise Refusal("call-ended")
        self._state.members.discard(self)
        self.transport = None
        buffer, self._buffer = self._buffer, b""
        return transport, buffer

    def relay(self, to: Callable[[bytes], None]) -> None:
        """Pass everything on from now."""
        self._relay = to
        self._mode = Mode.RELAY
        buffer, self._buffer = self._buffer, b""
        if buffer:
            to(buffer)

    def refuse(self, plan: Plan, code: str, detail: str, *, close: bool = True) -> None:
        """Answer with a refusal, and record it."""
        self._state.record(record_of(plan, "refused", code, detail))
        if code in _GUESSES:
            self._failures += 1
            close = close or self._failures >= self._state.config.limits.auth_failures_max
        self.refuse_unrecorded(code, detail, plan, close=close)

    def refuse_unrecorded(self, code: str, detail: str, plan: Plan, *, close: bool) -> None:
        """Answer with a refusal that stands in the records already."""
        self._exchange = None
        close = close or refusals.TABLE[code].closes
        host = None if plan.target is None else plan.target.host
        body = plan.method != b"HEAD"
        self.write(refusals.answer(code, detail, host=host, keep_alive=not close, body=body))
        if close:
            self._linger()
        else:
            self._mode = Mode.HEAD

    def _linger(self) -> None:
        """Close when the client has read what it was told."""
        self._mode = Mode.LINGER
        transport = self.transport
        if transport is not None and not transport.is_closing():
            self._closing = Closing(
                self._state.loop, transport, self._state.config.limits.response_s
            )
            self._closing.begin()

    def eof_received(self) -> bool:
        """Take the end of what the client says; an answer on its way is still written."""
        if self._exchange is None and self._mode is Mode.WAIT:
            # A tunnel is on its way: whoever takes the transport over hears of the end again.
            return True
        if self._mode is Mode.HEAD and b"\r\n\r\n" in self._buffer:
            # The next request is there, and not begun yet.
            return True
        if self._exchange is None or self._mode is Mode.RELAY:
            return False
        # The rest of a request won't come any more.
        return not self._exchange.receiving

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the connection's end."""
        self._state.members.discard(self)
        self.transport = None
        self._buffer = b""
        if exc is not None and any(alert in str(exc).lower() for alert in _CLIENT_ALERTS):
            plan = Plan(
                "intercepted",
                lease=self.lease,
                target=None if self._inner is None else self._inner.target,
            )
            self._state.record(record_of(plan, "client", "client-trust"))
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            exchange.cancel("the client closed")

    def pause_writing(self) -> None:
        """Let the upstream wait until the client has taken what was sent."""
        self.full = True
        if self._exchange is not None:
            self._exchange.pause_upstream()

    def resume_writing(self) -> None:
        """Let the upstream go on."""
        self.full = False
        if self._exchange is not None:
            self._exchange.resume_upstream()

    def sweep(self, now: float) -> None:
        """End what took too long."""
        limits = self._state.config.limits
        if self._exchange is not None:
            self._exchange.sweep(now)
        elif self._mode is Mode.HEAD and self._buffer and now - self._since > limits.head_s:
            self.refuse(Plan(), "head-timeout", "")
        elif self._mode is Mode.HEAD and now - self._since > limits.keep_alive_s:
            self.end()

    def recheck(self) -> None:
        """Requests are judged one by one: nothing to do between them."""

    def retire(self) -> None:
        """End it between two requests."""
        self._retires = True
        if self._mode is Mode.HEAD:
            self.end()
