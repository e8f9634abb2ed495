"""How much of a message's body is still to come, however it is framed (RFC 9112 6).

Architecture invariant: no I/O; octets pass through, none are kept.
"""

from nono_proxy.chunked import Chunked, frame, last
from nono_proxy.grammar import Field


class Body:
    """The state of one body: counted, chunked, or until the connection closes."""

    __slots__ = ("_chunks", "_left", "done")

    def __init__(self, length: int | None, *, chunked: bool) -> None:
        self._chunks = Chunked() if chunked else None
        self._left = length
        self.done = length == 0 and not chunked

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the body's octets in *data*, and what comes after the body.

        Raises:
            GrammarError: It isn't chunked framing.
        """
        if self._chunks is not None:
            found = self._chunks.feed(data)
            self.done = self._chunks.done
            return found
        if self._left is None:
            return data, b""
        mine, rest = data[: self._left], data[self._left :]
        self._left -= len(mine)
        self.done = not self._left
        return mine, rest

    @property
    def left(self) -> int:
        """Return how much is still to come; nothing if that isn't known."""
        return self._left or 0

    def skip(self, count: int) -> None:
        """Take *count* of what is left, that went another way."""
        if self._left is None or count >= self._left:
            raise ValueError("a body's end is fed")
        self._left -= count

    def frame(self, piece: bytes) -> bytes:
        """Return *piece* as it is sent on: chunks are framed anew, the last with its trailers."""
        if self._chunks is None:
            return piece
        framed = frame(piece)
        return framed + last(self._chunks.trailers) if self._chunks.done else framed

    @property
    def trailers(self) -> list[Field]:
        """Return the fields behind a chunked body."""
        return [] if self._chunks is None else self._chunks.trailers

    def close(self) -> bool:
        """Take the connection's end; tell whether that ends the body."""
        if self._chunks is None and self._left is None:
            self.done = True
        return self.done
