"""The tools: what a client calls, done by the session.

Architecture invariant: a tool does nothing by itself. What a client names is run, opened and
resolved by a confined worker, or not at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from mcp.server.mcpserver.exceptions import ToolError

from nono_mcp.policy.decide import Deny, decide
from nono_mcp.policy.egress import judge_host
from nono_mcp.policy.errors import quoted
from nono_mcp.policy.home import astray
from nono_mcp.running import Live
from nono_mcp.server import hints, policy_text, results
from nono_mcp.server.attending import REFUSALS, refusal
from nono_mcp.server.client_info import asked_by
from nono_mcp.server.co_tenants import untold
from nono_mcp.server.file_calls import own_path
from nono_mcp.server.job_tools import of_job
from nono_mcp.server.jobs import Kept
from nono_mcp.server.text import readable, shortened
from nono_mcp.session import Command
from nono_sandbox.confinement import GRANT_MOVED

if TYPE_CHECKING:
    from mcp.server.mcpserver import Context
    from mcp_types import CallToolResult

    from nono_mcp.server.arguments import ExplainArguments, RunArguments
    from nono_mcp.server.attending import Attendant
    from nono_mcp.server.enforcement import Enforcement
    from nono_mcp.server.jobs import Jobs
    from nono_mcp.session import Result

LOCATE_S_MAX = 5.0
YIELD_S = 2.0
"""When a job is answered that says nothing of it: one that waits for its input."""
_SHELL = "/bin/sh"
_HTTPS = 443


class Tools:
    """The tools of one session."""

    def __init__(self, attendant: Attendant, jobs: Jobs, enforcement: Enforcement) -> None:
        self._attendant = attendant
        self._jobs = jobs
        self._cwd: str | None = None
        self._session = attendant.session
        self._enforcement = enforcement

    async def run_sandboxed(self, arguments: RunArguments, context: Context) -> CallToolResult:
        """Run a command and tell how it ended.

        Raises:
            ToolError: It wasn't run.
        """
        try:
            if arguments.keep_cwd and not self._jobs.are_told:
                raise ToolError(untold("say cwd with each call instead of keep_cwd"))  # noqa: TRY301 - recorded as the others are
            command = self._command(arguments)
        except ToolError as error:
            self._attendant.refused(str(error), "run_sandboxed", context)
            raise
        if arguments.yield_s or arguments.keep_stdin or arguments.tty:
            return await self._as_job(command, arguments, context)
        kept = Kept()
        result = await self._attendant.run(command, "run_sandboxed", context, kept.feed)
        if arguments.keep_cwd and result.ended.failure is None:
            self._cwd = command.cwd
        return await self._told(command, result, kept)

    async def _as_job(
        self, command: Command, arguments: RunArguments, context: Context
    ) -> CallToolResult:
        """Start *command* as a job; tell how it ended or, if it goes on, what it printed."""
        live = Live(takes_input=bool(arguments.keep_stdin), terminal=command.tty)
        try:
            job = self._jobs.start(command, asked_by(context), live)
        except ToolError as error:
            self._attendant.refused(str(error), "run_sandboxed", context)
            raise
        try:
            await job.wait(arguments.yield_s or YIELD_S)
        except anyio.get_cancelled_exc_class():
            await job.end()
            raise
        ran = live.is_attached if job.result is None else job.result.ended.failure is None
        if arguments.keep_cwd and ran:
            self._cwd = command.cwd
        if not job.ended:
            return results.plain(
                await of_job(job, self._session, 0) + "\n[nono] it goes on: read_output"
            )
        if job.result is None:
            raise ToolError(job.failure)
        return await self._told(command, job.result, job.output)

    async def _told(self, command: Command, result: Result, kept: Kept) -> CallToolResult:
        if result.ended.failure is not None:
            status, reason = result.ended.failure
            also = "" if command.writes is None else "; writes may only name what exists"
            if command.cwd is not None and command.cwd == self._cwd:
                also += "; that cwd is the one that was kept: say another"
            raise ToolError(f"not run (status {status}): {shortened(reason)}{also}")
        hint = await self._hint(command, result)
        limits = self._session.prepared.confinement.limits
        self._jobs.keep(command, result, kept)
        return results.of_command(result, limits, self._enforcement, hint)

    async def explain_policy(self, arguments: ExplainArguments) -> CallToolResult:
        """Tell what may be done, or which rule decides about one path or host."""
        prepared = self._session.prepared
        if arguments.host is not None:
            verdict = judge_host(prepared, arguments.host, _HTTPS)
            question = f"connect to {quoted(arguments.host)}"
            operation = "connect"
        elif arguments.path is not None:
            path = hints.absolute(arguments.path, prepared.confinement.cwd, prepared.home)
            (place,) = await self._locate([path])
            operation = arguments.operation or "read"
            verdict = decide(prepared, place.path, operation, place.kind or "file")
            question = f"{operation} {quoted(place.path)}"
        else:
            return results.plain(policy_text.summary(prepared, self._enforcement))
        denied = hints.denial(prepared, verdict, operation) if isinstance(verdict, Deny) else ""
        return results.plain(policy_text.answer(question, verdict, denied))

    def _command(self, arguments: RunArguments) -> Command:
        prepared = self._session.prepared
        timeout_s = arguments.timeout_s
        timeout_s_max = policy_text.timeout_s_max(prepared)
        if timeout_s is not None and timeout_s > timeout_s_max:
            raise ToolError(f"timeout_s: must be over 0 and at most {timeout_s_max:g}")
        goes_on = arguments.yield_s or arguments.keep_stdin or arguments.tty
        argv = arguments.argv or [_SHELL, "-c", arguments.command or ""]
        return Command(
            argv=tuple(argv),
            cwd=arguments.cwd or self._cwd,
            stdin=(arguments.stdin or "").encode(),
            timeout_s=timeout_s
            or (timeout_s_max if goes_on else policy_text.timeout_s_default(prepared)),
            tty=bool(arguments.tty),
            environment=arguments.env or {},
            writes=None if arguments.writes is None else tuple(arguments.writes),
            network_closed=arguments.network == "none",
            hosts=None if arguments.hosts is None else tuple(arguments.hosts),
        )

    async def _hint(self, command: Command, result: Result) -> str:
        """Return what the policy has to do with a failure, if it looks as if it had."""
        if result.ended.status == 0:
            return ""
        prepared = self._session.prepared
        if result.ended.limit == GRANT_MOVED:
            return astray(prepared)
        output = readable(b"\n".join(result.output.ends()))
        home = dict(prepared.confinement.environment).get("HOME", prepared.home)
        suspected = hints.suspects(output, result.cwd, home)
        places = await self._locate([suspect.path for suspect in suspected])
        found = (
            hints.of_paths(prepared, suspected, places)
            or hints.of_hosts(prepared, result.hosts_refused)
            or hints.of_network(prepared, output, result.ended.status, command.argv)
        )
        if not found and command.writes is not None and hints.mentions_refusal(output):
            return "the call's own writes may be what refused that"
        return found

    async def _locate(self, paths: list[str]) -> list[hints.Located]:
        if not paths:
            return []
        argv = (_SHELL, "-c", hints.LOCATE, _SHELL, *paths)
        command = Command(
            argv=argv,
            environment={"PATH": own_path(self._session.prepared)},
            timeout_s=LOCATE_S_MAX,
            writes=(),
            network_closed=True,
        )
        try:
            result = await self._session.run(command, tool="explain_policy")
        except REFUSALS as error:
            raise ToolError(refusal(error)) from error
        return hints.located(paths, result.ended.status, result.output.ends()[0])
