"""Long work that a client waits for, and hears of how far it is.

Architecture invariant: what the work is isn't known here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from mcp.server.mcpserver.exceptions import ToolError

from nono_mcp.audit.errors import AuditError
from nono_mcp.server.text import shortened
from nono_mcp.snapshots.errors import SnapshotError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from mcp.server.mcpserver import Context

    from nono_mcp.snapshots.values import Progress

PROGRESS_S = 1.0
T = TypeVar("T")


class Told:
    """How far a long piece of work is; heard on its thread, told on the loop's."""

    def __init__(self) -> None:
        self._last: Progress | None = None
        self._before_count = 0
        self._state: tuple[int, str] | None = None

    def hear(self, progress: Progress) -> None:
        """Take in how far it is."""
        if self._last is not None and self._last.phase != progress.phase:
            self._before_count += self._last.done
        self._last = progress
        of = "" if progress.total is None else f" of {progress.total}"
        text = f"{progress.phase}: {progress.done}{of}"
        self._state = self._before_count + progress.done, text

    async def tell(self, context: Context[Any, Any]) -> None:
        """Tell the client, again and again, until cancelled."""
        told = -1
        while True:
            await anyio.sleep(PROGRESS_S)
            # It has to grow, from one phase to the next too (MCP, progress).
            if self._state is not None and self._state[0] > told:
                told, text = self._state
                await context.report_progress(told, None, text)


async def done(
    work: Awaitable[T], context: Context[Any, Any] | None = None, told: Told | None = None
) -> T:
    """Return what comes of *work*, telling the client meanwhile how far it is.

    Raises:
        ToolError: It went wrong.
    """
    results: list[T] = []
    failed: Exception | None = None
    async with anyio.create_task_group() as group:
        if context is not None and told is not None:
            group.start_soon(told.tell, context)
        try:
            results.append(await work)
        except (SnapshotError, AuditError) as error:
            failed = error
        group.cancel_scope.cancel()
    if failed is not None:
        raise ToolError(shortened(str(failed))) from failed
    return results[0]
