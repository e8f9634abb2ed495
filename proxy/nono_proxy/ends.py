"""The two sides of a tunnel that is relayed.

Architecture invariant: nothing is decided here; each side waits for the other.
"""

import asyncio
from typing import Protocol

_WRITE_HIGH = 262144


class Owner(Protocol):
    """Whose tunnel it is."""

    def first(self, data: bytes) -> None:
        """Judge what comes before the sides are paired."""

    def spend(self, count: int) -> None:
        """Count octets."""

    def lost(self) -> None:
        """Take the end of a side."""


class End(asyncio.Protocol):
    """One side of a tunnel: what it says first is its owner's to judge, then it's relayed."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.owner: Owner | None = None
        self.peer: End | None = None
        self.count = 0
        self.active = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream has a transport that reads and writes")
        self.transport = transport
        transport.set_write_buffer_limits(_WRITE_HIGH)

    def data_received(self, data: bytes) -> None:
        """Relay, or have it judged."""
        peer = self.peer
        if peer is None:
            if self.owner is not None:
                self.owner.first(data)
            return
        self.count += len(data)
        self.active = asyncio.get_running_loop().time()
        if peer.transport is not None:
            peer.transport.write(data)
        if self.owner is not None:
            self.owner.spend(len(data))

    def eof_received(self) -> bool:
        """Pass on the end of what this side says."""
        peer = self.peer
        if peer is None or peer.transport is None or peer.transport.is_closing():
            return False
        peer.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner."""
        del exc
        self.transport = None
        if self.owner is not None:
            self.owner.lost()

    def pause_writing(self) -> None:
        """Let the other side wait."""
        if self.peer is not None:
            self.peer.hold()

    def resume_writing(self) -> None:
        """Let the other side go on."""
        if self.peer is not None:
            self.peer.release()

    def hold(self) -> None:
        """Read no more for now."""
        if self.transport is not None:
            self.transport.pause_reading()

    def release(self) -> None:
        """Read on."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def close(self) -> None:
        """Close when all is written."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """End it at once."""
        if self.transport is not None:
            self.transport.abort()
