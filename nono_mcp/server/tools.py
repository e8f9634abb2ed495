"""The tools: what a client calls, done by the session.

Architecture invariant: a tool does nothing by itself. What a client names is run, opened and
resolved by a confined worker, or not at all.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from mcp.server.mcpserver.exceptions import ToolError

from nono_mcp.audit.files import AuditError
from nono_mcp.policy.decide import Deny, decide, decide_host
from nono_mcp.policy.errors import PolicyError, RefusedError, quoted
from nono_mcp.server import account, hints, results
from nono_mcp.server.asking import asked_by
from nono_mcp.server.text import amount, duration, readable, shortened
from nono_mcp.session import Command, CommandError
from nono_sandbox.errors import SandboxError, StartError

if TYPE_CHECKING:
    from mcp.server.mcpserver import Context
    from mcp_types import CallToolResult

    from nono_mcp.server.arguments import ExplainArguments, RunArguments
    from nono_mcp.server.enforcement import Enforcement
    from nono_mcp.session import Result, Session

CALLS_MAX = 256
"""Commands of one server that run or wait for their turn."""
PROGRESS_S = 3.0
"""How often a client that asked for it hears that a command still runs."""
LOCATE_S_MAX = 5.0
GONE = "nono.gone"
"""Where in an HTTP request's scope the event is that its client left."""

_REFUSALS = (CommandError, SandboxError, PolicyError, RefusedError, AuditError)
_SHELL = "/bin/sh"
_HTTPS = 443


@dataclass(slots=True)
class _Watched:
    """How much a running command has printed."""

    output_bytes: int = 0

    def feed(self, chunk: bytes) -> None:
        self.output_bytes += len(chunk)


class Tools:
    """The tools of one session."""

    def __init__(self, session: Session, enforcement: Enforcement) -> None:
        self._session = session
        self._enforcement = enforcement
        self._calls_count = 0

    async def run_sandboxed(self, arguments: RunArguments, context: Context) -> CallToolResult:
        """Run a command and tell how it ended.

        Raises:
            ToolError: It wasn't run.
        """
        try:
            command = self._command(arguments)
        except ToolError as error:
            try:
                self._session.refused(str(error), tool="run_sandboxed", asked=asked_by(context))
            except AuditError as unrecorded:
                raise ToolError(f"{error} (and not recorded: {unrecorded})") from unrecorded
            raise
        self._calls_count += 1
        try:
            result = await self._attended(command, context)
        finally:
            self._calls_count -= 1
        if result.ended.failure is not None:
            status, reason = result.ended.failure
            also = "" if command.writes is None else "; writes may only name what exists"
            raise ToolError(f"not run (status {status}): {shortened(reason)}{also}")
        hint = await self._hint(command, result)
        limits = self._session.prepared.confinement.limits
        return results.of_command(result, limits, self._enforcement, hint)

    async def explain_policy(self, arguments: ExplainArguments) -> CallToolResult:
        """Tell what may be done, or which rule decides about one path or host."""
        prepared = self._session.prepared
        if arguments.host is not None:
            network = prepared.confinement.network
            verdict = decide_host(network, arguments.host, _HTTPS)
            question = f"connect to {quoted(arguments.host)}"
            operation = "connect"
        elif arguments.path is not None:
            path = hints.absolute(arguments.path, prepared.confinement.cwd, prepared.home)
            (place,) = await self._locate([path])
            operation = arguments.operation or "read"
            verdict = decide(prepared, place.path, operation, place.kind or "file")
            question = f"{operation} {quoted(place.path)}"
        else:
            return results.plain(account.summary(prepared, self._enforcement))
        denied = hints.denial(prepared, verdict, operation) if isinstance(verdict, Deny) else ""
        return results.plain(account.answer(question, verdict, denied))

    def _command(self, arguments: RunArguments) -> Command:
        if self._calls_count >= CALLS_MAX:
            raise ToolError(f"{CALLS_MAX} commands run or wait already; try again later")
        prepared = self._session.prepared
        timeout_s = arguments.timeout_s
        timeout_s_max = account.timeout_s_max(prepared)
        if timeout_s is not None and timeout_s > timeout_s_max:
            raise ToolError(f"timeout_s: must be over 0 and at most {timeout_s_max:g}")
        argv = arguments.argv or [_SHELL, "-c", arguments.command or ""]
        return Command(
            argv=tuple(argv),
            cwd=arguments.cwd,
            stdin=(arguments.stdin or "").encode(),
            timeout_s=timeout_s or account.timeout_s_default(prepared),
            environment=arguments.env or {},
            writes=None if arguments.writes is None else tuple(arguments.writes),
            network_closed=arguments.network == "none",
        )

    async def _attended(self, command: Command, context: Context) -> Result:
        """Run *command*, telling the client that it does; end it if the client leaves."""
        outcome: Result | Exception = ToolError("the client is gone")
        watched = _Watched()
        async with anyio.create_task_group() as group:
            group.start_soon(_tell_progress, context, watched)
            gone = _gone(context)
            if gone is not None:
                group.start_soon(_cancel_when, gone, group.cancel_scope)
            try:
                outcome = await self._session.run(
                    command,
                    tool="run_sandboxed",
                    asked=asked_by(context),
                    on_output=watched.feed,
                )
            except _REFUSALS as error:
                outcome = error
            group.cancel_scope.cancel()
        if isinstance(outcome, Exception):
            raise ToolError(_refusal(outcome)) from outcome
        return outcome

    async def _hint(self, command: Command, result: Result) -> str:
        """Return what the policy has to do with a failure, if it looks as if it had."""
        if result.ended.status == 0:
            return ""
        prepared = self._session.prepared
        output = readable(b"\n".join(result.output.ends()))
        home = dict(prepared.confinement.environment).get("HOME", prepared.home)
        suspected = hints.suspects(output, result.cwd, home)
        places = await self._locate([suspect.path for suspect in suspected])
        found = hints.of_paths(prepared, suspected, places) or hints.of_network(prepared, output)
        if not found and command.writes is not None and hints.mentions_refusal(output):
            return "the call's own writes may be what refused that"
        return found

    async def _locate(self, paths: list[str]) -> list[hints.Located]:
        if not paths:
            return []
        argv = (_SHELL, "-c", hints.LOCATE, _SHELL, *paths)
        command = Command(argv=argv, timeout_s=LOCATE_S_MAX, writes=(), network_closed=True)
        try:
            result = await self._session.run(command, tool="explain_policy")
        except _REFUSALS as error:
            raise ToolError(_refusal(error)) from error
        return hints.located(paths, result.ended.status, result.output.ends()[0])


def _refusal(error: Exception) -> str:
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
