"""The tools that keep the workspace as it is, tell what changed, and put it back.

Architecture invariant: a rollback that the policy wants asked about is asked about before anything
is touched; what the person is shown is the plan itself.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from mcp.server.elicitation import AcceptedElicitation
from mcp.server.mcpserver import Context  # noqa: TC002 - the SDK reads the annotations
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resolve import Elicit, Resolve

from nono_mcp.audit.files import AuditError
from nono_mcp.server import changes, results
from nono_mcp.server.asking import can_ask
from nono_mcp.server.consent import UNASKED, Agreement
from nono_mcp.server.text import readable, shortened
from nono_mcp.snapshots.errors import NoSuchSnapshotError, SnapshotError
from nono_mcp.undo.values import Wanted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp.server.elicitation import ElicitationResult
    from mcp_types import CallToolResult

    from nono_mcp.server.arguments import (
        DiffArguments,
        ListArguments,
        RollbackArguments,
        SnapshotArguments,
    )
    from nono_mcp.session import Session
    from nono_mcp.snapshots.snapshots import Snapshots
    from nono_mcp.snapshots.values import Difference, Progress, Reason, TextDiff
    from nono_mcp.undo.undo import Undo


SNAPSHOT = "Keep the workspace as it is now. (Every call that may write is kept around anyway.)"
LIST = "List the workspace's snapshots, the newest first: id, time, why, name, size."
DIFF = "Tell what changed between a snapshot and another or now; with path, the text of one file."
ROLLBACK = (
    "Put the workspace back as a snapshot has it: files changed since are overwritten, new ones "
    "removed. Can itself be undone. Refused while calls run."
)
PAGE_LINES = 150
CHANGES_MAX = 100_000
PROGRESS_S = 1.0
NOW = "now"
T = TypeVar("T")
NEVER = "never"
_ASK, _ALLOW, _CONFIRM = "ask", "allow", "confirm"


class UndoTools:
    """The tools on one session's snapshots."""

    def __init__(self, session: Session, undo: Undo) -> None:
        self._session = session
        self._undo = undo

    async def snapshot(self, arguments: SnapshotArguments, context: Context) -> CallToolResult:
        """Keep the workspace as it is.

        Raises:
            ToolError: It isn't kept.
        """
        told = _Told()
        reason: Reason = "auto" if arguments.name is None else "named"
        taking = self._undo.take(reason, name=arguments.name, on_progress=told.hear)
        taken = await _done(taking, context, told)
        lines = [f"kept: {changes.of_snapshot(taken)}"]
        if taken.unprotected_count:
            left = [changes.name(one.path) for one in taken.unprotected]
            lines.append(f"unprotected: {changes.listed(left, taken.unprotected_count)}")
        return results.plain("\n".join(lines))

    async def list_snapshots(self, arguments: ListArguments) -> CallToolResult:
        """List what is kept.

        Raises:
            ToolError: It can't be read.
        """
        limit, skip = arguments.limit or 20, arguments.skip or 0
        found = await _done(self._undo.look(lambda store: store.list(limit=skip + limit + 1)))
        page = found[skip : skip + limit]
        lines = [changes.of_snapshot(one) for one in page] or ["no snapshots"]
        if len(found) > skip + limit:
            lines.append(f"more: skip {skip + limit}")
        return results.plain("\n".join(lines))

    async def diff(self, arguments: DiffArguments, context: Context) -> CallToolResult:
        """Tell what changed.

        Raises:
            ToolError: It can't be told.
        """
        told = _Told()
        target = arguments.target or NOW
        if target == NOW:
            target = (await _done(self._undo.take("auto", on_progress=told.hear), context, told)).id
        if arguments.path is None:
            found = await _done(
                self._undo.look(lambda store: store.diff(arguments.base, target, limit=CHANGES_MAX))
            )
            lines = _difference_lines(found)
        else:
            text = await _done(self._undo.look(_text_of(arguments.path, arguments.base, target)))
            shown = readable(text.text.encode("utf-8", "replace")).removesuffix("\n")
            lines = shown.split("\n") if shown else ["no difference"]
            lines += ["(cut: the file is too large)"] if text.cut else []
        return results.plain(_paged(lines, arguments.skip or 0))

    async def rollback(
        self,
        arguments: RollbackArguments,
        context: Context,
        consent: ElicitationResult[Agreement],
    ) -> CallToolResult:
        """Put a snapshot back.

        Raises:
            ToolError: It wasn't put back; the text says in what state the workspace is.
        """
        told, wanted = _Told(), _wanted(arguments)
        if arguments.dry_run:
            plan = await _done(self._undo.plan(wanted, told.hear), context, told)
            return results.plain(changes.of_plan(plan))
        if not (isinstance(consent, AcceptedElicitation) and consent.data.agreed):
            self._record(arguments, "no")
            raise ToolError("the person didn't agree: nothing was put back")
        if consent.data is not UNASKED:
            self._record(arguments, "yes")
        outcome = await _done(self._undo.roll_back(wanted, told.hear), context, told)
        return results.plain(changes.of_outcome(arguments.snapshot, outcome))

    def consent(self) -> Resolve:
        """Return what asks the person, if the policy wants that."""
        return Resolve(self._consent)

    async def _consent(
        self,
        arguments: Any,  # noqa: ANN401 - the SDK reads the annotations, ours isn't to be imported
        context: Context[Any, Any],
    ) -> Elicit[Agreement] | Agreement:
        asks = self._session.prepared.document.snapshots.rollback or _ASK
        if arguments.dry_run or asks == _ALLOW:
            return UNASKED
        if not can_ask(context):
            if asks == _CONFIRM:
                raise ToolError(
                    "the policy wants a person's yes, and this client can't ask for one: "
                    "nothing was put back; a person can, by nono rollback"
                )
            return UNASKED
        plan = await _done(self._undo.plan(_wanted(arguments)))
        if plan.nothing:
            return UNASKED  # to be told so
        return Elicit(changes.of_plan(plan), Agreement)

    def _record(self, arguments: RollbackArguments, answer: str) -> None:
        if self._session.log is None:
            return
        try:
            request = f"rollback {arguments.snapshot}"
            self._session.log.append("approval", {"request": request, "answer": answer})
        except AuditError as error:
            raise ToolError(f"not recorded, and nothing was put back: {error}") from error


