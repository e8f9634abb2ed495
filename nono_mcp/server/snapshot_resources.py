"""The workspace's snapshots as resources: the list, and what has changed since one.

Architecture invariant: they read the store and take no snapshot.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError

from nono_mcp.server import changes
from nono_mcp.server.co_tenants import CoTenants
from nono_mcp.snapshots.errors import AmbiguousIdError, NoSuchSnapshotError, SnapshotError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server.mcpserver import MCPServer

    from nono_mcp.server.notifications import Notifications
    from nono_mcp.snapshots.snapshots import Snapshots
    from nono_mcp.undo.undo import Undo

    T = TypeVar("T")

LIST_URI = "nono://snapshots"
SNAPSHOT_URI = "nono://snapshot/{id}"
LISTED_MAX = 100
CHANGES_MAX = 200


class SnapshotResources:
    """The snapshots of one session's workspace."""

    def __init__(
        self, undo: Undo, notifications: Notifications, co_tenants: CoTenants = CoTenants.NOBODY
    ) -> None:
        self._tells_all = co_tenants is not CoTenants.WITHIN
        self._undo = undo
        self._notifications = notifications

    def offer(self, app: MCPServer[None]) -> None:
        """Add the resources to *app*, and have their changes told."""
        if self._tells_all:
            self._notifications.known.append(re.compile(re.escape(LIST_URI)))
            self._undo.listeners.append(lambda: self._notifications.hear(LIST_URI))
            app.resource(
                LIST_URI,
                name="snapshots",
                title="Snapshots of the workspace",
                description=f"The newest {LISTED_MAX}, newest first; new ones are announced.",
                mime_type="text/plain",
            )(self.all)
        app.resource(
            SNAPSHOT_URI,
            name="snapshot",
            title="A snapshot of the workspace",
            description="What it holds, and what differs in the newest one.",
            mime_type="text/plain",
        )(self.one)

    async def all(self) -> str:
        """Return the newest snapshots."""
        found = await self._look(lambda store: store.list(limit=LISTED_MAX))
        return "\n".join(map(changes.of_snapshot, found)) or "no snapshots"

    async def one(self, id: str) -> str:  # noqa: A002 - the URI template's name for it
        """Return what is known of one snapshot."""

        def look(store: Snapshots) -> str:
            snapshot = store.get(id)
            lines = [changes.of_snapshot(snapshot)]
            newest = next(iter(store.list(limit=1)), snapshot)
            if newest.root != snapshot.root:
                found = store.diff(snapshot.id, newest.id, limit=CHANGES_MAX)
                lines.append(f"since then, as of {changes.short(newest)}:")
                lines += changes.difference_lines(found)
            return "\n".join(lines)

        return await self._look(look)

    async def _look(self, ask: Callable[[Snapshots], T]) -> T:
        try:
            return await self._undo.look(ask)
        except (NoSuchSnapshotError, AmbiguousIdError) as error:
            raise ResourceNotFoundError(str(error)) from error
        except SnapshotError as error:
            raise ResourceError(str(error)) from error
