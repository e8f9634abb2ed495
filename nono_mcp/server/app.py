"""The MCP server of one session: its tools, its instructions, and how it says no.

Architecture invariant: everything a client is offered follows from the policy in force, and from
who else is served.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

from mcp.server import NotificationOptions
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS
from pydantic import ValidationError

from nono_mcp import __version__
from nono_mcp.audit.errors import AuditError
from nono_mcp.audit.spans import configured_tracer
from nono_mcp.server import policy_text
from nono_mcp.server.arguments import mistakes
from nono_mcp.server.audit_resources import AuditResources
from nono_mcp.server.client_info import asked_by
from nono_mcp.server.co_tenants import CoTenants
from nono_mcp.server.completing import Completions
from nono_mcp.server.direct_calls import DirectCalls
from nono_mcp.server.enforcement import Enforcement
from nono_mcp.server.jobs import Jobs
from nono_mcp.server.notifications import Notifications
from nono_mcp.server.offered import LISTING, Offering
from nono_mcp.server.outputs import Outputs
from nono_mcp.server.prompts import POLICY_URI, Prompts
from nono_mcp.server.snapshot_resources import SnapshotResources

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcp.server.mcpserver.context import Context
    from mcp.server.mcpserver.tools import Tool
    from mcp.shared._stream_protocols import ReadStream, WriteStream
    from mcp.shared.message import SessionMessage
    from mcp_types import CallToolResult, GetPromptResult, InputRequiredResult

    from nono_mcp.session import Session

NAME = "nono"


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
                (known,) = (
                    tool.input_schema["properties"]
                    for tool in await self.list_tools()
                    if tool.name == name
                )
                reason = f"bad arguments: {mistakes(cause, known)}"
                self._record_refusal(name, reason, context)
                raise ToolError(reason) from cause
            if cause is None:
                self._record_refusal(name, str(error), context)
            # The SDK puts the tool's name before it, which the caller knows.
            raise (cause if isinstance(cause, ToolError) else error) from None

    async def get_prompt(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        context: Context[Any, Any] | None = None,
    ) -> GetPromptResult | InputRequiredResult:
        """Return the message of a prompt.

        Raises:
            MCPError: There is none of that name, or it takes no such argument.
        """
        prompts = {prompt.name: prompt for prompt in await self.list_prompts()}
        if name not in prompts:
            raise MCPError(INVALID_PARAMS, f"no prompt {name[:40]!a}: known are {_listed(prompts)}")
        known = [one.name for one in prompts[name].arguments or ()]
        if not (arguments or {}).keys() <= set(known):
            raise MCPError(INVALID_PARAMS, f"{name} takes no other arguments than {_listed(known)}")
        return await super().get_prompt(name, arguments, context)

    def _record_refusal(self, tool: str, reason: str, context: Context[Any, Any] | None) -> None:
        if self.session is None:
            return
        try:
            self.session.refused(reason, tool=tool, asked=asked_by(context) if context else {})
        except AuditError as error:
            raise ToolError(f"{reason} (and not recorded: {error})") from error

    def shorten(self) -> None:
        """Do without what the SDK does twice for a call, and without spans that nobody wants."""
        if configured_tracer() is None:
            # By its name, since the SDK's module is its own: where that is another, spans are made.
            self.middleware[:] = [
                one for one in self.middleware if type(one).__name__ != "OpenTelemetryMiddleware"
            ]

        def is_direct(name: str) -> bool:
            tool = self._tool_manager.get_tool(name)
            return tool is not None and not tool.resolved_params

        # Neither has a public name: an SDK that has them no more goes its own way.
        call = getattr(self, "_handle_call_tool", None)
        info = getattr(self._lowlevel_server, "server_info_stamp", None)
        if call is not None and info is not None:
            self.middleware.append(DirectCalls(call, is_direct, info))

    def serve_subscriptions(self, notifications: Notifications) -> None:
        """Serve what clients of the 2025 protocols ask for to hear of changes."""
        server = self._lowlevel_server
        notifications.offer(server)
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
        received: ReadStream[SessionMessage | Exception],
        sent: WriteStream[SessionMessage],
    ) -> None:
        """Serve one client until it leaves, in the protocol's era that it opens with."""
        server = self._lowlevel_server
        await server.run(received, sent, server.create_initialization_options())


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def build(session: Session, co_tenants: CoTenants = CoTenants.NOBODY) -> App:
    """Return the server of *session*, whose clients see no more than that *co_tenants* lets them.

    Raises:
        RefusedError: Its policy requires what this machine can't give.
    """
    enforcement = Enforcement.of(session)
    notifications = Notifications()
    jobs = Jobs(session, are_told=co_tenants is not CoTenants.WITHIN)

    async def changed() -> None:
        app.replace_tools(offering.tools())
        notifications.hear(POLICY_URI)
        await notifications.tools_changed()

    offering = Offering(session, jobs, enforcement, co_tenants, changed)
    first = offering.tools()
    names = {tool.name for tool in first}
    app = App(
        NAME,
        title="nono: confined commands",
        version=__version__,
        instructions=policy_text.instructions(names),
        tools=first,
        subscriptions=notifications.bus,
        lifespan=notifications.telling,
        log_level="WARNING",
    )
    app.session = session
    is_listed = co_tenants is not CoTenants.WITHIN
    prompts = Prompts(session, enforcement, are_listed=is_listed)
    prompts.offer(app, names if is_listed else names - LISTING)
    notifications.known.append(re.compile(re.escape(POLICY_URI)))
    if session.log is not None:
        AuditResources(session.state_dir, session.log, notifications, co_tenants).offer(app)
    if session.undo is not None:
        SnapshotResources(session.undo, notifications, co_tenants).offer(app)
    Outputs(jobs, notifications).offer(app)
    Completions(session, jobs, co_tenants).offer(app)
    app.serve_subscriptions(notifications)
    app.shorten()
    return app