class _Told:
    """How far a long piece of work is; heard on its thread, told on the loop's."""

    def __init__(self) -> None:
        self._last: Progress | None = None
        self._before_count = 0
        self._state: tuple[int, str] | None = None

    def hear(self, progress: Progress) -> None:
        if self._last is not None and self._last.phase != progress.phase:
            self._before_count += self._last.done
        self._last = progress
        of = "" if progress.total is None else f" of {progress.total}"
        text = f"{progress.phase}: {progress.done}{of}"
        self._state = self._before_count + progress.done, text

    async def tell(self, context: Context[Any, Any]) -> None:
        told = -1
        while True:
            await anyio.sleep(PROGRESS_S)
            # It has to grow, from one phase to the next too (MCP, progress).
            if self._state is not None and self._state[0] > told:
                told, text = self._state
                await context.report_progress(told, None, text)


async def _done(
    work: Awaitable[T], context: Context[Any, Any] | None = None, told: _Told | None = None
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


def _wanted(arguments: RollbackArguments) -> Wanted:
    scope = arguments.scope or ("everything" if arguments.paths is None else "paths")
    return Wanted(arguments.snapshot, scope, tuple(arguments.paths or ()))


def _text_of(path: str, base: str, target: str) -> Callable[[Snapshots], TextDiff]:
    name = os.fsencode(path.strip("/"))

    def ask(store: Snapshots) -> TextDiff:
        try:
            return store.text_diff(base, target, name)
        except FileNotFoundError:
            raise NoSuchSnapshotError(f"neither snapshot has a file {changes.name(name)}") from None

    return ask


def _difference_lines(found: Difference) -> list[str]:
    if not found.changes:
        return ["no difference"]
    lines = [f"{found.added} added, {found.modified} modified, {found.deleted} deleted"]
    lines[0] += f", {found.touched} touched" if found.touched else ""
    lines += [changes.of_change(change) for change in found.changes]
    return [*lines, "(cut: there are more)"] if found.cut else lines


def _paged(lines: list[str], skip: int) -> str:
    page = [shortened(line) for line in lines[skip : skip + PAGE_LINES]]
    more = len(lines) - skip - PAGE_LINES
    return "\n".join(
        [*page, f"[nono] {more} more lines: skip {skip + PAGE_LINES}"][: len(page) + (more > 0)]
    )
