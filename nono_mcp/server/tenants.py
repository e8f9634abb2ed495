"""The sessions of those who share a server: each has one of its own, begun when it's first wanted.

A session is a principal's: policy, workspace, fork server, jobs, snapshots, records.

Architecture invariant: nobody reaches a session by naming it. Who asks has been decided before.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from nono_mcp.audit.files import AuditError
from nono_mcp.policy.errors import PolicyError, RefusedError
from nono_mcp.server.errors import ServeError
from nono_mcp.snapshots.errors import SnapshotError
from nono_sandbox.errors import SandboxError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from anyio.abc import TaskGroup
    from starlette.types import ASGIApp

    from nono_mcp.server.turns import Share, Turns

    Begin = Callable[[str, Share], AbstractAsyncContextManager[ASGIApp]]

NOT_BEGUN = (
    ServeError,
    PolicyError,
    RefusedError,
    SandboxError,
    SnapshotError,
    AuditError,
    OSError,
)
"""Why a session isn't to be had, for its owner to read."""
REQUESTS_MAX = 256
"""Requests of everybody at once; from there on each has an equal part of them, and one at least."""
LOOKS_PER_IDLE = 4
"""How often in the time a session may be idle somebody looks whether it was."""


class BusyError(Exception):
    """It can't be served now, and may be later. Nothing was done."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much of a server one may have."""

    calls_max: int
    requests_max: int


@dataclass(slots=True)
class Tenant:
    """One's session, from before it is begun until after it has ended."""

    name: str
    share: Share
    app: ASGIApp | None = None
    error: Exception | None = None
    requests_count: int = 0
    used_at: float = 0.0
    known: anyio.Event = field(default_factory=anyio.Event)
    """It has begun, or it's known why not."""
    left: anyio.Event = field(default_factory=anyio.Event)
    """It is to end."""
    ended: anyio.Event = field(default_factory=anyio.Event)


class Tenants:
    """Begins sessions, ends those that nobody uses, and bounds both."""

    def __init__(
        self,
        begin: Begin,
        allowances: Mapping[str, Allowance],
        turns: Turns,
        *,
        sessions_max: int,
        idle_s: float | None = None,
    ) -> None:
        self._begin = begin
        self._allowances = allowances
        self._turns = turns
        self._sessions_max = sessions_max
        self._idle_s = idle_s
        self._group: TaskGroup | None = None
        self._tenants: dict[str, Tenant] = {}

    @property
    def present(self) -> tuple[Tenant, ...]:
        """Return those who have a session."""
        return tuple(self._tenants.values())

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Have sessions while the body runs; all end with it."""
        reason = None
        async with anyio.create_task_group() as group:
            self._group = group
            if self._idle_s is not None:
                group.start_soon(self._end_idle, self._idle_s)
            try:
                yield
            except NOT_BEGUN as error:
                # It goes on from here by itself, and not as one of a group's.
                reason = error
            finally:
                self._group = None
                group.cancel_scope.cancel()
        if reason is not None:
            raise reason

    @contextlib.asynccontextmanager
    async def session(self, name: str) -> AsyncIterator[ASGIApp]:
        """Yield what serves *name*, for one request.

        Raises:
            BusyError: There are too many sessions, or requests of theirs.
            ServeError, PolicyError, RefusedError, SandboxError, SnapshotError, OSError: Theirs
                can't be begun.
        """
        tenant = await self._tenant(name)
        if tenant.requests_count >= self._requests_max(name):
            raise BusyError("too many requests at once; try again later")
        tenant.requests_count += 1
        try:
            await tenant.known.wait()
            if tenant.app is None:
                raise tenant.error or BusyError("the session ended while it began")
            yield tenant.app
        finally:
            tenant.requests_count -= 1
            tenant.used_at = time.monotonic()

    def _requests_max(self, name: str) -> int:
        requests_max = self._allowances[name].requests_max
        if sum(one.requests_count for one in self._tenants.values()) < REQUESTS_MAX:
            return requests_max
        return min(requests_max, max(1, REQUESTS_MAX // self._sessions_max))

    async def _tenant(self, name: str) -> Tenant:
        while (tenant := self._tenants.get(name)) is not None and tenant.left.is_set():
            # Two sessions of one's at once would be two of everything.
            await tenant.ended.wait()
        if tenant is not None:
            return tenant
        if self._group is None or len(self._tenants) >= self._sessions_max:
            raise BusyError("too many sessions at once; try again later")
        share = self._turns.share(self._allowances[name].calls_max)
        tenant = self._tenants[name] = Tenant(name, share, used_at=time.monotonic())
        self._group.start_soon(self._live, tenant)
        return tenant

    async def _live(self, tenant: Tenant) -> None:
        try:
            async with self._begin(tenant.name, tenant.share) as app:
                tenant.app = app
                tenant.known.set()
                await tenant.left.wait()
        except NOT_BEGUN as error:
            if tenant.known.is_set():
                logging.getLogger("nono").warning("%s's session ended: %s", tenant.name, error)
            tenant.error = error
        except Exception as error:
            # Whatever it is, it's this session's: everybody else's go on.
            logging.getLogger("nono").exception("%s's session failed", tenant.name)
            tenant.error = ServeError(f"it failed: {type(error).__name__}")
        finally:
            del self._tenants[tenant.name]
            self._turns.leave(tenant.share)
            tenant.app = None
            tenant.left.set()
            tenant.known.set()
            tenant.ended.set()

    async def _end_idle(self, idle_s: float) -> None:
        while True:
            await anyio.sleep(idle_s / LOOKS_PER_IDLE)
            for tenant in self.present:
                # A job that runs has a turn.
                if tenant.requests_count or tenant.share.running_count:
                    tenant.used_at = time.monotonic()
                elif time.monotonic() - tenant.used_at >= idle_s:
                    tenant.left.set()
