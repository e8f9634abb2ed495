"""The proxy's own transports for sockets without TLS; as asyncio's are, at half the cost.

Architecture invariant: nothing is decided here, and nothing is read that nobody waits for.
"""

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from nono_proxy import waiting
from nono_proxy.pipes import Pipe
from nono_proxy.watching import READ, WRITE, Watch

if TYPE_CHECKING:
    from nono_proxy.passing import Passage

_PIECE_BYTES = 262144
# So many before others have their turn.
_PIECES_MAX = 4
_HIGH, _LOW = 65536, 16384


def _nothing() -> None:
    """Do nothing."""


class Wire(asyncio.Transport):
    """A connected socket and its protocol."""

    # `loop.start_tls` asks for it, and for `_force_close`.
    _start_tls_compatible = True

    def __init__(
        self,
        by: Watch,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        gone: Callable[[], None] = _nothing,
    ) -> None:
        super().__init__()
        self._gone = gone
        self._by = by
        self._loop = loop
        self._sock = sock
        self._descriptor = sock.fileno()
        self._events = 0
        self._paused = True
        self._closing = False
        self._ends = False
        self._lost = False
        self._out: waiting.Waiting = deque()
        self._passage: Passage | None = None
        self._size = 0
        self._high, self._low = _HIGH, _LOW
        self._full = False
        self.set_protocol(protocol)

    def begin(self, *, asked: bool = False) -> None:
        """Tell the protocol, and read: at once if the other side is likely to have *asked*."""
        try:
            self._paused = False
            self._protocol.connection_made(self)
            if asked and self.is_reading():
                self._read()
        except Exception as error:  # noqa: BLE001 - a protocol's fault ends its connection
            self._fail(error)
        self._wait()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Tell *protocol* from now on."""
        self._protocol = protocol
        self._plain = protocol if isinstance(protocol, asyncio.Protocol) else None

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return who is told."""
        return self._protocol

    def is_closing(self) -> bool:
        """Tell whether the end has begun."""
        return self._closing

    def is_reading(self) -> bool:
        """Tell whether what comes is read."""
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        """Read no more for now."""
        if not self._paused:
            self._paused = True
            self._wait()

    def resume_reading(self) -> None:
        """Read on."""
        if self._paused and not self._closing:
            self._paused = False
            self._wait()

    def _wait(self) -> None:
        """Watch for what can be acted on."""
        events = 0 if self._paused or self._closing else READ
        if self._out:
            events |= WRITE
        if events != self._events:
            self._events = events
            self._by.set(self._descriptor, self, events)

    def ready(self, events: int, /) -> None:
        """Write and read what can be written and read now."""
        try:
            if self._out and events & ~READ:
                self._drain()
            if events & ~WRITE and self._events & READ:
                self._read()
        except Exception as error:  # noqa: BLE001 - a protocol's fault ends its connection
            self._fail(error)

    def _read(self) -> None:
        """Read a piece, and on while as much comes as is taken at once."""
        for _ in range(_PIECES_MAX):
            plain, passage = self._plain, self._passage
            try:
                if passage is not None and passage.move(self._sock):
                    if self._events & READ:
                        continue
                    return
                data = self._sock.recv(_PIECE_BYTES) if plain is not None else self._read_into()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._fail(error)
                return
            if not data:
                self._end()
            elif plain is not None:
                plain.data_received(data)
            if len(data) < _PIECE_BYTES or not self._events & READ:
                return

    def divert(self, passage: "Passage | None") -> None:
        """Let what comes take that way as far as it leads."""
        self._passage = passage

    def _read_into(self) -> bytes:
        """Read a piece into what a protocol wants to have filled; return nothing at the end."""
        protocol = self._protocol
        if not isinstance(protocol, asyncio.BufferedProtocol):
            raise TypeError("a protocol is told of data, or of a buffer")
        count = self._sock.recv_into(protocol.get_buffer(-1))
        if count:
            protocol.buffer_updated(count)
        return b"." if count else b""

    def _end(self) -> None:
        """Take the end of what the other side says."""
        protocol = self._protocol
        keeps: object = None
        if isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol):
            keeps = protocol.eof_received()
        if keeps:
            self.pause_reading()
        else:
            self.close()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, now or when there's room."""
        if self._ends:
            raise RuntimeError("nothing can be written behind the end")
        if not data or self._lost or (self._closing and not self._out):
            return
        if not self._out:
            try:
                count = self._sock.send(data)
            except (BlockingIOError, InterruptedError):
                count = 0
            except OSError as error:
                self._fail(error)
                return
            if count == len(data):
                return
            data = memoryview(data)[count:]
        self._out.append(memoryview(data))
        self._size += len(data)
        self._wait()
        if self._size > self._high and not self._full:
            self._full = True
            self._protocol.pause_writing()

    def write_pipe(self, pipe: Pipe) -> None:
        """Send what *pipe* holds, where nothing else waits."""
        if self._lost or self._closing:
            pipe.leave()
            return
        self._out.append(pipe)
        self._size += pipe.held
        self._drain()
        if self._out:
            self._wait()
            if not self._full:
                self._full = True
                self._protocol.pause_writing()

    def _drain(self) -> None:
        """Send what waits."""
        out = self._out
        try:
            self._size -= waiting.send(self._sock, out)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(error)
            return
        if not out:
            self._wait()
            if self._closing:
                self._lose(None)
            elif self._ends:
                self._say_end()
        if self._full and self._size <= self._low:
            self._full = False
            self._protocol.resume_writing()

    def can_write_eof(self) -> bool:
        """Tell that one side can end before the other."""
        return True

    def write_eof(self) -> None:
        """Say no more once everything is written."""
        if self._ends or self._closing:
            return
        self._ends = True
        if not self._out:
            self._say_end()

    def _say_end(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Say from how much on the protocol is to wait, and down to how much."""
        self._high = _HIGH if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        """Return how much waits."""
        return self._size

    def close(self) -> None:
        """End when everything is written."""
        if self._closing:
            return
        self._closing = True
        self._wait()
        if not self._out:
            self._lose(None)

    def abort(self) -> None:
        """End at once."""
        self._force_close(None)

    def stop(self) -> None:
        """End: nobody watches any more."""
        self._force_close(None)

    def _fail(self, error: Exception) -> None:
        """End at once for a reason; one that isn't the network's is the loop's to tell of."""
        if not isinstance(error, OSError):
            self._loop.call_exception_handler(
                {"message": "a connection failed", "exception": error, "transport": self}
            )
        self._force_close(error)

    def _force_close(self, error: Exception | None) -> None:
        self._closing = True
        waiting.drop(self._out)
        self._size = 0
        self._wait()
        self._lose(error)

    def _lose(self, error: Exception | None) -> None:
        """Tell the protocol that it's over, from the loop: it may be in the middle of something."""
        if not self._lost:
            self._lost = True
            self._loop.call_soon(self._bury, error)

    def _bury(self, error: Exception | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._sock.close()
            self._gone()
