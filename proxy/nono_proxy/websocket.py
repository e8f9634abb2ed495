"""A WebSocket's frames towards the client, scrubbed message by message (RFC 6455 5).

What is found stands in a message, however it is cut into frames; so payloads are framed anew, as an
intermediary may where no extension was agreed on (5.4), and an end that was held back is let go
with its message: nobody waits for what comes next to read what came.

Architecture invariant: no I/O; what is kept between two calls is shorter than a credential's form
and a control frame together.
"""

from typing import NamedTuple

from nono_proxy.errors import GrammarError
from nono_proxy.scrub import Scrubber

_CONTINUATION, _TEXT, _BINARY = 0, 1, 2
_DATA = frozenset({_CONTINUATION, _TEXT, _BINARY})
_CONTROL = frozenset({8, 9, 10})
_CONTROL_BYTES_MAX = 125
_SHORT, _LONG = 126, 127
_LONG_MAX = 1 << 63


class _Frame(NamedTuple):
    final: bool
    opcode: int
    length: int


class Messages:
    """The state of one scrubbed WebSocket, from its server to its client."""

    __slots__ = ("_buffer", "_frame", "_left", "_message", "_scrubber")

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._buffer = b""
        self._frame: _Frame | None = None
        self._left = 0
        # The opcode that the next frame of the message has; None between messages.
        self._message: int | None = None

    def feed(self, data: bytes) -> bytes:
        """Return what can be passed on of *data*.

        Raises:
            GrammarError: These aren't a server's frames, or of an extension that nobody asked for.
        """
        buffer = self._buffer + data if self._buffer else data
        out: list[bytes] = []
        at = 0
        while True:
            if self._frame is None:
                found = self._head(buffer, at)
                if found is None:
                    break
                self._frame, at = found
                self._left = self._frame.length
            take = self._control if self._frame.opcode in _CONTROL else self._data
            at = take(self._frame, buffer, at, out)
            if self._left:
                break
            self._frame = None
        self._buffer = buffer[at:]
        return b"".join(out)

    def _head(self, buffer: bytes, at: int) -> tuple[_Frame, int] | None:
        """Read the head of a frame; return it and where its payload starts."""
        if len(buffer) < at + 2:
            return None
        first, second = buffer[at], buffer[at + 1]
        final, opcode = bool(first & 0x80), first & 0x0F
        if first & 0x70 or second & 0x80:
            raise GrammarError("a frame of an extension, or masked")
        length, end = second, at + 2
        if length >= _SHORT:
            end += 2 if length == _SHORT else 8
            if len(buffer) < end:
                return None
            length = int.from_bytes(buffer[at + 2 : end], "big")
        if length >= _LONG_MAX:
            raise GrammarError("a frame is too long")
        self._verify(final=final, opcode=opcode, length=length)
        return _Frame(final, opcode, length), end

    def _verify(self, *, final: bool, opcode: int, length: int) -> None:
        if opcode in _CONTROL:
            if not final or length > _CONTROL_BYTES_MAX:
                raise GrammarError("a control frame is cut, or too long")
        elif opcode not in _DATA or (opcode == _CONTINUATION) == (self._message is None):
            raise GrammarError("a frame that continues nothing, or begins within a message")
        elif opcode != _CONTINUATION:
            self._message = opcode

    def _control(self, frame: _Frame, buffer: bytes, at: int, out: list[bytes]) -> int:
        """Take a control frame's payload as a whole, if it has come; return where it ended."""
        end = at + frame.length
        if len(buffer) >= end:
            self._left = 0
            out.append(_framed(self._scrubber.scrub(buffer[at:end]), frame.opcode, final=True))
            return end
        return at

    def _data(self, frame: _Frame, buffer: bytes, at: int, out: list[bytes]) -> int:
        """Take what has come of a frame's payload; return where that ended."""
        piece = buffer[at : at + self._left]
        self._left -= len(piece)
        clean = self._scrubber.feed(piece)
        ends = frame.final and not self._left
        if ends:
            clean += self._scrubber.finish()
        if clean or ends:
            out.append(_framed(clean, self._message or _CONTINUATION, final=ends))
            self._message = None if ends else _CONTINUATION
        return at + len(piece)


def _framed(payload: bytes, opcode: int, *, final: bool) -> bytes:
    """Return *payload* as one frame."""
    first = opcode | (0x80 if final else 0)
    size = len(payload)
    if size < _SHORT:
        return bytes((first, size)) + payload
    if size < 1 << 16:
        return bytes((first, _SHORT)) + size.to_bytes(2, "big") + payload
    return bytes((first, _LONG)) + size.to_bytes(8, "big") + payload
