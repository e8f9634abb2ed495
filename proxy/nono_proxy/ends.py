"""The two sides of a tunnel that is relayed.

Architecture invariant: nothing is decided here; each side waits for the other.
"""

import asyncio
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

    def __init__(self) -> None:
        super().__init__()
        self.owner: Owner | None = None
        self.peer: End | None = None
        self.count = 0
        self.active = 0.0

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
