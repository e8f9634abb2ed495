"""The MCP server of one session: its tools, its instructions, and how it says no.

Architecture invariant: everything a client is offered follows from the policy in force.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

from mcp.server import NotificationOptions
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.resolve import build_resolver_plans
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from pydantic import ValidationError

from nono_mcp import __version__
from nono_mcp.audit.files import AuditError
from nono_mcp.policy import asking, offering
from nono_mcp.server import account
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
    mistakes,
    parse,
    schema,
)
from nono_mcp.server.asking import asked_by
from nono_mcp.server.attending import Attendant
from nono_mcp.server.audit_resources import AuditResources
from nono_mcp.server.audit_tools import TAIL, VERIFY, AuditTools
from nono_mcp.server.completing import Completions
from nono_mcp.server.enforcement import Enforcement
from nono_mcp.server.file_tools import FILE_TOOLS, FileTools
from nono_mcp.server.job_arguments import InputArguments, OutputArguments, StopArguments
from nono_mcp.server.job_tools import READ, SEND, STOP, JobTools
from nono_mcp.server.jobs import Jobs
from nono_mcp.server.news import News
from nono_mcp.server.outputs import Outputs
from nono_mcp.server.prompts import POLICY_URI, Prompts
from nono_mcp.server.snapshot_resources import SnapshotResources
from nono_mcp.server.tools import Tools
from nono_mcp.server.undo_tools import DIFF, LIST, NEVER, ROLLBACK, SNAPSHOT, UndoTools
from nono_sandbox.confinement import WRITE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.server.mcpserver.context import Context
    from mcp.server.mcpserver.resolve import Resolve
    from mcp.shared.message import SessionMessage
    from mcp_types import CallToolResult, InputRequiredResult, ToolAnnotations

    from nono_mcp.session import Session

NAME = "nono"
_EXPLAIN = (
    "Tell what the sandbox allows here: paths, network, limits, how it is enforced. With path "
    "(and operation) or host: whether that is allowed, by which rule, and what a person could "
    "change."
)


class App(MCPServer[None]):
    """An MCP server whose refusals are one plain line."""

    session: Session | None = None
    """Whose log is told of calls that never get as far as a tool."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool.

        Raises:
            ToolError: It wasn't done; the text tells a model why, and what to do.
        """
        try:
            return await super().call_tool(name, arguments, context)
        except UnexpectedToolError:
            raise
        except ToolError as error:
            cause = error.__cause__
            if isinstance(cause, ValidationError):
                known = [
                    list(tool.input_schema["properties"])
                    for tool in await self.list_tools()
                    if tool.name == name
                ]
                reason = f"bad arguments: {mistakes(cause, known[0])}"
                self._record_refusal(name, reason, context)
                raise ToolError(reason) from cause
            if cause is None:
                self._record_refusal(name, str(error), context)
            # The SDK puts the tool's name before it, which the caller knows.
            raise (cause if isinstance(cause, ToolError) else error) from None

    def _record_refusal(self, tool: str, reason: str, context: Context[Any, Any] | None) -> None:
        if self.session is None:
            return
        try:
            self.session.refused(reason, tool=tool, asked=asked_by(context) if context else {})
        except AuditError as error:
            raise ToolError(f"{reason} (and not recorded: {error})") from error

    def serve_subscriptions(self, news: News) -> None:
        """Serve what clients of the 2025 protocols ask for to hear of changes."""
        server = self._lowlevel_server
        news.offer(server)
        # Over HTTP there is no other place to declare it.
        server.create_initialization_options = partial(  # type: ignore[method-assign]
            server.create_initialization_options, NotificationOptions(tools_changed=True)
        )

    def replace_tools(self, tools: list[Tool]) -> None:
        """Offer *tools* instead of those offered so far."""
        known = self._tool_manager._tools  # noqa: SLF001 - the SDK adds functions, no tools
        known.clear()
        known.update({tool.name: tool for tool in tools})

    async def serve(
        self,
        received: MemoryObjectReceiveStream[SessionMessage | Exception],
        sent: MemoryObjectSendStream[SessionMessage],
    ) -> None:
        """Serve one client until it leaves, in the protocol's era that it opens with."""
        server = self._lowlevel_server
        await server.run(received, sent, server.create_initialization_options())


class _Parsed(FuncMetadata):
    """Hands a tool its arguments as a model of its own instead of one by one."""

    model: type[Arguments]

    def validate_arguments(self, arguments_to_validate: dict[str, Any]) -> dict[str, Any]:
        # The SDK's own takes a string that happens to be JSON for what it spells.
        return {"arguments": parse(self.model, arguments_to_validate)}


