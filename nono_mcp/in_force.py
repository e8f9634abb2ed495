"""A policy as it is in force, and the fork server that has it.

What a person gives a running session is in force for the calls from there on: by another fork
server, while those that run keep theirs.

Architecture invariant: what is in force is what this machine enforces, and the log has it, or
nothing is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from nono_mcp.generation import Generation, ProxyStarter, start
from nono_mcp.policy.errors import PolicyError, quoted
from nono_mcp.policy.load import prepare
from nono_mcp.policy.widening import given, verify_where, widened, with_host
from nono_mcp.recording import network, policy_in_force
from nono_sandbox.confinement import NAMESPACES, OPEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from nono_mcp.audit.session import Session as Log
    from nono_mcp.policy.document import Document
    from nono_mcp.policy.request import Prepared, Request
    from nono_mcp.policy.widening import Given


class InForce:
    """What one session's calls run under; *on_change* hears each time that it's another."""

    def __init__(
        self, request: Request, tier: str | None, log: Log | None, on_change: Callable[[], None]
    ) -> None:
        self._request = request
        self._tier = tier
        self._log = log
        self._on_change = on_change
        self._given: tuple[Given, ...] = ()
        self._starting = anyio.Lock()
        self._generation: Generation | None = None
        self._current_prepared: Prepared | None = None
        self._policy_sha256 = ""
        self._proxy_starter = ProxyStarter(lambda record, use: network(log, record, use))

    @property
    def prepared(self) -> Prepared:
        """Return the policy as it is in force."""
        if self._current_prepared is None:
            raise RuntimeError("the session isn't open")
        return self._current_prepared

    @property
    def tier(self) -> str:
        """Return the tier in force."""
        return self._generation.server.tier if self._generation else ""

    @property
    def tier_reason(self) -> str:
        """Return why this isn't the first tier, if it isn't."""
        return self._generation.server.reason if self._generation else ""

    @property
    def groups_reason(self) -> str:
        """Return why no control groups hold the limits of calls, if none do."""
        return self._generation.server.groups.reason if self._generation else ""

    @property
    def log(self) -> Log | None:
        """Return where calls are recorded, if they are."""
        return self._log

    @property
    def state_dir(self) -> str:
        """Return where the sandbox keeps its own state."""
        return self._request.state_dir

    @property
    def fork_server_pid(self) -> int:
        """Return the process id of the fork server, or 0 before there is one."""
        return self._generation.server.pid if self._generation else 0

    async def grant(self, path: str, access: int, identity: tuple[int, int] | None = None) -> None:
        """Let the calls from here on reach *path* as well; those that run keep what they have.

        It is judged as if the command line had said it: protected paths and our state stay closed.
        It is given for the object that is there, with an *identity* for that one alone: when
        another takes its place, the grant is lost.

        Raises:
            PolicyError, RefusedError, SandboxError, AuditWriteError: Nothing was given.
        """
        async with self._starting:
            one = await anyio.to_thread.run_sync(given, path, access, identity)
            await self._widen(self._request, (*self._given, one))
            if one not in self._given:
                raise PolicyError(f"can't grant {quoted(path)}: something else is there now")

    async def grant_host(self, host: str) -> None:
        """Let the calls from here on reach *host* as well: HOST, HOST:PORT or *.ZONE.

        Those that run keep what they have, and a network of their own (first tier).

        Raises:
            PolicyError, RefusedError, SandboxError, AuditWriteError, OSError: Nothing was given.
        """
        async with self._starting:
            flags = with_host(self._request.flags, host, self.prepared)
            await self._widen(self._request.replace(flags=flags), self._given)

    async def foresee(self, change: Callable[[Document], Document]) -> Prepared:
        """Return the policy as it would be after *change* of what the command line says.

        Raises:
            PolicyError, RefusedError: It would be none.
        """
        flags = change(widened(self._request.flags, self._given))
        request = self._request.replace(flags=flags, tier=self.tier)
        return await anyio.to_thread.run_sync(prepare, request)

    async def _widen(self, request: Request, grants: tuple[Given, ...]) -> None:
        before = self._request, self._given
        self._request, self._given = request, grants
        try:
            fresh = await anyio.to_thread.run_sync(self._started)
        except BaseException:
            self._request, self._given = before
            raise
        self._take(fresh)

    def _take(self, fresh: Generation) -> None:
        old, self._generation = self._generation, fresh
        self._on_change()
        if old is not None:
            old.retire()

    async def current(self) -> Generation:
        """Return the fork server to use: a new one if the last died or a grant was replaced."""
        old = self._generation
        if old is not None and not self._starting.locked() and old.usable():
            return old
        async with self._starting:
            old = self._generation
            if old is not None and old.usable():
                return old
            fresh = await anyio.to_thread.run_sync(self._started)
            self._take(fresh)
            return fresh

    def _own_network(self, generation: Generation) -> int:
        """Return a process that has the network of its calls, if it isn't the machine's; else 0."""
        server = generation.server
        is_own = server.tier == NAMESPACES and self.prepared.confinement.network.mode != OPEN
        return server.pid if is_own else 0

    def retire(self) -> None:
        """Have the fork server end with its last call."""
        if self._generation is not None:
            self._generation.retire()

    def _started(self) -> Generation:
        # What isn't the object any more that it was given for is given no longer.
        grants = tuple(one for one in self._given if one.stands())
        request = self._request.replace(flags=widened(self._request.flags, grants))
        generation, prepared = start(request, self._tier, self._proxy_starter)
        try:
            verify_where(prepared, grants)
            self._policy_sha256 = policy_in_force(self._log, prepared, generation.server)
        except BaseException:
            generation.retire()
            raise
        self._given, self._current_prepared = grants, prepared
        return generation
