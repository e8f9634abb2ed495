"""Connections to upstreams: one answer read at a time, and kept for the next request.

Architecture invariant: nothing is decided here; an answer's head is read by `nono_proxy.grammar`,
and a connection whose answer broke the grammar is never used again.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from nono_proxy import grammar
from nono_proxy.authority import Authority
from nono_proxy.body import Body
from nono_proxy.errors import GrammarError
from nono_proxy.streams import Stream

if TYPE_CHECKING:
    from nono_proxy.exchange import Exchange

_IDLE_MAX = 64
_SWITCHING = 101
_FINAL = 200


class Upstream(Stream):
    """One connection to an upstream."""

    def __init__(self, key: "Key", head_bytes_max: int) -> None:
        super().__init__()
        self.key = key
        self.address = ""
        self.used = False
        self.idle_since = 0.0
        self._head_bytes_max = head_bytes_max
        self._exchange: Exchange | None = None
        self._buffer = b""
        self._body: Body | None = None
        self._reusable = True
        self._relay: Callable[[bytes], None] | None = None

    @property
    def idle(self) -> bool:
        """Tell whether this can take a request now."""
        return self._exchange is None and self.transport is not None and self._reusable

    def take(self, exchange: "Exchange") -> None:
        """Give the answers that come to *exchange*."""
        self._exchange = exchange
        self._body = None
        self._buffer = b""

    def relay(self, to: Callable[[bytes], None]) -> bytes:
        """Pass everything on from now; return what came behind the head."""
        self._relay = to
        self._reusable = False
        rest, self._buffer = self._buffer, b""
        return rest

    def data_received(self, data: bytes) -> None:
        """Read an answer."""
        if self._relay is not None:
            self._relay(data)
            return
        exchange = self._exchange
        if exchange is None:
            # Nobody asked: what comes now would be taken for the next answer.
            self.abort()
            return
        try:
            if self._body is None:
                data = self._read_heads(exchange, self._buffer + data)
            # An exchange that was given up takes nothing more.
            if self._body is None or self._exchange is not exchange:
                return
            if data:
                self._read_body(exchange, self._body, data)
            else:
                # What a client can act on isn't kept from it until the body comes.
                exchange.flush()
        except GrammarError as error:
            self._reusable = False
            exchange.fail("upstream-grammar", str(error))

    def _read_heads(self, exchange: "Exchange", buffer: bytes) -> bytes:
        """Read up to the final head; return what comes behind it."""
        while self._body is None and self._exchange is exchange and self._relay is None:
            end = buffer.find(b"\r\n\r\n") + 4
            if end < 4 or end > self._head_bytes_max:  # noqa: PLR2004 - not found
                if len(buffer) > self._head_bytes_max:
                    raise GrammarError("the head of a response is too large")
                self._buffer = buffer
                return b""
            head = buffer[:end]
            known = None if exchange.openings is None else exchange.openings.find(head)
            response = (
                grammar.parse_response(head, bodiless=exchange.bodiless)
                if known is None
                else known.response
            )
            buffer = buffer[end:]
            self._buffer = buffer
            if response.status == _SWITCHING:
                exchange.switch(response)
            elif response.status < _FINAL:
                exchange.interim(response)
            else:
                self._body = Body(response.length, chunked=response.chunked)
                self._reusable = response.keep_alive
                exchange.answer(head, response, self._body)
                if self._body.done and self._exchange is exchange:
                    self._finish(exchange, buffer)
                    return b""
        self._buffer = b""
        return buffer

    def _read_body(self, exchange: "Exchange", body: Body, data: bytes) -> None:
        piece, rest = body.feed(data)
        exchange.receive(piece, body)
        if body.done and self._exchange is exchange:
            self._finish(exchange, rest)

    def _finish(self, exchange: "Exchange", rest: bytes) -> None:
        """Let go of an exchange whose answer is complete."""
        self._exchange = None
        if self.diverted:
            self.divert(None)
        if rest:
            self._reusable = False
        exchange.finish()

    def eof_received(self) -> bool:
        """Take the end of what the upstream has to say; for HTTP that's the end of both."""
        self._reusable = False
        if self._relay is not None and self._exchange is not None:
            self._exchange.relayed_eof()
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the connection's end: it ends an answer, or breaks one off."""
        self.transport = None
        self._reusable = False
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if exc is not None or self._body is None or not self._body.close():
            exchange.lost()
            return
        try:
            exchange.receive(b"", self._body)
            exchange.finish()
        except GrammarError as error:
            exchange.fail("upstream-grammar", str(error))

    def pause_writing(self) -> None:
        """Let the client wait until the upstream has taken what was sent."""
        if self._exchange is not None:
            self._exchange.hold()

    def resume_writing(self) -> None:
        """Let the client go on."""
        if self._exchange is not None:
            self._exchange.release()

    def abort(self) -> None:
        """End the connection at once."""
        self._reusable = False
        self._exchange = None
        super().abort()


class Key(NamedTuple):
    """What idle connections are told apart by."""

    target: Authority
    tls: bool


class Pool:
    """Idle connections, by where they lead."""

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self._idle: dict[Key, list[Upstream]] = {}

    def take(self, key: Key) -> Upstream | None:
        """Return an idle connection, the last that was used first."""
        waiting = self._idle.get(key)
        while waiting:
            upstream = waiting.pop()
            if upstream.idle:
                return upstream
        return None

    def put(self, upstream: Upstream, now: float) -> None:
        """Keep a connection for the next request, if it can take one."""
        waiting = self._idle.setdefault(upstream.key, [])
        if not upstream.idle or len(waiting) >= _IDLE_MAX:
            upstream.abort()
            return
        # Its last octets may have filled a client's buffer, and who waited for that is gone.
        upstream.release()
        upstream.idle_since = now
        upstream.used = True
        waiting.append(upstream)

    def sweep(self, now: float) -> None:
        """Close what has been idle for too long."""
        for key, waiting in list(self._idle.items()):
            kept = [each for each in waiting if each.idle and now - each.idle_since < self._idle_s]
            for each in waiting:
                if each not in kept:
                    each.abort()
            if kept:
                self._idle[key] = kept
            else:
                del self._idle[key]

    def clear(self) -> None:
        """Close every idle connection."""
        for waiting in self._idle.values():
            for each in waiting:
                each.abort()
        self._idle.clear()
