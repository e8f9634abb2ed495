"""The tools that keep the workspace as it is, tell what changed, and put it back.

Architecture invariant: a rollback that the policy wants asked about is asked about before anything
is touched; what the person is shown is the plan itself.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import anyio
from mcp.server.elicitation import AcceptedElicitation
from mcp.server.mcpserver import Context  # noqa: TC002 - the SDK reads the annotations
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resolve import Elicit, Resolve

from nono_mcp.audit.files import AuditError
from nono_mcp.server import account, changes, results
from nono_mcp.server.asking import can_ask
from nono_mcp.server.consent import UNASKED, Agreement
from nono_mcp.server.text import readable, shortened
from nono_mcp.snapshots.errors import AmbiguousIdError, NoSuchSnapshotError, SnapshotError
from nono_mcp.snapshots.values import Plan  # noqa: TC001 - the SDK reads the annotations
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
    from nono_mcp.snapshots.values import Progress, Reason, TextDiff
    from nono_mcp.undo.undo import Undo


SNAPSHOT = "Keep the workspace as it is now, as is done around every call that may write."
LIST = "List the workspace's snapshots, the newest first: id, time, why, name, size."
DIFF = "Tell what changed between a snapshot and another or now; with path, the text of one file."
ROLLBACK = (
    "Put the workspace back as a snapshot has it: files changed since are overwritten, new ones "
    "removed. Can itself be undone. Refused while calls run."
)
PAGE_LINES = 150
ROOT_DIGITS = 8
_CALL = re.compile("[0-9a-f]{4,16}")
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
        base, after = await self._around(arguments.base)
        # Of a call: what that call changed.
        target = arguments.target or after or NOW
        if target != NOW:
            target = (await self._around(target))[0]
        else:
            target = (await _done(self._undo.take("auto", on_progress=told.hear), context, told)).id
        if arguments.path is None:
            found = await _done(
                self._undo.look(lambda store: store.diff(base, target, limit=CHANGES_MAX))
            )
            lines = changes.difference_lines(found)
        else:
            text = await _done(self._undo.look(_text_of(arguments.path, base, target)))
            shown = readable(text.text.encode("utf-8", "replace")).removesuffix("\n")
            lines = shown.split("\n") if shown else ["no difference"]
            lines += ["(cut: the file is too large)"] if text.cut else []
        return results.plain(_paged(lines, arguments.skip or 0))

    async def rollback(
        self,
        arguments: RollbackArguments,
        context: Context,
        shown: Plan | None,
        consent: ElicitationResult[Agreement],
    ) -> CallToolResult:
        """Put a snapshot back.

        Raises:
            ToolError: It wasn't put back; the text says in what state the workspace is.
        """
        told, wanted = _Told(), await self._wanted(arguments)
        # Another policy may be in force than when the tool was offered.
        if not account.may_write(self._session.prepared, self._undo.rules.workspace):
            raise ToolError("the policy lets nothing write the workspace: nothing was put back")
        if arguments.dry_run:
            plan = await _done(self._undo.plan(wanted, told.hear), context, told)
            return results.plain(changes.of_plan(plan))
        if not (isinstance(consent, AcceptedElicitation) and consent.data.agreed):
            self._record(arguments, "no")
            raise ToolError("the person didn't agree: nothing was put back")
        if shown is not None:
            self._record(arguments, "yes")
        work = self._session.roll_back(wanted, told.hear, shown)
        outcome, guarded = await _done(work, context, told)
        text = changes.of_outcome(arguments.snapshot, outcome)
        return results.plain("\n".join((text, *results.put_right(guarded))))

    def resolved(self) -> dict[str, tuple[Resolve, bool]]:
        """Return what the SDK is to find out before a rollback: what is shown, and the answer."""
        shown = Resolve(self._shown)

        def consent(shown: Plan | None) -> Elicit[Agreement] | Agreement:
            if shown is None:
                return UNASKED
            # By which the question says of which state it is.
            state = f"(of the workspace as it is: {shown.current_root[:ROOT_DIGITS]})"
            return Elicit(f"{changes.of_plan(shown)}\n{state}", Agreement)

        # By hand, since an annotation can't name what is only there at run time.
        consent.__annotations__ |= {
            "shown": Annotated[object, shown],
            "return": Elicit[Agreement] | Agreement,
        }
        return {"shown": (shown, False), "consent": (Resolve(consent), True)}

    async def _shown(
        self,
        arguments: Any,  # noqa: ANN401 - the SDK reads the annotations, ours isn't to be imported
        context: Context[Any, Any],
    ) -> Plan | None:
        """Return what the person is to be shown; None if nobody is asked."""
        asks = self._session.prepared.document.snapshots.rollback or _ASK
        if arguments.dry_run or asks == _ALLOW:
            return None
        if not can_ask(context):
            if asks == _CONFIRM:
                raise ToolError(
                    "the policy wants a person's yes, and this client can't ask for one: "
                    "nothing was put back; a person can, by nono rollback"
                )
            return None
        plan = await _done(self._undo.plan(await self._wanted(arguments)))
        return None if plan.nothing else plan  # to be told so

    async def _wanted(self, arguments: RollbackArguments) -> Wanted:
        scope = arguments.scope or ("everything" if arguments.paths is None else "paths")
        snapshot, _ = await self._around(arguments.snapshot)
        return Wanted(snapshot, scope, tuple(arguments.paths or ()))

    async def _around(self, text: str) -> tuple[str, str | None]:
        """Return the snapshot that *text* means, and of a call the one after it as well.

        Raises:
            ToolError: It means more than one.
        """

        def look(store: Snapshots) -> tuple[str, str | None]:
            try:
                return store.get(text).id, None
            except NoSuchSnapshotError:
                before = _kept_around(store, text, "before-call")
                if before is None:
                    raise
                return before, _kept_around(store, text, "after-call")

        return await _done(self._undo.look(look))

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


def _kept_around(store: Snapshots, text: str, reason: Reason) -> str | None:
    """Return the id of the snapshot that was taken around the call of that id, or its beginning."""
    if not _CALL.fullmatch(text):
        return None
    calls = [one for one in store.list() if (one.call or "").startswith(text)]
    if len({one.call for one in calls}) > 1:
        raise AmbiguousIdError(f"{changes.name(text.encode())} begins the ids of several calls")
    return next((one.id for one in calls if one.reason == reason), None)


def _text_of(path: str, base: str, target: str) -> Callable[[Snapshots], TextDiff]:
    name = os.fsencode(path.strip("/"))

    def ask(store: Snapshots) -> TextDiff:
        try:
            return store.text_diff(base, target, name)
        except FileNotFoundError:
            raise NoSuchSnapshotError(f"neither snapshot has a file {changes.name(name)}") from None

    return ask


def _paged(lines: list[str], skip: int) -> str:
    page = [shortened(line) for line in lines[skip : skip + PAGE_LINES]]
    more = len(lines) - skip - PAGE_LINES
    return "\n".join(
        [*page, f"[nono] {more} more lines: skip {skip + PAGE_LINES}"][: len(page) + (more > 0)]
    )
