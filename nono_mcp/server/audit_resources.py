"""The audit log as resources, and the news that they changed, in both eras of the protocol.

`nono://audit/session` is the newest of this session's records, `nono://audit/call/ID` what is
recorded of one call; both read as the tool `audit_tail` shows them. A client of the 2025
protocols hears of changes by `resources/subscribe`, a newer one by `subscriptions/listen`.

Architecture invariant: nobody waits for a reader. News are gathered and told at most every
`NEWS_S`; a client that is slow or gone misses some and loses nothing: the log has it all.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from mcp import MCPError
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.server.subscriptions import InMemorySubscriptionBus
from mcp.shared.subscriptions import ResourceUpdated
from mcp_types import (
    INVALID_PARAMS,
    EmptyResult,
    ResourceUpdatedNotification,
    ResourceUpdatedNotificationParams,
    SubscribeRequestParams,
    UnsubscribeRequestParams,
)

from nono_mcp.audit import reading
from nono_mcp.audit.files import AuditError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mcp.server.connection import Connection
    from mcp.server.context import ServerRequestContext
    from mcp.server.mcpserver import MCPServer

    from nono_mcp.audit.session import Session as Log

SESSION_URI = "nono://audit/session"
CALL_URI = "nono://audit/call/{call}"
NEWS_S = 0.25
"""How long news may wait for more; then one message tells of all."""
RECORDS = 50
SUBSCRIBERS_MAX = 256
SUBSCRIPTIONS_MAX = 256
"""Of one client."""
_CHANGED_MAX = 1024

_call_uri = re.compile(r"nono://audit/call/([0-9a-f]{16})")


class AuditResources:
    """What one server offers of the log in one state directory, and who wants news of it."""

    def __init__(self, state_dir: str, log: Log) -> None:
        self.bus = InMemorySubscriptionBus()
        self._state_dir = state_dir
        self._log = log
        self._changed: set[str] = set()
        self._news = anyio.Event()
        self._subscribed: dict[Connection, set[str]] = {}

    def offer(self, app: MCPServer[None]) -> None:
        """Add the resources to *app*."""
        app.resource(
            SESSION_URI,
            name="audit-session",
            title="Audit log of this session",
            description=f"The newest {RECORDS} records, oldest first; changes are announced.",
            mime_type="text/plain",
        )(self.session)
        app.resource(
            CALL_URI,
            name="audit-call",
            title="Audit log of one call",
            description="What is recorded of the call whose id a result's _meta names.",
            mime_type="text/plain",
        )(self.call)

    async def session(self) -> str:
        """Return the newest records of this session."""
        return await self._read(reading.Filters(session=self._log.name))

    async def call(self, call: str) -> str:
        """Return what is recorded of one call of this session."""
        uri = CALL_URI.format(call=call)
        if not _call_uri.fullmatch(uri):
            raise ResourceNotFoundError("no such resource: a call's id is 16 hex digits")
        return await self._read(reading.Filters(session=self._log.name, call=call))

    async def _read(self, filters: reading.Filters) -> str:
        try:
            page = await anyio.to_thread.run_sync(
                reading.tail_text, self._state_dir, filters, None, RECORDS
            )
        except (AuditError, OSError, ValueError) as error:
            raise ResourceError(f"the log can't be read: {error}") from error
        return page.text

    async def subscribe(
        self, context: ServerRequestContext[Any], params: SubscribeRequestParams
    ) -> EmptyResult:
        """Note that a client of the 2025 protocols wants news of a resource.

        Raises:
            MCPError: There's no such resource, or too many want too much.
        """
        uri = str(params.uri)
        if uri != SESSION_URI and not _call_uri.fullmatch(uri):
            raise MCPError(code=INVALID_PARAMS, message="no such resource")
        client = _connection(context)
        uris = self._subscribed.get(client)
        if uris is None:
            if len(self._subscribed) >= SUBSCRIBERS_MAX:
                raise MCPError(code=INVALID_PARAMS, message="too many clients subscribe")
            uris = self._subscribed[client] = set()
            client.exit_stack.callback(self._subscribed.pop, client, None)
        if len(uris) >= SUBSCRIPTIONS_MAX:
            raise MCPError(code=INVALID_PARAMS, message="too many subscriptions")
        uris.add(uri)
        return EmptyResult()

    async def unsubscribe(
        self, context: ServerRequestContext[Any], params: UnsubscribeRequestParams
    ) -> EmptyResult:
        """Forget that a client wants news of a resource."""
        self._subscribed.get(_connection(context), set()).discard(str(params.uri))
        return EmptyResult()

    @asynccontextmanager
    async def telling(self, _app: object) -> AsyncIterator[None]:
        """Tell of changes while the body runs."""
        loop = asyncio.get_running_loop()

        def hear(call: str | None) -> None:
            # Records are written in threads too.
            loop.call_soon_threadsafe(self._note, call)

        self._log.listeners.append(hear)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._tell_for_ever)
                yield
                group.cancel_scope.cancel()
        finally:
            self._log.listeners.remove(hear)

    def _note(self, call: str | None) -> None:
        self._changed.add(SESSION_URI)
        if call is not None and len(self._changed) < _CHANGED_MAX:
            self._changed.add(CALL_URI.format(call=call))
        self._news.set()

    async def _tell_for_ever(self) -> None:
        while True:
            await self._news.wait()
            await anyio.sleep(NEWS_S)
            changed, self._changed, self._news = self._changed, set(), anyio.Event()
            for uri in sorted(changed):
                await self.bus.publish(ResourceUpdated(uri))
            async with anyio.create_task_group() as group:
                for client, uris in list(self._subscribed.items()):
                    for uri in sorted(uris & changed):
                        group.start_soon(_tell, client, uri)


def _connection(context: ServerRequestContext[Any]) -> Connection:
    # What outlives a request: the SDK has no public name for it.
    return context.session._connection  # noqa: SLF001 - see above


async def _tell(client: Connection, uri: str) -> None:
    notification = ResourceUpdatedNotification(params=ResourceUpdatedNotificationParams(uri=uri))
    data = notification.model_dump(by_alias=True, mode="json", exclude_none=True)
    # Who doesn't read is not waited for.
    with anyio.move_on_after(NEWS_S):
        await client.outbound.notify(data["method"], data.get("params"))
