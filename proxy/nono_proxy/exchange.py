"""One request and its answer, streamed through.

Nothing leaves before the whole head was judged, the credential is at hand, and what has come of the
body reads well. Both bodies stream, each side waiting for the other.

Architecture invariant: a redirect is an answer like any other; nothing is sent twice but a request
without a body whose kept connection turned out to be closed.
"""

import asyncio
from hashlib import sha256
from typing import TYPE_CHECKING

from nono_proxy import outgoing, rewrite, sigv4
from nono_proxy.body import Body
from nono_proxy.chunked import frame, last
from nono_proxy.config import Limits, SigV4
from nono_proxy.errors import GrammarError, Refusal
from nono_proxy.grammar import Request, Response
from nono_proxy.judge import Plan
from nono_proxy.scrub import Scrubber
from nono_proxy.state import State, record_of
from nono_proxy.upstream import Key, Upstream
from nono_proxy.vault import Credential

if TYPE_CHECKING:
    from nono_proxy.client import Client

_CONTINUE = 100
_HEAD = b"HEAD"


class Exchange:
    """A request on its way, and what comes back."""

    def __init__(self, client: "Client", state: State, plan: Plan, request: Request) -> None:
        self._client = client
        self._state = state
        self._plan = plan
        self._request = request
        self._started = state.loop.time()
        self._active = self._started
        self._upstream: Upstream | None = None
        self._body = Body(request.length, chunked=request.chunked)
        self._waiting: list[bytes] = []
        self._payload_hash: bytes | None = None
        self._holds = False
        self._scrubber: Scrubber | None = None
        self._sent = False
        self._begun = False
        self._retried = False
        self._over = False
        self._status: int | None = None
        self._chunks = False
        self._close = not request.keep_alive
        self._out: list[bytes] = []
        self._up = 0
        self._down = 0
        self.bodiless = request.method == _HEAD

    @property
    def receiving(self) -> bool:
        """Tell whether more of the request's body is to come."""
        return not self._body.done

    def start(self) -> None:
        """Send the request on: at once if everything is at hand.

        Raises:
            Refusal: It can't be signed.
        """
        if any(isinstance(each.placement, SigV4) for each in self._plan.found):
            self._payload_hash = sigv4.body_hash(self._request.fields)
            self._holds = self._payload_hash is None
            if self._holds and self._request.chunked:
                raise Refusal("length-required")
            if self._holds and self._request.length > self._limits.signed_body_bytes_max:
                raise Refusal("body-too-large")
        if not self._holds:
            self._go()
        elif self._body.done:
            self._signed(b"")

    def _go(self) -> None:
        now = self._state.loop.time()
        credential = None
        name = self._credential_name
        if name is not None:
            credential = self._state.vault.held(name, now)
        if name is None or credential is not None:
            upstream = self._state.pool.take(self._key)
            if upstream is not None:
                self._send(upstream, credential)
                return
        self._client.hold()
        self._state.run(asyncio.create_task(self._prepare(name)))

    @property
    def _limits(self) -> Limits:
        return self._state.config.limits

    @property
    def _credential_name(self) -> str | None:
        return self._plan.route.credential if self._plan.route and self._plan.found else None

    @property
    def _key(self) -> Key:
        if self._plan.target is None:
            raise AssertionError("what was judged has a target")
        return Key(self._plan.target, self._plan.tls)

    async def _prepare(self, name: str | None) -> None:
        """Fetch what isn't at hand, then send."""
        try:
            credential = await self._state.vault.fetch(name) if name is not None else None
            upstream = None if self._retried else self._state.pool.take(self._key)
            if upstream is None:
                upstream = await self._dial()
            if self._over:
                upstream.abort()
                return
            self._send(upstream, credential)
        except Refusal as refusal:
            if not self._over:
                self.fail(refusal.code, refusal.detail)
        except BaseException:
            self.cancel("failed")
            self._client.abort()
            raise

    async def _dial(self) -> Upstream:
        key = self._key
        upstream, address = await self._state.dialer.dial(
            key.target, lambda: Upstream(key, self._limits.head_bytes_max), tls=key.tls
        )
        upstream.address = address
        return upstream

    def _send(self, upstream: Upstream, credential: Credential | None) -> None:
        """Put the credential in the token's place, and send what has come of the request."""
        plan = self._plan
        if credential is not None:
            self._scrubber = Scrubber(credential.spellings)
        try:
            head = outgoing.head(self._request, plan, credential, self._payload_hash)
        except BaseException:
            upstream.abort()
            raise
        self._upstream = upstream
        self._sent = True
        self._active = self._state.loop.time()
        upstream.take(self)
        upstream.write(b"".join([head, *self._waiting]) if self._waiting else head)
        self._waiting.clear()
        self._client.release()

    def _signed(self, body: bytes) -> None:
        self._payload_hash = sha256(body).hexdigest().encode()
        self._holds = False
        self._go()

    def send_body(self, data: bytes) -> bytes:
        """Take some of the request's body; return what comes behind it.

        Raises:
            GrammarError: It isn't chunked framing; the request is never completed upstream.
        """
        piece, rest = self._body.feed(data)
        self._up += len(piece)
        self._active = self._state.loop.time()
        if not self._state.spend_bytes(self._plan.lease, len(piece)):
            self.fail("bytes-exceeded", "")
            return b""
        out = self._body.frame(piece)
        if self._upstream is not None and self._sent:
            self._upstream.write(out)
        else:
            self._waiting.append(out)
            if self._holds and self._body.done:
                self._signed(b"".join(self._waiting))
        return rest

    def answer(self, response: Response, body: Body) -> None:
        """Take the final head."""
        self._status = response.status
        fields = response.fields
        if self._scrubber is not None:
            if rewrite.encoded(fields) and not body.done:
                self.fail("upstream-encoded", "")
                return
            fields = rewrite.scrubbed(fields, self._scrubber)
            response = response._replace(reason=self._scrubber.scrub(response.reason))
        unbounded = response.chunked or response.length is None
        self._chunks = unbounded and self._request.modern
        # An answer that comes before the request is complete is the connection's last.
        self._close = self._close or self.receiving or (unbounded and not self._chunks)
        head = rewrite.response_head(
            response, fields, close=self._close, chunked=self._chunks, bodiless=self.bodiless
        )
        self._out.append(head)
        if body.done:
            self._end(body)

    def receive(self, piece: bytes, body: Body) -> None:
        """Take some of the answer's body."""
        if self._over:
            return
        self._active = self._state.loop.time()
        self._down += len(piece)
        if self._scrubber is not None:
            piece = self._scrubber.feed(piece)
            if body.done:
                piece += self._scrubber.finish()
        if piece:
            self._out.append(frame(piece) if self._chunks else piece)
        if body.done:
            self._end(body)
        self.flush()
        if not self._state.spend_bytes(self._plan.lease, len(piece)):
            self.fail("bytes-exceeded", "")

    def _end(self, body: Body) -> None:
        if self._chunks:
            trailers = body.trailers
            if self._scrubber is not None:
                trailers = rewrite.scrubbed(trailers, self._scrubber)
            self._out.append(last(trailers))

    def flush(self) -> None:
        """Write what has been gathered."""
        if self._out:
            self._begun = True
            self._client.write(self._out[0] if len(self._out) == 1 else b"".join(self._out))
            self._out.clear()

    def interim(self, response: Response) -> None:
        """Pass on the word that the body may come; others are of no use here."""
        if response.status == _CONTINUE and self._request.expects:
            self._client.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def switch(self, response: Response) -> None:
        """Relay from now on, as an upgrade that was asked for wants it."""
        upstream = self._upstream
        if self._request.upgrade is None or upstream is None or self.receiving:
            raise GrammarError("an upgrade that nobody asked for")
        self._status = response.status
        fields = response.fields
        if self._scrubber is not None:
            fields = rewrite.scrubbed(fields, self._scrubber)
        self._out.append(rewrite.response_head(response, fields, close=False, chunked=False))
        self.flush()
        self._client.relay(self._relay_up)
        rest = upstream.relay(self._relay_down)
        if rest:
            self._relay_down(rest)

    def _relay_up(self, data: bytes) -> None:
        self._active = self._state.loop.time()
        self._up += len(data)
        if self._upstream is not None:
            self._upstream.write(data)
        if not self._state.spend_bytes(self._plan.lease, len(data)):
            self.fail("bytes-exceeded", "")

    def _relay_down(self, data: bytes) -> None:
        self._active = self._state.loop.time()
        self._down += len(data)
        self._client.write(data if self._scrubber is None else self._scrubber.feed(data))
        if not self._state.spend_bytes(self._plan.lease, len(data)):
            self.fail("bytes-exceeded", "")

    def finish(self) -> None:
        """Let the upstream go: the answer is complete."""
        if self._over:
            return
        self._over = True
        self.flush()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            if self.receiving:
                upstream.abort()
            else:
                self._state.pool.put(upstream, self._state.loop.time())
        self._record("request", "allowed", "", upstream)
        self._client.done(close=self._close)

    def lost(self) -> None:
        """Take the loss of the upstream's connection."""
        upstream, self._upstream = self._upstream, None
        stale = upstream is not None and upstream.used and self._status is None
        bodiless = not self._request.length and not self._request.chunked
        if stale and bodiless and not self._retried:
            self._retried = True
            self._sent = False
            self._client.hold()
            self._state.run(asyncio.create_task(self._prepare(self._credential_name)))
        elif self._status == 101:  # noqa: PLR2004 - a relay's end is no failure
            self.cancel("closed")
            self._client.end()
        else:
            self.fail("upstream-closed", str(self._plan.target))

    def relayed_eof(self) -> None:
        """Pass on the end of what an upgraded upstream says."""
        self._client.end()

    def fail(self, code: str, detail: str) -> None:
        """End the exchange: by a refusal, or by breaking off an answer that has begun."""
        if self._over:
            return
        self._over = True
        self._out.clear()
        upstream = self._drop()
        self._record("refused", code, detail, upstream)
        if self._begun:
            self._client.abort()
        else:
            self._client.refuse_unrecorded(code, detail, self._plan, close=True)

    def cancel(self, why: str) -> None:
        """End the exchange: the client is gone."""
        if self._over:
            return
        self._over = True
        upstream = self._drop()
        self._record("request", "allowed", why, upstream)

    def _drop(self) -> Upstream | None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()
        return upstream

    def sweep(self, now: float) -> None:
        """Give up an upstream that has been silent for too long."""
        if self._sent and now - self._active > self._limits.response_s:
            self.fail("upstream-timeout", str(self._plan.target))

    def pause_client(self) -> None:
        """Read no more of the request until the upstream has taken what there is."""
        self._client.hold()

    def resume_client(self) -> None:
        """Read on."""
        self._client.release()

    def pause_upstream(self) -> None:
        """Read no more of the answer until the client has taken what there is."""
        if self._upstream is not None and self._upstream.transport is not None:
            self._upstream.transport.pause_reading()

    def resume_upstream(self) -> None:
        """Read on."""
        if self._upstream is not None and self._upstream.transport is not None:
            self._upstream.transport.resume_reading()

    def _record(self, event: str, code: str, detail: str, upstream: Upstream | None) -> None:
        record = record_of(self._plan, event, code, detail)
        self._state.record(
            record._replace(
                address=upstream.address if upstream is not None else None,
                status=self._status,
                bytes_up=self._up,
                bytes_down=self._down,
                duration_s=self._state.loop.time() - self._started,
                injected=self._scrubber is not None,
                scrubbed_count=0 if self._scrubber is None else self._scrubber.count,
            )
        )
