"""A session: one policy, one fork server, and the confined calls made under it.

    async with Session.open(request) as session:
        result = await session.run(Command(argv=("make", "test")))

Architecture invariant: nothing a command names is executed, opened or resolved by this process;
a call can give up what its session may do and can't add to it; and a call that was cancelled
has ended, with all it started, when the cancellation leaves here.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import anyio
import anyio.to_thread

from nono_mcp import running
from nono_mcp.commands import Command, CommandError, call_for
from nono_mcp.guard import leftovers
from nono_mcp.guard.guard import Guard
from nono_mcp.guard.subtree_guard import SubtreeGuard
from nono_mcp.guard.write_through import WriteThrough
from nono_mcp.in_force import InForce
from nono_mcp.policy import guarded
from nono_mcp.recording import Recording
from nono_mcp.result import Result
from nono_mcp.running import Running
from nono_mcp.snapshots.errors import SnapshotError
from nono_mcp.undo.beneath import Unkept
from nono_mcp.undo.undo import Undo
from nono_mcp.undo.values import PutBackError, Told
from nono_sandbox.confinement import GRANT_MOVED
from nono_sandbox.errors import SandboxError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from nono_mcp.audit.session import Session as Log
    from nono_mcp.generation import Generation
    from nono_mcp.guard.action import Action
    from nono_mcp.policy.request import Request
    from nono_mcp.running import Live
    from nono_mcp.snapshots.values import Outcome, Plan, Snapshot
    from nono_mcp.undo.keeping import OnProgress
    from nono_mcp.undo.values import Kept, Wanted
    from nono_sandbox.client import Lane
    from nono_sandbox.confinement import Call

__all__ = ["Command", "CommandError", "Result", "Session"]

LANES_MAX = 32
"""Calls of one session that run at once; more wait their turn."""


class _Asked(NamedTuple):
    """A command that is to be run, and who hears of it."""

    id: str
    command: Command
    recording: Recording
    on_output: Callable[[bytes], None] | None
    live: Live | None


class Session(InForce):
    """Runs commands under one policy. Made by `open`."""

    def __init__(
        self,
        request: Request,
        tier: str | None,
        log: Log | None,
        turns: AbstractAsyncContextManager[None] | None = None,
    ) -> None:
        super().__init__(request, tier, log, self._settle)
        self._turns = turns or anyio.Semaphore(LANES_MAX, fast_acquire=True)
        self._write_through = WriteThrough()
        self._guard = Guard(request.state_dir, self._write_through)
        self._below = SubtreeGuard(request.state_dir, self._write_through)
        self._unkept = Unkept(self._below)
        self._guard.still = self._still
        self.stack = AsyncExitStack()
        """What ends before the session does, entered by whoever works with it."""
        self.undo: Undo | None = None
        """The snapshots of the workspace, if the policy wants any."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        request: Request,
        *,
        tier: str | None = None,
        log: Log | None = None,
        turns: AbstractAsyncContextManager[None] | None = None,
        writing: list[Kept] | None = None,
    ) -> AsyncIterator[Session]:
        """Start a session; *tier* insists on one, else this machine's best is taken.

        With a *log* every call is recorded there, or refused. Each call takes one of *turns*,
        where the session shares a machine with others, and *writing* is had in common by those
        that share the workspace: each call hears whether others ran meanwhile.

        Raises:
            PolicyError, RefusedError, SandboxError, SnapshotError: Nothing was started.
        """
        session = cls(request, tier, log, turns)
        try:
            async with session.stack:
                await session.current()
                session.undo = await anyio.to_thread.run_sync(
                    Undo.opened, request, session.prepared, log, session._below
                )
                if session.undo is not None and writing is not None:
                    session.undo.writing = writing
                actions = await anyio.to_thread.run_sync(
                    leftovers.put_right, session._guard, session._below
                )
                Recording(log, running.new_id(), "open", {}).guarded(actions)
                yield session
        finally:
            if session.undo is not None:
                session.undo.close()
            session._guard.close()
            session._below.close()
            session._write_through.close()
            session.retire()

    async def run(
        self,
        command: Command,
        *,
        tool: str = "run",
        asked: Mapping[str, object] | None = None,
        on_output: Callable[[bytes], None] | None = None,
        live: Live | None = None,
    ) -> Result:
        """Run *command* to its end, or to its limit's, and return what came of it.

        The log says that *tool* asked for it, and who did as *asked* has it. *on_output* sees
        every byte as it arrives. When this is cancelled, the command and all it started have been
        killed. *live* is of use while it runs.

        Raises:
            CommandError: The command can't be run as given. Nothing ran.
            AuditWriteError: The log can't be written. Nothing ran, or nothing is left of it.
            SnapshotError: The workspace couldn't be kept as it was. Nothing ran.
            SandboxError: It couldn't be confined, or its lane died. Nothing is left of it.
        """
        call_id = running.new_id() if live is None else live.id
        recording = Recording(self._log, call_id, tool, asked or {})
        one = _Asked(call_id, command, recording, on_output, live)
        async with self._turns:
            result = await self._run_judged(one)
        recording.end(result.ended, result.duration_s, result.output.total_bytes)
        return result

    async def _run_judged(self, one: _Asked) -> Result:
        """Run it under what is in force once nothing is waited for any more.

        What was enforced before somebody saves a file, says yes or puts a snapshot back isn't
        over what stands there then.
        """
        while True:
            generation = await self.current()
            try:
                call = call_for(one.command, self.prepared)
            except CommandError as error:
                one.recording.refused(str(error))
                raise
            try:
                return await self._run_on_a_lane(generation, one, call)
            except PutBackError:
                continue

    async def _run_on_a_lane(self, generation: Generation, one: _Asked, call: Call) -> Result:
        """Run *call* on a lane, and lend it the use of the proxy for as long as it runs."""
        lane = generation.take(call)
        keep = False
        loan = None
        try:
            if generation.proxy is not None and not call.narrowing.network_closed:
                loan = generation.proxy.lend(one.id, call.environment, one.command.hosts)
                call = call.replace(environment=loan.environment)
            result = await self._run_kept(generation, lane, one, call)
            if loan is not None:
                result = replace(result, hosts_refused=loan.refused())
            keep = not result.ended.is_lanes_last
            if result.ended.limit == GRANT_MOVED:
                generation.forsake()
        except (SandboxError, SnapshotError, anyio.get_cancelled_exc_class()) as error:
            cancelled = isinstance(error, anyio.get_cancelled_exc_class())
            one.recording.failed(error, cancelled=cancelled)
            raise
        finally:
            if loan is not None:
                loan.end()
            generation.give_back(lane, call, keep=keep)
        return result

    async def _run_kept(
        self, generation: Generation, lane: Lane, one: _Asked, call: Call
    ) -> Result:
        """Run *call* between two looks at the workspace, and have put right what it did there."""
        recording, stdin = one.recording, one.command.stdin
        tier, network = generation.server.tier, self._own_network(generation)
        start = partial(recording.start, call, stdin, tier, self._policy_sha256)
        async with self._kept(one.id, call, recording, start, network) as kept:
            with (
                self._guarded(recording) as actions,
                Running(lane, call, one.on_output, one.live) as program,
            ):
                program.begin(stdin)
                if self.undo is not None:
                    self.undo.commit()
                outcome = await program.to_its_end()
        return Result(one.id, *outcome, call.cwd, (*actions, *kept.guarded), kept.changed)

    def _kept(
        self,
        call_id: str,
        call: Call,
        recording: Recording,
        start: Callable[[Snapshot | None], None],
        network: int,
    ) -> AbstractAsyncContextManager[Kept]:
        if self.undo is not None:
            told = Told(start, recording.kept, recording.guarded)
            return self.undo.around(call_id, call, told, network=network)
        start(None)
        return self._unkept.around(call, recording.guarded)

    @contextmanager
    def _guarded(self, recording: Recording) -> Iterator[list[Action]]:
        """Put right, once the body has ended, what it did to what is guarded; yield what was."""
        actions = [*self._guard.begin()]
        try:
            yield actions
        finally:
            actions += self._guard.end()
            recording.guarded(actions)

    async def roll_back(
        self, wanted: Wanted, on_progress: OnProgress = None, agreed: Plan | None = None
    ) -> tuple[Outcome, list[Action]]:
        """Put a snapshot back as an agent asks, and return what came of it, and was put right.

        What is guarded stays as it is now: a snapshot may hold what a call planted.

        Raises:
            SnapshotError, AuditWriteError: As `Undo.roll_back` has it.
        """
        if self.undo is None:
            raise RuntimeError("no snapshots are kept")
        recording = Recording(self._log, running.new_id(), "rollback", {})
        below: list[Action] = []

        def told(actions: Iterable[Action]) -> None:
            below.extend(actions)
            recording.guarded(below)

        with self._guarded(recording) as actions:
            outcome = await self.undo.roll_back(wanted, on_progress, agreed, told)
        return outcome, [*actions, *below]

    async def put_right(
        self, job: str, *, tool: str, asked: Mapping[str, object]
    ) -> tuple[Action, ...]:
        """Put right what the running call *job* has done by now to what is guarded.

        Raises:
            AuditWriteError: It isn't in the log; it has been put right all the same.
        """
        below = self._unkept if self.undo is None else self.undo
        actions = (*self._guard.put_right(), *await below.put_right())
        Recording(self._log, job, tool, asked).guarded(actions)
        return actions

    def refused(self, reason: str, *, tool: str, asked: Mapping[str, object]) -> None:
        """Record that something was asked for that never got as far as `run`.

        Raises:
            AuditWriteError: It isn't in the log.
        """
        Recording(self._log, running.new_id(), tool, asked).refused(reason)

    def acted(
        self, job: str, what: Mapping[str, object], *, tool: str, asked: Mapping[str, object]
    ) -> None:
        """Record *what* is about to be done to the running call *job*.

        Raises:
            AuditWriteError: It isn't in the log. Don't do it.
        """
        Recording(self._log, running.new_id(), tool, asked).acted(job, what)

    def _settle(self) -> None:
        guarded.settle(self._guard, self.prepared)
        guarded.settle_below(self._below, self.prepared, self._request.workspace)
        if self.undo is not None:
            self.undo.settle(self._request, self.prepared)

    def _still(self, path: str) -> object:
        return None if self.undo is None else self.undo.still(path)
