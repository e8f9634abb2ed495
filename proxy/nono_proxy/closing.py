"""The close of a connection whose client has yet to read what it was told.

A close while there is something unread, or unsent, becomes a reset, and a reset takes away what was
written before it (RFC 9112, 9.6): so the writing end is closed first, and the rest when the client
has taken it all.
"""

import asyncio

CHECK_S = 1.0
"""How long a client has to take something before the connection is looked at again, in seconds."""
_UNREAD_BYTES_MAX = 1 << 20


class Closing:
    """A connection on which nothing more is said."""

    __slots__ = ("_loop", "_patience_s", "_since", "_transport", "_unread")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, patience_s: float
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._patience_s = patience_s
        self._since = loop.time()
        self._unread = 0

    def begin(self) -> None:
        """Close the writing end; what the client still says is read and thrown away."""
        transport = self._transport
        if not transport.can_write_eof():
            transport.close()
            return
        transport.write_eof()
        transport.resume_reading()
        self._check_later()

    def discard(self, count: int) -> None:
        """Take that *count* octets came; who goes on talking is not waited for."""
        self._unread += count
        if self._unread > _UNREAD_BYTES_MAX:
            self._transport.abort()

    def _check_later(self) -> None:
        left = self._transport.get_write_buffer_size()
        self._loop.call_later(CHECK_S, self._check, left)

    def _check(self, left: int) -> None:
        """End it, unless the client still takes what was written."""
        now = self._loop.time()
        if self._transport.get_write_buffer_size() != left:
            self._since = now
        elif not left or now - self._since > self._patience_s:
            self._transport.abort()
            return
        self._check_later()
