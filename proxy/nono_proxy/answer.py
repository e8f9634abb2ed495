"""An answer on its way back: decompressed where it must be, scrubbed, and framed for its client.

Architecture invariant: no I/O; octets pass through, and what a compressed body makes of itself is
made a step at a time.
"""

from typing import TYPE_CHECKING

from nono_proxy import decoding, rewrite
from nono_proxy.body import Body
from nono_proxy.chunked import frame, last
from nono_proxy.errors import GrammarError
from nono_proxy.grammar import Request, Response
from nono_proxy.memory import Opening
from nono_proxy.scrub import Scrubber
from nono_proxy.websocket import Messages

if TYPE_CHECKING:
    from nono_proxy.credential import Credential
    from nono_proxy.decoding import Decoder


class Answer:
    """The state of one answer."""

    __slots__ = (
        "_chunks",
        "_decoder",
        "_ends",
        "_messages",
        "_request",
        "_scrubber",
        "closes",
        "status",
    )

    def __init__(self, request: Request) -> None:
        self.status: int | None = None
        self.closes = not request.keep_alive
        """Whether the client's connection ends with this."""
        self._request = request
        self._scrubber: Scrubber | None = None
        self._decoder: Decoder | None = None
        self._messages: Messages | None = None
        self._chunks = False
        self._ends: Body | None = None

    def lend(self, credential: "Credential") -> None:
        """Look for a credential from now on: it goes out with the request."""
        self._scrubber = Scrubber(credential.spellings)

    @property
    def injected(self) -> bool:
        """Tell whether a credential went out with the request."""
        return self._scrubber is not None

    @property
    def scrubbed_count(self) -> int:
        """Return how often the credential came back."""
        return 0 if self._scrubber is None else self._scrubber.count

    @property
    def repeats(self) -> bool:
        """Tell whether the same head would be written in the same way once more."""
        return self._decoder is None and not self.scrubbed_count

    def opening(self, response: Response, body: Body, *, receiving: bool) -> Opening:
        """Return how an answer with that *body* begins.

        One that comes while the request is still *receiving* is the connection's last.

        Raises:
            Refusal: It can't be looked through.
        """
        read, fields = response, response.fields
        if self._scrubber is not None:
            self._decoder = None if body.done else decoding.decoder(fields)
            if self._decoder is not None:
                fields = decoding.decoded(fields)
                response = response._replace(length=None)
            fields = rewrite.scrubbed(fields, self._scrubber)
            response = response._replace(reason=self._scrubber.scrub(response.reason))
        unbounded = response.chunked or response.length is None
        chunks = unbounded and self._request.modern
        closes = self.closes or receiving or (unbounded and not chunks)
        head = rewrite.response_head(
            response,
            fields,
            close=closes,
            chunked=chunks,
            bodiless=self._request.method == b"HEAD",
        )
        return Opening(read, head, chunks, closes)

    def open(self, opening: Opening, body: Body) -> bytes:
        """Return what can be written at once of an answer that begins so."""
        self.status = opening.response.status
        self._chunks, self.closes = opening.chunks, opening.closes
        return opening.head + self._end(body) if body.done else opening.head

    def feed(self, piece: bytes, body: Body) -> bytes:
        """Take some of the body; return what can be written of it at once.

        Raises:
            GrammarError: It isn't what its head says.
        """
        if self._decoder is None:
            out = self._framed(piece)
            return out + self._end(body) if body.done else out
        self._decoder.feed(piece)
        self._ends = body if body.done else None
        return b""

    @property
    def as_it_comes(self) -> bool:
        """Tell whether the body is passed on as it comes, but for what is scrubbed."""
        return self._decoder is None and not self._chunks

    def clear(self, data: bytes) -> int:
        """Return how much of the body's next octets can be passed on without being fed."""
        return len(data) if self._scrubber is None else self._scrubber.clear(data)

    @property
    def pending(self) -> bool:
        """Tell whether more is to be made of what was fed."""
        if self._decoder is None:
            return False
        return self._decoder.pending or self._ends is not None

    def step(self) -> bytes:
        """Return some more of it.

        Raises:
            GrammarError: It isn't compressed as it says.
        """
        out = b""
        if self._decoder is not None:
            out = self._framed(self._decoder.step())
            if self._ends is not None and not self._decoder.pending:
                self._decoder.finish()
                out += self._end(self._ends)
                self._ends = None
        return out

    def _end(self, body: Body) -> bytes:
        rest = b""
        trailers = body.trailers
        if self._scrubber is not None:
            rest = self._scrubber.finish()
            trailers = rewrite.scrubbed(trailers, self._scrubber)
        return (frame(rest) + last(trailers)) if self._chunks else rest

    def _framed(self, piece: bytes) -> bytes:
        if self._scrubber is not None:
            piece = self._scrubber.feed(piece)
        return frame(piece) if self._chunks else piece

    def switch(self, response: Response) -> bytes:
        """Return the head of an upgrade that was asked for.

        Raises:
            GrammarError: It wasn't.
        """
        if self._request.upgrade is None or response.upgrade is None:
            raise GrammarError("an upgrade that nobody asked for")
        self.status = response.status
        fields = response.fields
        if self._scrubber is not None:
            self._messages = Messages(self._scrubber)
            fields = rewrite.scrubbed(fields, self._scrubber)
        return rewrite.response_head(response, fields, close=False, chunked=False)

    def relay(self, data: bytes) -> bytes:
        """Return what can be passed on of what comes behind an upgrade.

        Raises:
            GrammarError: It isn't what was upgraded to.
        """
        return data if self._messages is None else self._messages.feed(data)
