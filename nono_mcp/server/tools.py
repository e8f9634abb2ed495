"""The tools: what a client calls, done by the session.

Architecture invariant: a tool does nothing by itself. What a client names is run, opened and
resolved by a confined worker, or not at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp.server.mcpserver.exceptions import ToolError

from nono_mcp.policy.decide import Deny, decide, decide_host
from nono_mcp.policy.errors import quoted
from nono_mcp.server import account, hints, results
from nono_mcp.server.attending import REFUSALS, refusal
from nono_mcp.server.text import readable, shortened
from nono_mcp.session import Command

if TYPE_CHECKING:
    from mcp.server.mcpserver import Context
    from mcp_types import CallToolResult

    from nono_mcp.server.arguments import ExplainArguments, RunArguments
    from nono_mcp.server.attending import Attendant
    from nono_mcp.server.enforcement import Enforcement
    from nono_mcp.session import Result

LOCATE_S_MAX = 5.0
_SHELL = "/bin/sh"
_HTTPS = 443


class Tools:
    """The tools of one session."""

    def __init__(self, attendant: Attendant, enforcement: Enforcement) -> None:
        self._attendant = attendant
        self._session = attendant.session
        self._enforcement = enforcement

    async def run_sandboxed(self, arguments: RunArguments, context: Context) -> CallToolResult:
        """Run a command and tell how it ended.

        Raises:
            ToolError: It wasn't run.
        """
        try:
            command = self._command(arguments)
        except ToolError as error:
            self._attendant.refused(str(error), "run_sandboxed", context)
            raise
        result = await self._attendant.run(command, "run_sandboxed", context)
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
        except REFUSALS as error:
            raise ToolError(refusal(error)) from error
        return hints.located(paths, result.ended.status, result.output.ends()[0])
