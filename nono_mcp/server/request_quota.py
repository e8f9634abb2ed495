"""What a client sends of a request, counted against what one may have the server hold.

Architecture invariant: nothing of it is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nono_mcp.server.messages import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from collections import Counter

    from starlette.types import Message, Receive

    from nono_mcp.server.attending import Leaving

HELD_BYTES_MAX = 2 * MESSAGE_BYTES_MAX
"""Of all requests of somebody's that are in hand."""


class Incoming:
    """One request's messages: that its client left is told, and what comes is counted."""

    def __init__(
        self, receive: Receive, leaving: Leaving, held_bytes: Counter[str], owner: str
    ) -> None:
        self._receive = receive
        self._leaving = leaving
        self._held_bytes = held_bytes
        self._owner = owner
        self._own_bytes = 0
        self.is_too_much = False

    async def __call__(self) -> Message:
        """Return the next message; what is too much ends as if the client had left."""
        message = await self._receive()
        # Clients of the 2025 protocols reconnect to fetch what they missed, where it is kept; here
        # it isn't, and a result that nobody can fetch is nothing to work for.
        if message["type"] == "http.disconnect":
            self._leaving.left()
            return message
        count = len(message.get("body", b""))
        self._own_bytes += count
        self._held_bytes[self._owner] += count
        if self._held_bytes[self._owner] > HELD_BYTES_MAX:
            self.is_too_much = True
            return {"type": "http.disconnect"}
        return message

    def let_go(self) -> None:
        """Count nothing of it any more."""
        self._held_bytes[self._owner] -= self._own_bytes
        self._own_bytes = 0
