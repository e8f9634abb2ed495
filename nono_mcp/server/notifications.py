"""Notifications that resources or tools changed, in both eras of the protocol.

A client of the 2025 protocols hears of a resource by `resources/subscribe`, a newer one of
anything by `subscriptions/listen`.

Architecture invariant: nobody waits for a reader. Changes are gathered and told at most every
`GATHERED_S`; a client that is slow or gone misses some and loses nothing: what changed can be read.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from mcp import MCPError
from mcp.server.subscriptions import InMemorySubscriptionBus
from mcp.shared.subscriptions import ResourceUpdated, ToolsListChanged
from mcp_types import (
    INVALID_PARAMS,
    EmptyResult,
    ResourceUpdatedNotification,
    ResourceUpdatedNotificationParams,
    SubscribeRequestParams,
    ToolListChangedNotification,
    UnsubscribeRequestParams,
)

if TYPE_CHECKING:
    import re
    from collections.abc import AsyncIterator

    from mcp.server import Server
    from mcp.server.connection import Connection
    from mcp.server.context import ServerRequestContext

GATHERED_S = 0.25
"""How long a change waits for more of them; then one message tells of all."""
SUBSCRIBERS_MAX = 256
SUBSCRIPTIONS_MAX = 256
"""Of one client."""
_CHANGED_MAX = 1024


class Notifications:
    """What changed at one server, and who wants to know."""

    def __init__(self) -> None:
        self.bus = InMemorySubscriptionBus()
        self.known: list[re.Pattern[str]] = []
        """What the URIs look like of which changes are told."""
        self._changed: set[str] = set()
        self._some = anyio.Event()
        self._subscribed: dict[Connection, set[str]] = {}
        self._listed: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._telling_count = 0

    def hear(self, *uris: str) -> None:
        """Take in, from any thread, that these resources changed."""
        if self._loop is None:
            return
        if threading.get_ident() == self._thread:
            # Wakes nobody by a byte through a socket.
            self._note(uris)
        else:
            self._loop.call_soon_threadsafe(self._note, uris)

    def offer(self, server: Server[Any]) -> None:
        """Have *server* serve what clients of the 2025 protocols ask for to hear of changes."""
        listing = server.get_request_handler("tools/list")
        if listing is None:
            raise RuntimeError("the SDK serves no tools/list")

        async def list_tools(context: ServerRequestContext[Any], params: Any) -> Any:  # noqa: ANN401
            self.listed(context)
            return await listing.handler(context, params)

        add = server.add_request_handler
        add("tools/list", listing.params_type, list_tools)
        add("resources/subscribe", SubscribeRequestParams, self.subscribe)
        add("resources/unsubscribe", UnsubscribeRequestParams, self.unsubscribe)

    def listed(self, context: ServerRequestContext[Any]) -> None:
        """Note that a client has a list of tools, of whose changes it's to hear."""
        client = _connection(context)
        # A newer client's connection is one request long; it listens instead.
        if not client.has_standalone_channel or client in self._listed:
            return
        if len(self._listed) < SUBSCRIBERS_MAX:
            self._listed.add(client)
            client.exit_stack.callback(self._listed.discard, client)

    async def tools_changed(self) -> None:
        """Tell everybody who has a list of tools that it changed."""
        await self.bus.publish(ToolsListChanged())
        async with anyio.create_task_group() as group:
            for client in list(self._listed):
                group.start_soon(_tell, client, ToolListChangedNotification())

    async def subscribe(
        self, context: ServerRequestContext[Any], params: SubscribeRequestParams
    ) -> EmptyResult:
        """Note that a client of the 2025 protocols wants to hear of changes of a resource.

        Raises:
            MCPError: There's no such resource, or too many want too much.
        """
        uri = str(params.uri)
        if not any(one.fullmatch(uri) for one in self.known):
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
        """Forget that a client wants to hear of changes of a resource."""
        self._subscribed.get(_connection(context), set()).discard(str(params.uri))
        return EmptyResult()

    @asynccontextmanager
    async def telling(self, _app: object) -> AsyncIterator[None]:
        """Tell of changes while the body runs."""
        # Over HTTP each client of the 2025 protocols is a life of the server's.
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._telling_count += 1
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._tell_for_ever)
                yield
                group.cancel_scope.cancel()
        finally:
            self._telling_count -= 1
            if not self._telling_count:
                self._loop = None

    def _note(self, uris: tuple[str, ...]) -> None:
        if len(self._changed) < _CHANGED_MAX:
            self._changed.update(uris)
        self._some.set()

    async def _tell_for_ever(self) -> None:
        while True:
            await self._some.wait()
            await anyio.sleep(GATHERED_S)
            changed, self._changed, self._some = self._changed, set(), anyio.Event()
            for uri in sorted(changed):
                await self.bus.publish(ResourceUpdated(uri))
            async with anyio.create_task_group() as group:
                for client, uris in list(self._subscribed.items()):
                    for uri in sorted(uris & changed):
                        group.start_soon(_tell, client, _updated(uri))


def _connection(context: ServerRequestContext[Any]) -> Connection:
    # What outlives a request: the SDK has no public name for it.
    return context.session._connection  # noqa: SLF001 - see above


def _updated(uri: str) -> ResourceUpdatedNotification:
    return ResourceUpdatedNotification(params=ResourceUpdatedNotificationParams(uri=uri))


async def _tell(
    client: Connection, notification: ResourceUpdatedNotification | ToolListChangedNotification
) -> None:
    data = notification.model_dump(by_alias=True, mode="json", exclude_none=True)
    # Who doesn't read is not waited for.
    with anyio.move_on_after(GATHERED_S):
        await client.outbound.notify(data["method"], data.get("params"))
