"""The two sides of a tunnel that is relayed.

Architecture invariant: nothing is decided here; each side waits for the other.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from nono_proxy.streams import Stream


class Owner(Protocol):
    """Whose tunnel it is."""

    def first(self, data: bytes) -> None:
        """Judge what comes before the sides are paired."""

    def spend(self, count: int) -> None:
        """Count octets."""

    def lost(self) -> None:
        """Take the end of a side."""


class End(Stream):
    """One side of a tunnel: what it says first is its owner's to judge, then it's relayed."""

    def __init__(self, now: Callable[[], float], *, waits: bool = False) -> None:
        super().__init__()
        self._waits = waits
        self._now = now
        self.owner: Owner | None = None
        self.peer: End | None = None
        self.count = 0
        self.active = 0.0
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; a far side is read once there's somebody to pass it on to."""
        super().connection_made(transport)
        if self._waits:
            self.hold()

    def data_received(self, data: bytes) -> None:
        """Relay, or have it judged."""
        peer = self.peer
        if peer is None:
            if self.owner is not None:
                self.owner.first(data)
            return
        self.count += len(data)
        self.active = self._now()
        if peer.transport is not None:
            peer.transport.write(data)
        if self.owner is not None:
            self.owner.spend(len(data))

    def eof_received(self) -> bool:
        """Pass on the end of what this side says; where both have ended, it's over."""
        peer = self.peer
        self.ended = True
        if peer is None or peer.ended or peer.transport is None or peer.transport.is_closing():
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
