"""Which tools a client is offered: those that the policy in force leaves of use.

Architecture invariant: a tool's annotations follow from the policy, never from the tool itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.server.mcpserver.resolve import build_resolver_plans
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata

from nono_mcp.policy import ceiling, toolsets
from nono_mcp.server import policy_text
from nono_mcp.server.access_tools import REQUEST, AccessTools
from nono_mcp.server.arguments import (
    AccessArguments,
    Arguments,
    DiffArguments,
    ExplainArguments,
    ListArguments,
    RollbackArguments,
    RunArguments,
    SnapshotArguments,
    TailArguments,
    VerifyArguments,
    parse,
    schema,
)
from nono_mcp.server.attending import Attendant
from nono_mcp.server.audit_tools import TAIL, TAIL_ONE, VERIFY, AuditTools
from nono_mcp.server.co_tenants import CoTenants
from nono_mcp.server.file_tools import FILE_TOOLS, FileTools
from nono_mcp.server.job_arguments import InputArguments, OutputArguments, StopArguments
from nono_mcp.server.job_tools import READ, READ_ONE, SEND, STOP, JobTools
from nono_mcp.server.tools import Tools
from nono_mcp.server.undo_tools import DIFF, LIST, NEVER, ROLLBACK, SNAPSHOT, UndoTools
from nono_sandbox.confinement import WRITE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp.server.mcpserver.resolve import Resolve
    from mcp_types import CallToolResult, ToolAnnotations

    from nono_mcp.server.enforcement import Enforcement
    from nono_mcp.server.jobs import Jobs
    from nono_mcp.session import Session

LISTING = frozenset({"audit_tail", "list_snapshots"})
"""What tells of all that a session did, where that is one client's."""
_EXPLAIN = (
    "Tell what the sandbox allows here: paths, network, limits, how it is enforced. With path "
    "(and operation) or host: whether that is allowed, by which rule, and what a person could "
    "change."
)


class _Parsed(FuncMetadata):
    """Hands a tool its arguments as a model of its own instead of one by one."""

    model: type[Arguments]

    def validate_arguments(self, arguments_to_validate: dict[str, Any]) -> dict[str, Any]:
        # The SDK's own takes a string that happens to be JSON for what it spells.
        return {"arguments": parse(self.model, arguments_to_validate)}


class Offering:
    """The tools of one session, made anew from whatever policy is in force."""

    def __init__(
        self,
        session: Session,
        jobs: Jobs,
        enforcement: Enforcement,
        co_tenants: CoTenants,
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._session = session
        self._jobs = jobs
        self._co_tenants = co_tenants
        self._attendant = Attendant(session)
        self._tools = Tools(self._attendant, jobs, enforcement)
        self._access = AccessTools(session, changed)

    def tools(self) -> list[Tool]:
        """Return those that are offered now."""
        toolset = self._session.prepared.document.agent.toolset
        return [one for one in self._all() if toolsets.is_offered(toolset, one.name)]

    def _all(self) -> list[Tool]:
        session = self._session
        return [
            _tool(
                self._tools.run_sandboxed,
                RunArguments,
                policy_text.run_description(session.prepared),
                policy_text.of_running(session.prepared),
                takes_context=True,
            ),
            _tool(
                self._tools.explain_policy,
                ExplainArguments,
                _EXPLAIN,
                policy_text.of_telling("Explain the sandbox's policy"),
            ),
            *_access_tools(session, self._access),
            *_file_tools(self._attendant),
            *_job_tools(session, self._jobs),
            *_log_tools(session, self._co_tenants),
            *_undo_tools(session, self._co_tenants),
        ]


def _access_tools(session: Session, access: AccessTools) -> list[Tool]:
    if ceiling.mode(session.prepared.document.ask) == ceiling.NEVER:
        return []
    about = policy_text.of_asking()
    tool = _tool(access.request_access, AccessArguments, REQUEST, about, takes_context=True)
    return [_with_resolved(tool, access.resolved())]


def _with_resolved(tool: Tool, resolved: dict[str, tuple[Resolve, bool]]) -> Tool:
    tool.resolved_params = resolved
    tool.resolver_plans = build_resolver_plans(resolved, {"arguments"})
    return tool


def _file_tools(attendant: Attendant) -> list[Tool]:
    tools = FileTools(attendant)
    prepared = attendant.session.prepared
    writes = bool(policy_text.theirs(prepared, WRITE))
    return [
        _tool(
            getattr(tools, one.name),
            one.model,
            one.description,
            policy_text.of_changing(one.title) if one.writes else policy_text.of_telling(one.title),
            takes_context=True,
        )
        for one in FILE_TOOLS
        if writes or not one.writes
    ]


def _job_tools(session: Session, jobs: Jobs) -> list[Tool]:
    tools = JobTools(session, jobs)
    running = policy_text.of_running(session.prepared)
    sending = running.model_copy(update={"title": "Send input to a job"})
    stopping = policy_text.of_telling("Stop a job").model_copy(update={"read_only_hint": False})
    telling = policy_text.of_telling("Read a job's output")
    return [
        _tool(tools.read_output, OutputArguments, READ if jobs.are_told else READ_ONE, telling),
        _tool(tools.send_input, InputArguments, SEND, sending, takes_context=True),
        _tool(tools.stop_job, StopArguments, STOP, stopping, takes_context=True),
    ]


def _log_tools(session: Session, co_tenants: CoTenants) -> list[Tool]:
    if session.log is None:
        return []
    tools = AuditTools(session.state_dir, session.log, session.undo, co_tenants)
    tail = TAIL_ONE if co_tenants is CoTenants.WITHIN else TAIL
    return [
        _tool(tools.audit_tail, TailArguments, tail, policy_text.of_telling("Show the audit log")),
        _tool(
            tools.audit_verify,
            VerifyArguments,
            VERIFY,
            policy_text.of_telling("Verify the audit log"),
        ),
    ]


def _undo_tools(session: Session, co_tenants: CoTenants) -> list[Tool]:
    if session.undo is None:
        return []
    tools = UndoTools(session, session.undo)
    listing = _tool(
        tools.list_snapshots, ListArguments, LIST, policy_text.of_telling("List snapshots")
    )
    offered = [
        _tool(
            tools.snapshot,
            SnapshotArguments,
            SNAPSHOT,
            policy_text.of_keeping(),
            takes_context=True,
        ),
        *([] if co_tenants is CoTenants.WITHIN else [listing]),
        _tool(
            tools.diff,
            DiffArguments,
            DIFF,
            policy_text.of_telling("What changed"),
            takes_context=True,
        ),
    ]
    wanted = session.prepared.document.snapshots.rollback != NEVER
    # It changes what no call of the session could, where that may not write the workspace.
    if wanted and policy_text.may_write(session.prepared, session.undo.rules.workspace):
        about = policy_text.of_changing("Roll the workspace back")
        rollback = _tool(tools.rollback, RollbackArguments, ROLLBACK, about, takes_context=True)
        offered.append(_with_resolved(rollback, tools.resolved()))
    return offered


def _tool(
    act: Callable[..., Awaitable[CallToolResult]],
    model: type[Arguments],
    description: str,
    annotations: ToolAnnotations,
    *,
    takes_context: bool = False,
) -> Tool:
    return Tool(
        fn=act,
        name=act.__name__,
        title=annotations.title,
        description=description,
        parameters=schema(model),
        fn_metadata=_Parsed(arg_model=ArgModelBase, model=model),
        is_async=True,
        context_kwarg="context" if takes_context else None,
        annotations=annotations,
    )
