"""The audit log as resources.

`nono://audit/session` is the newest of this session's records, `nono://audit/call/ID` what is
recorded of one call; both read as the tool `audit_tail` shows them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import anyio.to_thread
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError

from nono_mcp.audit import reading
from nono_mcp.audit.errors import AuditError
from nono_mcp.server.co_tenants import CoTenants

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from nono_mcp.audit.session import Session as Log
    from nono_mcp.server.notifications import Notifications

SESSION_URI = "nono://audit/session"
CALL_URI = "nono://audit/call/{call}"
RECORDS = 50

_call_uri = re.compile(r"nono://audit/call/([0-9a-f]{16})")


class AuditResources:
    """What one server offers of the log in one state directory."""

    def __init__(
        self,
        state_dir: str,
        log: Log,
        notifications: Notifications,
        co_tenants: CoTenants = CoTenants.NOBODY,
    ) -> None:
        self._tells_all = co_tenants is not CoTenants.WITHIN
        self._state_dir = state_dir
        self._log = log
        self._notifications = notifications

    def offer(self, app: MCPServer[None]) -> None:
        """Add the resources to *app*, and have their changes told."""
        self._log.listeners.append(self._hear)
        self._notifications.known.append(_call_uri)
        if self._tells_all:
            self._notifications.known.append(re.compile(re.escape(SESSION_URI)))
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

    def _hear(self, call: str | None) -> None:
        uris = [SESSION_URI] if self._tells_all else []
        self._notifications.hear(*uris, *([] if call is None else [CALL_URI.format(call=call)]))
