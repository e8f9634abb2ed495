r"""Chunked bodies, counted (RFC 9112 7.1, without extensions).

What comes out are the octets of the body; who passes them on frames them anew, so that no reader
beyond ever sees the framing that was received.

Architecture invariant: no I/O; what is kept between two calls is bounded by a head's size.
"""

import re

from nono_proxy.errors import GrammarError
from nono_proxy.grammar import Field, parse_trailers

# Fifteen digits stay below 2**60: no reader's integer overflows.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
_LINE_MAX = 17
_TRAILER_BYTES_MAX = 8192


class Chunked:
    """The state of one chunked body."""

    __slots__ = ("_end", "_left", "_rest", "done", "trailers")

    def __init__(self) -> None:
        self._rest = b""
        self._left = 0
        self._end = False
        self.done = False
        self.trailers: list[Field] = []

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the body's octets in *data*, and what comes after the body.

        Raises:
            GrammarError: It isn't chunked framing.
        """
        if self._left > len(data) and not self._rest:
            self._left -= len(data)
            return data, b""
        buffer = self._rest + data if self._rest else data
        self._rest = b""
        pieces: list[bytes] = []
        at = 0
        while not self.done and at < len(buffer):
            following = self._step(buffer, at, pieces)
            if following == at:
                break
            at = following
        if self.done:
            return b"".join(pieces), buffer[at:]
        self._rest = buffer[at:]
        return b"".join(pieces), b""

    def _step(self, buffer: bytes, at: int, pieces: list[bytes]) -> int:
        """Read one piece of framing or body; return where the next starts."""
        if self._left:
            piece = buffer[at : at + self._left]
            pieces.append(piece)
            self._left -= len(piece)
            self._end = not self._left
            return at + len(piece)
        if self._end:
            return self._crlf(buffer, at)
        match = _SIZE.match(buffer, at)
        if match is None:
            return self._partial(buffer, at)
        self._left = int(match[1], 16)
        if self._left:
            return match.end()
        return self._finish(buffer, at, match.end())

    def _crlf(self, buffer: bytes, at: int) -> int:
        """Take the line end behind a chunk."""
        found = buffer[at : at + 2]
        if found != b"\r\n"[: len(found)]:
            raise GrammarError("a chunk is longer than it says")
        if len(found) == 1:
            return at
        self._end = False
        return at + 2

    def _partial(self, buffer: bytes, at: int) -> int:
        """Keep a size that isn't all there; refuse what can't become one."""
        rest = buffer[at : at + _LINE_MAX + 1]
        if len(rest) > _LINE_MAX or re.fullmatch(rb"[0-9A-Fa-f]{1,15}\r?", rest) is None:
            raise GrammarError("not the size of a chunk")
        return at

    def _finish(self, buffer: bytes, at: int, start: int) -> int:
        """Take the trailers behind the last chunk."""
        if buffer.startswith(b"\r\n", start):
            self.done = True
            return start + 2
        end = buffer.find(b"\r\n\r\n", start)
        if end < 0:
            if len(buffer) - start > _TRAILER_BYTES_MAX:
                raise GrammarError("trailers are too large")
            return at
        if end + 4 - start > _TRAILER_BYTES_MAX:
            raise GrammarError("trailers are too large")
        self.trailers = parse_trailers(buffer[start : end + 4])
        self.done = True
        return end + 4


def frame(piece: bytes) -> bytes:
    """Return *piece* as one chunk; nothing for nothing, since an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""


def last(trailers: list[Field]) -> bytes:
    """Return the last chunk with its trailers."""
    return b"0\r\n" + b"".join(line + b"\r\n" for _, line in trailers) + b"\r\n"