def build(session: Session, *, is_shared: bool = False) -> App:
    """Return the server of *session*; where it's shared, others' records aren't its clients'.

    Raises:
        RefusedError: Its policy requires what this machine can't give.
    """
    attendant = Attendant(session)
    jobs = Jobs(session)
    enforcement = Enforcement.of(session)
    tools = Tools(attendant, jobs, enforcement)
    log = session.log
    news = News()

    async def changed() -> None:
        app.replace_tools(offered())
        news.hear(POLICY_URI)
        await news.tools_changed()

    access = AccessTools(session, changed)

    def offered() -> list[Tool]:
        toolset = session.prepared.document.agent.toolset
        return [one for one in _all() if offering.is_offered(toolset, one.name)]

    def _all() -> list[Tool]:
        return [
            _tool(
                tools.run_sandboxed,
                RunArguments,
                account.run_description(session.prepared),
                account.of_running(session.prepared),
                takes_context=True,
            ),
            _tool(
                tools.explain_policy,
                ExplainArguments,
                _EXPLAIN,
                account.of_telling("Explain the sandbox's policy"),
            ),
            *_access_tools(session, access),
            *_file_tools(attendant),
            *_job_tools(session, jobs),
            *_log_tools(session, is_shared=is_shared),
            *_undo_tools(session),
        ]

    first = offered()
    names = {tool.name for tool in first}
    app = App(
        NAME,
        title="nono: confined commands",
        version=__version__,
        instructions=account.instructions(names),
        tools=first,
        subscriptions=news.bus,
        lifespan=news.telling,
        log_level="WARNING",
    )
    app.session = session
    Prompts(session, enforcement).offer(app, names)
    news.known.append(re.compile(re.escape(POLICY_URI)))
    if log is not None:
        AuditResources(session.state_dir, log, news).offer(app)
    if session.undo is not None:
        SnapshotResources(session.undo, news).offer(app)
    Outputs(jobs, news).offer(app)
    Completions(session, jobs).offer(app)
    app.serve_subscriptions(news)
    return app


def _access_tools(session: Session, access: AccessTools) -> list[Tool]:
    if asking.mode(session.prepared.document.ask) == asking.NEVER:
        return []
    about = account.of_asking()
    tool = _tool(access.request_access, AccessArguments, REQUEST, about, takes_context=True)
    return [_with_resolved(tool, access.resolved())]


def _with_resolved(tool: Tool, resolved: dict[str, tuple[Resolve, bool]]) -> Tool:
    tool.resolved_params = resolved
    tool.resolver_plans = build_resolver_plans(resolved, {"arguments"})
    return tool


def _file_tools(attendant: Attendant) -> list[Tool]:
    tools = FileTools(attendant)
    prepared = attendant.session.prepared
    writes = bool(account.theirs(prepared, WRITE))
    return [
        _tool(
            getattr(tools, one.name),
            one.model,
            one.description,
            account.of_changing(one.title) if one.writes else account.of_telling(one.title),
            takes_context=True,
        )
        for one in FILE_TOOLS
        if writes or not one.writes
    ]


def _job_tools(session: Session, jobs: Jobs) -> list[Tool]:
    tools = JobTools(session, jobs)
    running = account.of_running(session.prepared)
    sending = running.model_copy(update={"title": "Send input to a job"})
    stopping = account.of_telling("Stop a job").model_copy(update={"read_only_hint": False})
    telling = account.of_telling("Read a job's output")
    return [
        _tool(tools.read_output, OutputArguments, READ, telling),
        _tool(tools.send_input, InputArguments, SEND, sending, takes_context=True),
        _tool(tools.stop_job, StopArguments, STOP, stopping, takes_context=True),
    ]


def _log_tools(session: Session, *, is_shared: bool) -> list[Tool]:
    if session.log is None:
        return []
    tools = AuditTools(session.state_dir, session.log, session.undo, is_shared=is_shared)
    return [
        _tool(tools.audit_tail, TailArguments, TAIL, account.of_telling("Show the audit log")),
        _tool(
            tools.audit_verify, VerifyArguments, VERIFY, account.of_telling("Verify the audit log")
        ),
    ]


def _undo_tools(session: Session) -> list[Tool]:
    if session.undo is None:
        return []
    tools = UndoTools(session, session.undo)
    offered = [
        _tool(
            tools.snapshot, SnapshotArguments, SNAPSHOT, account.of_keeping(), takes_context=True
        ),
        _tool(tools.list_snapshots, ListArguments, LIST, account.of_telling("List snapshots")),
        _tool(
            tools.diff, DiffArguments, DIFF, account.of_telling("What changed"), takes_context=True
        ),
    ]
    wanted = session.prepared.document.snapshots.rollback != NEVER
    # It changes what no call of the session could, where that may not write the workspace.
    if wanted and account.may_write(session.prepared, session.undo.rules.workspace):
        about = account.of_changing("Roll the workspace back")
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
