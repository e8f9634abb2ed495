"""The tools that keep the workspace as it is, tell what changed, and put it back.

Architecture invariant: a rollback that the policy wants asked about is asked about before anything
is touched; what the person is shown is the plan itself.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated, Any

from mcp.server.elicitation import AcceptedElicitation
from mcp.server.mcpserver import Context  # noqa: TC002 - the SDK reads the annotations
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resolve import Elicit, Resolve

from nono_mcp.audit.errors import AuditError
from nono_mcp.policy.decide import Deny, decide
from nono_mcp.policy.effective_grants import DENIED
from nono_mcp.policy.paths import covers
from nono_mcp.server import changes, hints, policy_text, results
from nono_mcp.server.client_info import can_ask
from nono_mcp.server.consent import UNASKED, Agreement
from nono_mcp.server.progress import Told, done
from nono_mcp.server.text import readable, shortened
from nono_mcp.snapshots.errors import AmbiguousIdError, NoSuchSnapshotError
from nono_mcp.snapshots.values import Plan  # noqa: TC001 - the SDK reads the annotations
from nono_mcp.undo.values import CallsRunError, Wanted
from nono_sandbox.confinement import READ

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server.elicitation import ElicitationResult
    from mcp_types import CallToolResult

    from nono_mcp.policy.request import Prepared
    from nono_mcp.server.arguments import (
        DiffArguments,
        ListArguments,
        RollbackArguments,
        SnapshotArguments,
    )
    from nono_mcp.session import Session
    from nono_mcp.snapshots.snapshots import Snapshots
    from nono_mcp.snapshots.values import Reason, TextDiff
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
NOW = "now"
NEVER = "never"
_ASK, _ALLOW, _CONFIRM = "ask", "allow", "confirm"
_UNASKED = (
    "[nono] nobody was asked, since this client can't ask; with [snapshots] rollback = "
    '"confirm" this would have been refused'
)


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
        told = Told()
        reason: Reason = "auto" if arguments.name is None else "named"
        taking = self._undo.take(reason, name=arguments.name, on_progress=told.hear)
        taken = await done(taking, context, told)
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
        found = await done(self._undo.look(lambda store: store.list(limit=skip + limit + 1)))
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
        told = Told()
        if arguments.path is not None:
            self._verify_readable(arguments.path)
        base, after = await self._around(arguments.base)
        # Of a call: what that call changed.
        target = arguments.target or after or NOW
        if target != NOW:
            target = (await self._around(target))[0]
        else:
            target = (await done(self._undo.take("auto", on_progress=told.hear), context, told)).id
        if arguments.path is None:
            found = await done(
                self._undo.look(lambda store: store.diff(base, target, limit=CHANGES_MAX))
            )
            lines = changes.difference_lines(found)
        else:
            text = await done(self._undo.look(_text_of(arguments.path, base, target)))
            shown = readable(text.text.encode("utf-8", "replace")).removesuffix("\n")
            lines = shown.split("\n") if shown else ["no difference"]
            lines += ["(cut: the file is too large)"] if text.cut else []
        return results.plain(_paged(lines, arguments.skip or 0))

    def _verify_readable(self, path: str) -> None:
        """Verify that a call could read what is at *path*: what is kept of it is no more open.

        Raises:
            ToolError: None could.
        """
        prepared = self._session.prepared
        location = f"{self._undo.rules.workspace}/{path.strip('/')}"
        verdict = decide(prepared, location, "read")
        if isinstance(verdict, Deny):
            raise ToolError(hints.denial(prepared, verdict, "read"))
        shown = changes.name(os.fsencode(path))
        # It wasn't there when that was judged, and may be by now, or have been then.
        for awaited, what in prepared.awaited:
            if covers(awaited, location) and _is_closed_to_reading(prepared, awaited):
                raise ToolError(f"{DENIED}: {shown} is closed by {what}")

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
        told, wanted = Told(), await self._wanted(arguments)
        # Another policy may be in force than when the tool was offered.
        if not policy_text.may_write(self._session.prepared, self._undo.rules.workspace):
            raise ToolError(
                "the policy lets nothing write the workspace, so nothing was put back: a person "
                "can, by nono rollback"
            )
        if arguments.dry_run:
            plan = await done(self._undo.plan(wanted, told.hear), context, told)
            return results.plain(changes.of_plan(plan))
        if not (isinstance(consent, AcceptedElicitation) and consent.data.agreed):
            self._record(arguments, "no")
            raise ToolError(
                "the person didn't agree, so nothing was put back: go on from here, or ask how to"
            )
        unasked = shown is None and self._mode == _ASK and not can_ask(context)
        if shown is not None or unasked:
            self._record(arguments, "nobody was asked" if unasked else "yes")
        try:
            work = self._session.roll_back(wanted, told.hear, shown)
            outcome, guarded = await done(work, context, told)
        except ToolError as error:
            if isinstance(error.__cause__, CallsRunError):
                raise ToolError(f"{error} (a job that runs is one: stop_job)") from error
            raise
        text = changes.of_outcome(arguments.snapshot, outcome)
        notes = [*results.put_right(guarded), *([_UNASKED] if unasked else [])]
        return results.plain("\n".join((text, *notes)))

    @property
    def _mode(self) -> str:
        return self._session.prepared.document.snapshots.rollback or _ASK

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
        if arguments.dry_run or self._mode == _ALLOW:
            return None
        if not can_ask(context):
            if self._mode == _CONFIRM:
                raise ToolError(
                    "the policy wants a person's yes, and this client can't ask for one: nothing "
                    "was put back; a person can, by nono rollback, or let you by "
                    '[snapshots] rollback = "ask"'
                )
            # It can do to the workspace what its calls can do anyway, and be undone itself.
            return None
        plan = await done(self._undo.plan(await self._wanted(arguments)))
        return None if plan.nothing else plan  # to be told so

    async def _wanted(self, arguments: RollbackArguments) -> Wanted:
        scope = arguments.scope or ("everything" if arguments.paths is None else "paths")
        snapshot, _ = await self._around(arguments.snapshot)
        leave = self._undo.rules.closed(self._session.prepared)
        return Wanted(snapshot, scope, tuple(arguments.paths or ()), leave)

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

        return await done(self._undo.look(look))

    def _record(self, arguments: RollbackArguments, answer: str) -> None:
        if self._session.log is None:
            return
        try:
            request = f"rollback {arguments.snapshot}"
            self._session.log.append("approval", {"request": request, "answer": answer})
        except AuditError as error:
            raise ToolError(f"not recorded, and nothing was put back: {error}") from error


def _is_closed_to_reading(prepared: Prepared, awaited: str) -> bool:
    """Tell whether what would be at *awaited* is closed to reading, not to writing alone."""
    closing = [one.access for one in prepared.rules if one.code and one.path == awaited]
    return not closing or any(access & READ for access in closing)


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
