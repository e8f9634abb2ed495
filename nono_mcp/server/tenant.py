"""One session of those who share a server, and what is asked of it."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

    from nono_mcp.server.addressing import Who
    from nono_mcp.server.fair_queue import Part, Share

BEGINNING_MAX = 2
"""Sessions of one principal that begin at once: each takes a processor a tenth of a second."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much of a server one may have."""

    calls_max: int
    requests_max: int
    sessions_max: int


@dataclass(slots=True)
class Holding:
    """What all sessions of one principal have together."""

    share: Share
    beginning: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(BEGINNING_MAX))
    sessions_count: int = 0
    requests_count: int = 0


@dataclass(slots=True)
class Tenant:
    """One session, from before it is begun until after it has ended."""

    who: Who
    holding: Holding
    part: Part
    app: ASGIApp | None = None
    error: Exception | None = None
    protocol_id: str | None = None
    """By which its client of the 2025 protocols comes back to it."""
    requests_count: int = 0
    used_at: float = 0.0
    asked_at: float = 0.0
    """When the last request ended, whatever its jobs do."""
    known: anyio.Event = field(default_factory=anyio.Event)
    """It has begun, or it's known why not."""
    left: anyio.Event = field(default_factory=anyio.Event)
    """It is to end."""
    ended: anyio.Event = field(default_factory=anyio.Event)
    asking: dict[anyio.CancelScope, anyio.Event] = field(default_factory=dict)
    """What is asked of it, and what is set when it isn't any more."""

    @contextlib.contextmanager
    def asked(self) -> Iterator[None]:
        """Have the body ask something, until it ends: then the body is cancelled."""
        over = anyio.Event()
        with anyio.CancelScope() as scope:
            self.asking[scope] = over
            try:
                yield
            finally:
                del self.asking[scope]
                over.set()
        if scope.cancelled_caught:
            # Nobody is to be told that all went well.
            raise asyncio.CancelledError

    async def hush(self) -> None:
        """Cancel what is asked, and wait until it has ended."""
        self.left.set()
        with anyio.CancelScope(shield=True):
            while self.asking:
                for scope in self.asking:
                    scope.cancel()
                await next(iter(self.asking.values())).wait()

    @property
    def is_used(self) -> bool:
        """Tell whether somebody asks something of it, or a job of its runs."""
        return bool(self.requests_count or self.part.count)
