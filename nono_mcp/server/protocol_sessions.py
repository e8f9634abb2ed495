"""Sessions that are a 2025 client's protocol session: begun by its `initialize`, ended with it.

Architecture invariant: nothing is begun for a request that opens no protocol session.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from starlette.requests import ClientDisconnect

from nono_mcp.server.addressing import header
from nono_mcp.server.tenants import BusyError

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from nono_mcp.server.tenant import Tenant

OPENING_BYTES_MAX = 64 * 1024
"""How long an `initialize` may be: it says who the client is and what it can do."""
_BAD = 400


class Opening:
    """A request's messages, of which the first are looked at before its session is chosen."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._read: list[Message] = []

    async def begins(self) -> bool:
        """Tell whether it's an `initialize`; what was read for that is there to be read again.

        Raises:
            ClientDisconnect: Its client left before that could be told.
        """
        body, more = b"", True
        while more and len(body) <= OPENING_BYTES_MAX:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            self._read.append(message)
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if more:
            return False
        try:
            said = json.loads(body)
        except (ValueError, RecursionError):
            return False
        return isinstance(said, dict) and said.get("method") == "initialize"

    async def __call__(self) -> Message:
        """Return the next message."""
        return self._read.pop(0) if self._read else await self._receive()


async def ask(tenant: Tenant, scope: Scope, receive: Receive, send: Send) -> None:
    """Have a session answer; one that is a protocol session's is known by it, and ends with it."""
    if tenant.app is None:
        raise BusyError("the session ended")
    if not tenant.who.random:
        await tenant.app(scope, receive, send)
        return
    ending = scope["method"] == "DELETE"

    async def hearing(message: Message) -> None:
        if ending and message["type"] == "http.response.start" and message["status"] < _BAD:
            tenant.left.set()
        tenant.protocol_id = tenant.protocol_id or _opened(message)
        await send(message)

    try:
        await tenant.app(scope, receive, hearing)
    finally:
        if tenant.protocol_id is None:
            tenant.left.set()


def _opened(message: Message) -> str | None:
    """Return the id of the protocol session that an answer's head says was begun."""
    if message["type"] != "http.response.start" or message["status"] >= _BAD:
        return None
    return header(message["headers"], MCP_SESSION_ID_HEADER)
