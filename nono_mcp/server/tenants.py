"""The sessions of those who share a server, begun when they're first wanted.

A principal has one for each client that can be told from others (`addressing`), each with a fork
server, jobs, grants and records of its own, and all with the principal's policy and workspace.

Architecture invariant: nobody reaches another principal's session by naming it. Who asks has been
decided before.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING

import anyio

from nono_mcp.audit.errors import AuditError
from nono_mcp.policy.errors import PolicyError, RefusedError
from nono_mcp.server.errors import ServeError
from nono_mcp.server.fair_queue import Part
from nono_mcp.server.tenant import Allowance, Holding, Tenant
from nono_mcp.snapshots.errors import SnapshotError
from nono_sandbox.errors import SandboxError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from anyio.abc import TaskGroup
    from starlette.types import ASGIApp

    from nono_mcp.server.addressing import Who
    from nono_mcp.server.fair_queue import Turns

    Begin = Callable[["Tenant"], AbstractAsyncContextManager[ASGIApp]]

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
LEFT_S = 60.0
"""After which without a request or a stream a client of the 2025 protocols that gave no name counts
as gone, once somebody waits for what runs in its session."""
LOOK_S = 5.0
LOOKS_PER_IDLE = 4
"""How often in the time a session may be idle somebody looks whether it was."""


class BusyError(Exception):
    """It can't be served now, and may be later. Nothing was done."""


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
        self._tenants: dict[Who, Tenant] = {}
        self._holdings: dict[str, Holding] = {}

    @property
    def present(self) -> Mapping[str, Holding]:
        """Return those who have a session, and what they have."""
        return self._holdings

    @property
    def sessions(self) -> tuple[Who, ...]:
        """Return the sessions that there are."""
        return tuple(self._tenants)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Have sessions while the body runs; all end with it."""
        reason = None
        async with anyio.create_task_group() as group:
            self._group = group
            group.start_soon(self._attend)
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

    def of_protocol(self, principal: str, protocol_id: str) -> Who | None:
        """Return which of a principal's sessions has that protocol session, if one has."""
        return next(
            (
                who
                for who, tenant in self._tenants.items()
                if who.principal == principal and tenant.protocol_id == protocol_id
            ),
            None,
        )

    @contextlib.asynccontextmanager
    async def session(self, who: Who) -> AsyncIterator[Tenant]:
        """Yield a session, which serves by its `app`, for one request.

        Raises:
            BusyError: There are too many sessions, or requests of theirs.
            ServeError, PolicyError, RefusedError, SandboxError, SnapshotError, OSError: It can't
                be begun.
        """
        tenant = await self._tenant(who)
        holding = tenant.holding
        if holding.requests_count >= self._requests_max(who.principal):
            raise BusyError("too many requests at once; try again later")
        tenant.requests_count += 1
        holding.requests_count += 1
        try:
            await tenant.known.wait()
            if tenant.app is None:
                raise tenant.error or BusyError("the session ended while it began")
            with tenant.asked():
                yield tenant
        finally:
            tenant.requests_count -= 1
            holding.requests_count -= 1
            tenant.used_at = tenant.asked_at = time.monotonic()

    def _requests_max(self, principal: str) -> int:
        requests_max = self._allowances[principal].requests_max
        if sum(one.requests_count for one in self._holdings.values()) < REQUESTS_MAX:
            return requests_max
        return min(requests_max, max(1, REQUESTS_MAX // len(self._allowances)))

    async def _tenant(self, who: Who) -> Tenant:
        while True:
            tenant = self._tenants.get(who)
            if tenant is not None and not tenant.left.is_set():
                return tenant
            # Two of one name at once would be two of everything.
            tenant = self._in_the_way(who.principal) if tenant is None else tenant
            if tenant is None:
                break
            tenant.left.set()
            await tenant.ended.wait()
        if self._group is None:
            raise BusyError("this server is about to end")
        holding = self._holdings.get(who.principal)
        if holding is None:
            holding = Holding(self._turns.share(self._allowances[who.principal].calls_max))
            self._holdings[who.principal] = holding
        holding.sessions_count += 1
        tenant = Tenant(who, holding, Part(holding.share), used_at=time.monotonic())
        self._tenants[who] = tenant
        self._group.start_soon(self._live, tenant)
        return tenant

    def _in_the_way(self, principal: str) -> Tenant | None:
        """Return what has to end before a principal has one more session, if anything has.

        Raises:
            BusyError: Something has, and all that could is used.
        """
        own = self._holdings.get(principal)
        own_count = own.sessions_count if own else 0
        if own_count >= self._allowances[principal].sessions_max:
            return self._idlest({principal})
        # Whoever has one leaves room for those who have none.
        absent_count = len(self._allowances) - len(self._holdings) if own else 0
        room = self._sessions_max - len(self._tenants)
        if room > min(absent_count, self._sessions_max // 2):
            return None
        return self._idlest(
            {name for name, one in self._holdings.items() if one.sessions_count > own_count + 1}
            or {principal}
        )

    def _idlest(self, principals: set[str]) -> Tenant:
        idle = [
            one
            for who, one in self._tenants.items()
            if who.principal in principals and not one.is_used
        ]
        if not idle:
            raise BusyError("too many sessions at once; try again later")
        return min(idle, key=lambda one: one.used_at)

    async def _live(self, tenant: Tenant) -> None:
        name = tenant.who.principal
        try:
            async with contextlib.AsyncExitStack() as stack:
                async with tenant.holding.beginning:
                    app = await stack.enter_async_context(self._begin(tenant))
                tenant.app = app
                tenant.known.set()
                await tenant.left.wait()
        except NOT_BEGUN as error:
            if tenant.known.is_set():
                logging.getLogger("nono").warning("%s's session ended: %s", name, error)
            tenant.error = error
        except Exception as error:
            # Whatever it is, it's this session's: everybody else's go on.
            logging.getLogger("nono").exception("%s's session failed", name)
            tenant.error = ServeError(f"it failed: {type(error).__name__}")
        finally:
            self._forget(tenant)

    def _forget(self, tenant: Tenant) -> None:
        del self._tenants[tenant.who]
        tenant.holding.sessions_count -= 1
        if not tenant.holding.sessions_count:
            del self._holdings[tenant.who.principal]
            self._turns.leave(tenant.holding.share)
        tenant.app = None
        tenant.left.set()
        tenant.known.set()
        tenant.ended.set()

    async def _attend(self) -> None:
        idle_s = self._idle_s
        while True:
            await anyio.sleep(LOOK_S if idle_s is None else min(LOOK_S, idle_s / LOOKS_PER_IDLE))
            for principal, holding in self._holdings.items():
                if holding.share.waiting_count:
                    self._end_left(principal)
            if idle_s is not None:
                self._end_idle(idle_s)

    def _end_left(self, principal: str) -> None:
        """End the session whose client has been gone for longest, since somebody waits.

        Nobody else reaches what still runs in it, and its client may never come back.
        """
        since = time.monotonic() - LEFT_S
        left = [
            one
            for who, one in self._tenants.items()
            if who.principal == principal and who.random and not one.requests_count
            if one.known.is_set() and one.asked_at <= since and not one.left.is_set()
        ]
        if left:
            min(left, key=lambda one: one.asked_at).left.set()

    def _end_idle(self, idle_s: float) -> None:
        for tenant in tuple(self._tenants.values()):
            if tenant.is_used:
                tenant.used_at = time.monotonic()
            elif time.monotonic() - tenant.used_at >= idle_s:
                tenant.left.set()
