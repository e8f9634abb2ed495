"""A request on its way up: held until it can be signed, sent once everything is at hand.

Nothing leaves before the whole head was judged, the credential is at hand, and what has come of the
body reads well.

Architecture invariant: nothing is sent twice but a request without a body whose kept connection
turned out to be closed.
"""

import asyncio
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from nono_proxy import bodies, outgoing, sigv4
from nono_proxy.body import Body
from nono_proxy.config import InBody, Limits, SigV4
from nono_proxy.credential import Credential
from nono_proxy.errors import Refusal
from nono_proxy.memory import Judged
from nono_proxy.state import State
from nono_proxy.upstream import Key, Upstream

if TYPE_CHECKING:
    from nono_proxy.credential import Lent
    from nono_proxy.memory import Openings
    from nono_proxy.tokens import Lease


class Sender(Protocol):
    """Whose request it is."""

    def hold(self) -> None:
        """Let no more of the request come for now."""

    def release(self) -> None:
        """Let more of it come."""

    def known(self) -> None:
        """Take whose request it is: its plan says so now."""

    def invite(self) -> None:
        """Ask for the request's body."""

    def leaves(
        self, upstream: Upstream, credential: Credential | None, openings: "Openings"
    ) -> None:
        """Take the connection on which the request leaves, and what it was lent."""

    def fail(self, code: str, detail: str) -> None:
        """Take a refusal: nothing has left."""

    def broken(self) -> None:
        """End everything: this proxy is at fault, or ending."""


