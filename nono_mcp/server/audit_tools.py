"""The tools that read the audit log: what was done, and whether the log still says so.

Architecture invariant: they read and nothing else, and what they show acts on no reader: every
hostile string in a record is escaped.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import anyio.to_thread
from mcp.server.mcpserver.exceptions import ToolError

from nono_mcp.audit import keystore, reading, verify, walk
from nono_mcp.audit.errors import AuditError
from nono_mcp.server import results
from nono_mcp.server.co_tenants import CoTenants, untold
from nono_mcp.snapshots.errors import SnapshotError

if TYPE_CHECKING:
    from mcp_types import CallToolResult

    from nono_mcp.audit.session import Session as Log
    from nono_mcp.audit.walk import Report
    from nono_mcp.server.arguments import TailArguments, VerifyArguments
    from nono_mcp.snapshots.snapshots import Snapshots
    from nono_mcp.undo.undo import Undo

TAIL = (
    "Show the audit log's newest records, this session's: what was asked for, decided, and came "
    "of it."
)
TAIL_ONE = (
    "Show what the audit log has of one call: by its id, or the id of the snapshot to undo it by."
)
VERIFY = "Verify the audit log: that nothing was changed or cut off, and whose keys signed it."
LIMIT_DEFAULT = 50
_CALL = re.compile("[0-9a-f]{16}")


class AuditTools:
    """The tools that read the log in one state directory."""

    def __init__(
        self,
        state_dir: str,
        log: Log,
        undo: Undo | None,
        co_tenants: CoTenants = CoTenants.NOBODY,
    ) -> None:
        self._undo = undo
        self._state_dir = state_dir
        self._co_tenants = co_tenants
        self._session = log.name

    async def audit_tail(self, arguments: TailArguments) -> CallToolResult:
        """Show the newest records.

        Raises:
            ToolError: The log can't be read, the cursor is none, or the records are others'.
        """
        if arguments.everybody and self._co_tenants is not CoTenants.NOBODY:
            raise ToolError(
                "this server is shared, and others' records aren't shown: leave everybody out"
            )
        call = await self._call(arguments.call)
        if self._co_tenants is CoTenants.WITHIN and (call is None or not _CALL.fullmatch(call)):
            raise ToolError(untold("say which call, by all of its id"))
        filters = reading.Filters(
            session=None if arguments.everybody else self._session,
            call=call,
            kind=arguments.kind,
            decision=arguments.decision,
            grep=arguments.grep,
            since=arguments.since,
        )
        limit = arguments.limit or LIMIT_DEFAULT
        try:
            page = await anyio.to_thread.run_sync(
                reading.tail_text, self._state_dir, filters, arguments.cursor, limit
            )
        except (AuditError, OSError, ValueError) as error:
            raise ToolError(f"audit_tail: {error}") from error
        return results.plain(page.text)

    async def audit_verify(
        self,
        arguments: VerifyArguments,  # noqa: ARG002 - a tool's arguments come by this name
    ) -> CallToolResult:
        """Verify the log.

        Raises:
            ToolError: It can't be read.
        """
        try:
            report = await anyio.to_thread.run_sync(self._verified, abandon_on_cancel=True)
        except (AuditError, OSError) as error:
            raise ToolError(f"audit_verify: {error}") from error
        return results.plain("\n".join(walk.report_lines(report)))

    async def _call(self, text: str | None) -> str | None:
        """Return the call that *text* means: its id or how that begins, or a snapshot around it."""
        if text is None or self._undo is None:
            return text

        def look(store: Snapshots) -> str | None:
            calls = {one.call for one in store.list() if (one.call or "").startswith(text)}
            if len(calls) == 1:
                return calls.pop()
            try:
                return store.get(text).call or text
            except SnapshotError:
                return text

        try:
            return await self._undo.look(look)
        except SnapshotError:
            return text

    def _verified(self) -> Report:
        keychain = keystore.find_keychain(reading.directory_of(self._state_dir))
        return verify.verify(self._state_dir, keychain)
