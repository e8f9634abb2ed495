"""One request and its answer, streamed through.

Both bodies stream, each side waiting for the other.

Architecture invariant: a redirect is an answer like any other.
"""

from http import HTTPStatus
from typing import TYPE_CHECKING

from nono_proxy.answer import Answer
from nono_proxy.body import Body
from nono_proxy.credential import Credential
from nono_proxy.errors import GrammarError, Refusal
from nono_proxy.grammar import Response
from nono_proxy.memory import Judged
from nono_proxy.passing import LONG_BYTES_MIN, Passage
from nono_proxy.sending import Sending
from nono_proxy.state import Come, State, record_of
from nono_proxy.switched import Switched
from nono_proxy.upstream import Upstream
from nono_proxy.wires import Wire

if TYPE_CHECKING:
    from nono_proxy.client import Client
    from nono_proxy.memory import Openings

_GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"
# Steps of a compressed answer that are made before others have their turn.
_STEPS_MAX = 8


class Exchange:
    """A request on its way, and what comes back."""

    __slots__ = (
        "_active", "_answer", "_begun", "_client", "_complete", "_down", "_in_turn", "_out",
        "_over", "_plan", "_request", "_sending", "_started", "_state", "_up", "_upstream",
        "bodiless", "openings",
    )  # fmt: skip

    def __init__(self, client: "Client", state: State, judged: Judged, now: float) -> None:
        self._client = client
        self._state = state
        self._plan = judged.plan
        self._request = request = judged.request
        self._started = now
        self._active = now
        self._upstream: Upstream | None = None
        self._sending = Sending(self, state, judged)
        self._answer = Answer(request)
        self.openings: Openings | None = None
        """The beginnings of answers to the same request, as they were read and written before."""
        self._begun = False
        self._over = False
        self._in_turn = False
        self._complete = False
        self._out: list[bytes] = []
        self._up = 0
        self._down = 0
        self.bodiless = request.method == b"HEAD"

    @property
    def receiving(self) -> bool:
        """Tell whether more of the request's body is to come."""
        return self._sending.receiving

    def hold(self) -> None:
        """Let no more of the request come for now: it waits where its client does."""
        self._client.hold()

    def release(self) -> None:
        """Let more of it come."""
        self._client.release()

    def start(self) -> None:
        """Send the request on.

        Raises:
            Refusal: It can't be signed.
        """
        self._sending.start()

    def known(self) -> None:
        """Take whose request it is."""
        self._client.lease = self._plan.lease

    def invite(self) -> None:
        """Ask for the request's body."""
        self._client.write(_GO_ON)

    def leaves(
        self, upstream: Upstream, credential: Credential | None, openings: "Openings"
    ) -> None:
        """Take the connection on which the request leaves, and what it was lent."""
        if credential is not None:
            self._answer.lend(credential)
        self.openings = openings
        self._upstream = upstream
        upstream.take(self)
        if self._client.full:
            # Of what the last answer left there, or of a pipeline of them.
            upstream.hold()

    def send_body(self, data: bytes) -> bytes:
        """Take some of the request's body; return what comes behind it.

        Raises:
            GrammarError: It isn't chunked framing; the request is never completed upstream.
            Refusal: It can't be signed.
        """
        piece, rest = self._sending.feed(data)
        self._active = self._state.loop.time()
        self._up += len(piece)
        return rest if self._spend(len(piece)) else b""

    def _spend(self, count: int) -> bool:
        """Count octets against the call; if they are too many, it's over."""
        if self._state.spend_bytes(self._plan.lease, count):
            return True
        self.fail("bytes-exceeded", "")
        return False

    def answer(self, head: bytes, response: Response, body: Body) -> None:
        """Take the final head, as it came and as it was read."""
        try:
            openings = None if self.receiving else self.openings
            known = None if openings is None else openings.find(head)
            if known is None:
                known = self._answer.opening(response, body, receiving=self.receiving)
                if openings is not None and self._answer.repeats:
                    openings.keep(head, known)
            self._out.append(self._answer.open(known, body))
            if body.left >= LONG_BYTES_MIN and self._answer.as_it_comes:
                self._pass_on(body)
        except Refusal as refusal:
            self.fail(refusal.code, refusal.detail)

    def _pass_on(self, body: Body) -> None:
        """Let a long body go from socket to socket, where there are two."""
        upstream, into = self._upstream, self._client.transport
        if upstream is not None and isinstance(into, Wire):
            way = Passage(self._state.pipes, into, body, self._answer.clear, self._passed)
            upstream.divert(way)

    def _passed(self, count: int) -> None:
        """Take that some of the answer's body went that way."""
        self._relayed(0, count)

    def receive(self, piece: bytes, body: Body) -> None:
        """Take some of the answer's body.

        Raises:
            GrammarError: It isn't what its head says.
        """
        if self._over:
            return
        self._active = self._state.loop.time()
        self._down += len(piece)
        self._out.append(self._answer.feed(piece, body))
        if self._answer.pending:
            self._make_more()
        self.flush()
        self._spend(len(piece))

    def _make_more(self) -> None:
        """Write of a compressed answer as much as the client takes, and others can wait for."""
        for _ in range(_STEPS_MAX):
            if not self._answer.pending or self._client.full:
                break
            made = self._answer.step()
            self._out.append(made)
            self.flush()
            if not self._spend(len(made)):
                return
        if self._answer.pending:
            self.pause_upstream()
            if not self._client.full and not self._in_turn:
                self._in_turn = True
                self._state.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Make more of what a compressed answer was fed."""
        self._in_turn = False
        if self._over:
            return
        self._active = self._state.loop.time()
        try:
            self._make_more()
        except GrammarError as error:
            self.fail("upstream-grammar", str(error))
            return
        if not self._answer.pending:
            self.resume_upstream()
            if self._complete:
                self.finish()

    def flush(self) -> None:
        """Write what has been gathered."""
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        if data:
            self._begun = True
            self._client.write(data)

    def interim(self, response: Response) -> None:
        """Pass on the word that the body may come; others are of no use here."""
        if response.status == HTTPStatus.CONTINUE and self._request.expects:
            self.invite()

    def switch(self, response: Response) -> None:
        """Relay from now on, as an upgrade that was asked for wants it.

        Raises:
            GrammarError: Nobody asked for it.
        """
        upstream = self._upstream
        if upstream is None or self.receiving:
            raise GrammarError("an upgrade in the middle of a request")
        self._out.append(self._answer.switch(response))
        self.flush()
        Switched((self._client, upstream), self._answer, self._relayed, self.fail).begin()

    def _relayed(self, up: int, down: int) -> None:
        """Take that so many octets went either way."""
        self._active = self._state.loop.time()
        self._up += up
        self._down += down
        self._spend(up + down)

    def finish(self) -> None:
        """Let the upstream go: the answer is complete, and once it's written this is over."""
        self._complete = True
        if self._over or self._answer.pending:
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
        self._client.done(close=self._answer.closes)

    def lost(self) -> None:
        """Take the loss of the upstream's connection."""
        upstream, self._upstream = self._upstream, None
        if upstream and upstream.used and self._answer.status is None and self._sending.retry():
            return
        if self._answer.status == HTTPStatus.SWITCHING_PROTOCOLS:
            # A relay's end is no failure.
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
        self._sending.give_up()
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()
        return upstream

    def broken(self) -> None:
        """End everything: this proxy is at fault, or ending."""
        self.cancel("failed")
        self._client.abort()

    def sweep(self, now: float) -> None:
        """Give up an upstream that has been silent for too long."""
        if self._sending.sent and now - self._active > self._state.config.limits.response_s:
            self.fail("upstream-timeout", str(self._plan.target))

    def pause_upstream(self) -> None:
        """Read no more of the answer: the client has to take what there is."""
        if self._upstream is not None:
            self._upstream.hold()

    def resume_upstream(self) -> None:
        """Read on, unless the client is full again."""
        if self._answer.pending:
            self._go_on()
        elif self._upstream is not None and not self._client.full:
            self._upstream.release()

    def _record(self, event: str, code: str, detail: str, upstream: Upstream | None) -> None:
        answer = self._answer
        come = Come(
            upstream.address if upstream is not None else None,
            answer.status,
            self._up,
            self._down,
            self._state.loop.time() - self._started,
            answer.injected,
            answer.scrubbed_count,
        )
        self._state.record(record_of(self._plan, event, code, detail, come))