class Sending:
    """One request, until its last octet has left."""

    __slots__ = (
        "_body", "_counted", "_given_up", "_holds", "_judged", "_payload_hash", "_plan",
        "_request", "_retried", "_sender", "_state", "_upstream", "_waiting",
    )  # fmt: skip

    def __init__(self, sender: Sender, state: State, judged: Judged) -> None:
        self._sender = sender
        self._state = state
        self._judged = judged
        self._plan = judged.plan
        self._request = request = judged.request
        self._body = Body(request.length, chunked=request.chunked)
        self._waiting: list[bytes] = []
        self._payload_hash: bytes | None = None
        self._holds = False
        self._counted: tuple[Lease | None, int] | None = None
        self._retried = False
        self._upstream: Upstream | None = None
        self._given_up = False

    @property
    def receiving(self) -> bool:
        """Tell whether more of the request's body is to come."""
        return not self._body.done

    @property
    def sent(self) -> bool:
        """Tell whether the head has left."""
        return self._upstream is not None

    def start(self) -> None:
        """Send the request on: at once if everything is at hand.

        Raises:
            Refusal: It can't be signed.
        """
        if self._judged.head:
            # Judged before, and neither signed nor with a token in its body.
            self._go()
            return
        self._hold_body()
        try:
            if not self._holds:
                self._go()
            elif self._body.done:
                self._whole(b"".join(self._waiting))
        except BaseException:
            self._let_go()
            raise

    def _hold_body(self) -> None:
        """Let the body wait until all of it is there, if it has to be signed or looked into.

        Raises:
            Refusal: It's too long.
        """
        longest = self._limits.token_body_bytes_max if self._plan.in_body else 0
        if any(isinstance(each.placement, SigV4) for each in self._plan.found):
            self._payload_hash = sigv4.body_hash(self._request.fields)
            longest = self._limits.signed_body_bytes_max if self._payload_hash is None else 0
        self._holds = bool(longest)
        if not self._holds:
            return
        if self._request.chunked:
            raise Refusal("length-required")
        if self._request.length > longest:
            raise Refusal("body-too-large")
        # All of it, before any has come: nobody is held up halfway.
        self._state.hold(self._plan.lease, self._request.length)
        self._counted = self._plan.lease, self._request.length
        if self._request.expects:
            # Its upstream isn't asked before the body has come: so it's asked for here.
            kept = [field for field in self._request.fields if field[0] != b"expect"]
            self._request = self._request._replace(fields=kept, expects=False)
            self._sender.invite()

    def retry(self) -> bool:
        """Send the request once more, on a new connection; tell whether that may be."""
        if self._retried or self._request.length or self._request.chunked:
            return False
        self._retried = True
        self._upstream = None
        self._state.run(asyncio.create_task(self._prepare(self._credential_name)))
        return True

    def give_up(self) -> None:
        """Send nothing any more."""
        self._given_up = True
        self._let_go()

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Take some of the request's body; return what was of it, and what comes behind it.

        Raises:
            GrammarError: It isn't chunked framing; the request is never completed upstream.
            Refusal: It can't be signed.
        """
        try:
            piece, rest = self._body.feed(data)
            out = self._body.frame(piece)
            if self._upstream is not None:
                self._upstream.write(out)
            elif not self._given_up:
                self._waiting.append(out)
                if self._holds and self._body.done:
                    self._whole(b"".join(self._waiting))
        except BaseException:
            # Nothing is held any more of a body that failed.
            self._let_go()
            raise
        return piece, rest

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

    def _whole(self, body: bytes) -> None:
        """Sign a body that has come, or look for the token in it."""
        self._holds = False
        if self._plan.in_body:
            now = self._state.loop.time()
            self._state.judge.body(self._plan, self._request, body, now)
            self._sender.known()
        else:
            self._payload_hash = sha256(body).hexdigest().encode()
        self._go()

    def _filled(self, credential: Credential) -> None:
        """Put the credential in the body, if the token stood there."""
        for found in self._plan.found:
            if isinstance(found.placement, InBody):
                body = bodies.swap(b"".join(self._waiting), found, credential.value)
                self._waiting = [body]
                self._request = self._request._replace(length=len(body))

    def _go(self) -> None:
        lent = None
        name = self._credential_name
        if name is not None:
            lent = self._state.vault.held(name, self._state.loop.time())
        if name is None or lent is not None:
            upstream = self._state.pool.take(self._key)
            if upstream is not None:
                self._send(upstream, lent)
                return
        if self.receiving:
            self._sender.hold()
        self._state.run(asyncio.create_task(self._prepare(name)))

    async def _prepare(self, name: str | None) -> None:
        """Fetch what isn't at hand, then send."""
        try:
            lent = await self._state.vault.fetch(name) if name is not None else None
            upstream = None if self._retried else self._state.pool.take(self._key)
            if upstream is None:
                upstream = await self._dial()
            if self._given_up:
                upstream.abort()
                return
            self._send(upstream, lent)
        except Refusal as refusal:
            self._sender.fail(refusal.code, refusal.detail)
        except BaseException:
            self._sender.broken()
            raise

    async def _dial(self) -> Upstream:
        key = self._key
        upstream, address = await self._state.dialer.dial(
            key.target, lambda: Upstream(key, self._limits.head_bytes_max), tls=key.tls
        )
        upstream.address = address
        return upstream

    def _send(self, upstream: Upstream, lent: "Lent | None") -> None:
        """Send what has come of the request."""
        judged = self._judged
        credential = None if lent is None else lent[0]
        head = judged.head
        if not head or judged.credential is not credential:
            head = self._made(upstream, credential)
            self._state.memory.keep(judged, head, lent)
        self._upstream = upstream
        openings = self._state.memory.openings(judged.request, lent)
        self._sender.leaves(upstream, credential, openings)
        upstream.write(b"".join([head, *self._waiting]) if self._waiting else head)
        self._let_go()
        self._sender.release()

    def _made(self, upstream: Upstream, credential: Credential | None) -> bytes:
        """Return the request's head with the credential in the token's place."""
        try:
            if credential is not None:
                self._filled(credential)
            return outgoing.head(self._request, self._plan, credential, self._payload_hash)
        except BaseException:
            upstream.abort()
            raise

    def _let_go(self) -> None:
        """Hold nothing of the body any more."""
        if self._waiting:
            self._waiting.clear()
        if self._counted is not None:
            self._state.let_go(*self._counted)
            self._counted = None
