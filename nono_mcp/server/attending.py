"""Commands run for a client that waits: it hears that they do, and they end when it leaves.

Architecture invariant: what a command is isn't known here, and nothing of it outlives its call.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from mcp.server.mcpserver.exceptions import ToolError

from nono_mcp.audit.files import AuditError
from nono_mcp.policy.errors import PolicyError, RefusedError
from nono_mcp.server.asking import asked_by
from nono_mcp.server.text import amount, duration, shortened
from nono_mcp.session import CommandError
from nono_mcp.snapshots.errors import SnapshotError
from nono_sandbox.errors import SandboxError, StartError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server.mcpserver import Context

    from nono_mcp.session import Command, Result, Session

CALLS_MAX = 256
"""Commands of one server that run or wait for their turn."""
PROGRESS_S = 3.0
"""How often a client that asked for it hears that a command still runs."""
GONE = "nono.gone"
"""Where in an HTTP request's scope the event is that its client left."""
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
        async with anyio.create_task_group() as group:
            group.start_soon(_tell_progress, context, watched)
            gone = _gone(context)
            if gone is not None:
                group.start_soon(_cancel_when, gone, group.cancel_scope)
            try:
                outcome = await self.session.run(
                    command, tool=tool, asked=asked_by(context), on_output=watched.feed
                )
            except REFUSALS as error:
                outcome = error
            group.cancel_scope.cancel()
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


async def _tell_progress(context: Context, watched: _Watched) -> None:
    began_at = time.monotonic()
    while True:
        await anyio.sleep(PROGRESS_S)
        elapsed_s = time.monotonic() - began_at
        text = f"{duration(elapsed_s)}, {amount(watched.output_bytes)} of output so far"
        # Says nothing to a client that didn't ask for it.
        await context.report_progress(elapsed_s, None, text)


def _gone(context: Context) -> anyio.Event | None:
    """Return the event that an HTTP client left; on stdio the transport cancels."""
    request = context.request_context.request
    return None if request is None else request.scope.get(GONE)


async def _cancel_when(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
