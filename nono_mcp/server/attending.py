"""Commands run for a client that waits: it hears that they do, and they end when it leaves.

Architecture invariant: what a command is isn't known here, and nothing of it outlives its call.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
from mcp.server.mcpserver.exceptions import ToolError

from nono_mcp.audit.errors import AuditError
from nono_mcp.policy.errors import PolicyError, RefusedError
from nono_mcp.server.client_info import asked_by
from nono_mcp.server.text import amount, duration, shortened
from nono_mcp.session import CommandError
from nono_mcp.snapshots.errors import SnapshotError
from nono_sandbox.errors import SandboxError, StartError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mcp.server.mcpserver import Context

    from nono_mcp.session import Command, Result, Session

CALLS_MAX = 256
"""Commands of one server that run or wait for their turn."""
PROGRESS_S = 3.0
"""How often a client that asked for it hears that a command still runs."""
LEAVING = "nono.leaving"
"""Where in an HTTP request's scope its `Leaving` is."""
REFUSALS = (CommandError, SandboxError, PolicyError, RefusedError, AuditError, SnapshotError)
"""Why a command isn't run, for the one who wanted it to read."""


@dataclass(slots=True)
class _Watched:
    """How much a running command has printed, and who else wants to know what."""

    on_output: Callable[[bytes], None] | None
    output_bytes: int = 0

    def feed(self, chunk: bytes) -> None:
        self.output_bytes += len(chunk)
        if self.on_output is not None:
            self.on_output(chunk)


class Leaving:
    """An HTTP client that may leave; then what is done for it is cancelled."""

    def __init__(self) -> None:
        self._scopes: list[anyio.CancelScope] = []
        self._left = False

    def left(self) -> None:
        """Say that it did."""
        self._left = True
        for scope in self._scopes:
            scope.cancel()

    @contextmanager
    def cancels(self, scope: anyio.CancelScope) -> Iterator[None]:
        """Cancel *scope* when it leaves while the body runs, or has left before."""
        self._scopes.append(scope)
        if self._left:
            scope.cancel()
        try:
            yield
        finally:
            self._scopes.remove(scope)


@dataclass(slots=True)
class _Telling:
    """Tells a client now and then that its command still runs; for a short one, never begins."""

    context: Context
    watched: _Watched
    scope: anyio.CancelScope
    """Cancelled when the client can't be told any more."""
    began_at: float = field(default_factory=time.monotonic)
    timer: asyncio.TimerHandle = field(init=False)
    task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.timer = asyncio.get_running_loop().call_later(PROGRESS_S, self._begin)

    def _begin(self) -> None:
        self.task = asyncio.create_task(self._tell())
        self.task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self.scope.cancel()

    async def _tell(self) -> None:
        while True:
            elapsed_s = time.monotonic() - self.began_at
            printed = amount(self.watched.output_bytes)
            text = f"{duration(elapsed_s)}, {printed} of output so far"
            # Says nothing to a client that didn't ask for it.
            await self.context.report_progress(elapsed_s, None, text)
            await anyio.sleep(PROGRESS_S)

    async def end(self) -> None:
        """Tell no more.

        Raises what telling raised.
        """
        self.timer.cancel()
        if self.task is None:
            return
        self.task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([self.task])
        if not self.task.cancelled():
            self.task.result()


class Attendant:
    """Runs the commands of one server's clients, and no more than `CALLS_MAX` at once."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._calls_count = 0

    async def run(
        self,
        command: Command,
        tool: str,
        context: Context,
        on_output: Callable[[bytes], None] | None = None,
    ) -> Result:
        """Run *command* to its end.

        Raises:
            ToolError: It wasn't run, or nobody waits for it any more.
        """
        if self._calls_count >= CALLS_MAX:
            reason = f"{CALLS_MAX} commands run or wait already; try again later"
            self.refused(reason, tool, context)
            raise ToolError(reason)
        self._calls_count += 1
        try:
            return await self._attended(command, tool, context, _Watched(on_output))
        finally:
            self._calls_count -= 1

    def refused(self, reason: str, tool: str, context: Context) -> None:
        """Record that something was asked for that isn't going to be run.

        Raises:
            ToolError: It can't be recorded.
        """
        try:
            self.session.refused(reason, tool=tool, asked=asked_by(context))
        except AuditError as unrecorded:
            raise ToolError(f"{reason} (and not recorded: {unrecorded})") from unrecorded

    async def _attended(
        self, command: Command, tool: str, context: Context, watched: _Watched
    ) -> Result:
        """Run *command*, telling the client that it does; end it if the client leaves."""
        outcome: Result | Exception = ToolError("the client is gone")
        with anyio.CancelScope() as scope:
            telling = _Telling(context, watched, scope)
            try:
                with _leaving(context, scope):
                    outcome = await self.session.run(
                        command, tool=tool, asked=asked_by(context), on_output=watched.feed
                    )
            except REFUSALS as error:
                outcome = error
            finally:
                await telling.end()
        if isinstance(outcome, Exception):
            raise ToolError(refusal(outcome)) from outcome
        return outcome


def refusal(error: Exception) -> str:
    """Return why a command wasn't run, on one line."""
    text = shortened(str(error))
    if isinstance(error, RefusedError):
        return f"{error.code}: {text}"
    if isinstance(error, StartError):
        return f"not run (status {error.status}): {text}"
    return text


def _leaving(context: Context, scope: anyio.CancelScope) -> AbstractContextManager[None]:
    """Cancel *scope* when an HTTP client leaves; on stdio the transport cancels."""
    request = context.request_context.request
    leaving: Leaving | None = None if request is None else request.scope.get(LEAVING)
    return nullcontext() if leaving is None else leaving.cancels(scope)
