"""`nono rollback`: put a workspace back as a snapshot has it."""

from __future__ import annotations

import os

from nono_mcp.cli import options, say, workspace_snapshots
from nono_mcp.cli.options import FailedError, Option, UsageError
from nono_mcp.cli.progress import showing
from nono_mcp.server import changes
from nono_mcp.snapshots.errors import NoSuchSnapshotError
from nono_mcp.undo.values import Wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.cli.options import Parsed
    from nono_mcp.cli.workspace_snapshots import WorkspaceSnapshots
    from nono_mcp.snapshots.values import Plan, Scope

YES = Option("--yes", short="-y")
DRY_RUN = Option("--dry-run")
PATHS = Option("--paths", "GLOB", many=True)
SCOPE = Option("--scope", "SCOPE")
SCOPES: tuple[Scope, ...] = ("everything", "agent")
PROGRAM = "nono rollback"
OPTIONS = (*workspace_snapshots.OPTIONS, YES, DRY_RUN, PATHS, SCOPE)
USAGE = f"""\
usage: nono rollback [ID] [OPTION]...

Put the workspace back as snapshot ID has it: an id or its beginning, a name, or latest. Without
ID: as it was before the last thing that changed it. What would be done is shown, and asked about.

  nono rollback --dry-run
  nono rollback 1a2b3c4d --paths src --paths '*.toml'

  --paths GLOB             only what matches, and what is beneath it; may be given more than once
  --scope SCOPE            everything, or agent: what calls changed and nobody touched since
  --dry-run                show it, and do nothing
  -y, --yes                don't ask
{workspace_snapshots.ABOUT}
What was there before is kept: undo a rollback by the id that it ends with.

Exit status: 0 done and verified, 1 not done, or not all of it, 2 this usage, 126 refused.
"""


def main(argv: list[str]) -> int:
    """Roll back as *argv* says and return the exit status."""
    parsed = options.parse(argv, OPTIONS)
    if parsed.flag(options.HELP):
        say.out(USAGE)
        return 0
    if len(parsed.rest) > 1:
        raise UsageError("it takes one ID", "nono snapshot list shows them")
    _check(parsed)
    with workspace_snapshots.opened(parsed) as opened:
        wanted = _wanted(parsed, opened)
        plan = None
        if parsed.flag(DRY_RUN) or not parsed.flag(YES):
            plan = _plan(opened, wanted)
            if parsed.flag(DRY_RUN):
                _tell_plan(parsed, plan)
                return 0
            _ask(parsed, plan)
        with workspace_snapshots.recorded(opened, PROGRAM) as log:
            outcome = opened.roll_back(wanted, log, plan)
    if parsed.flag(options.JSON):
        fields = workspace_snapshots.fields_of(outcome)
        say.document({"id": "rollback", "ok": outcome.verified, "error": None, **fields})
    else:
        say.out(changes.of_outcome(wanted.snapshot, outcome, PROGRAM) + "\n")
    return 0 if outcome.verified else 1


def _check(parsed: Parsed) -> None:
    scope = parsed.one(SCOPE.name)
    if scope is not None and scope not in SCOPES:
        raise UsageError(f"no scope {options.shown(scope)}", f"one of {', '.join(SCOPES)}")
    if scope is not None and parsed.all(PATHS.name):
        raise UsageError(f"{SCOPE.name} and {PATHS.name} contradict each other")


def _wanted(parsed: Parsed, opened: WorkspaceSnapshots) -> Wanted:
    paths = parsed.all(PATHS.name)
    scope: Scope = "agent" if parsed.one(SCOPE.name) == "agent" else "everything"
    named = parsed.rest[0] if parsed.rest else before_the_last_change(opened)
    return Wanted(opened.snapshots.get(named).id, "paths" if paths else scope, paths)


def _plan(opened: WorkspaceSnapshots, wanted: Wanted) -> Plan:
    with showing() as hear:
        plan = opened.snapshots.plan(
            wanted.snapshot,
            scope=wanted.scope,
            paths=wanted.paths,
            dirty=opened.dirty(),
            progress=hear,
        )
    if plan.nothing:
        raise FailedError(f"nothing to put back: {changes.of_plan(plan)}")
    return plan


def before_the_last_change(opened: WorkspaceSnapshots) -> str:
    """Return the newest snapshot that isn't the workspace as it is now, but for directories' times.

    Raises:
        NoSuchSnapshotError: There's none.
    """
    now = opened.take(None, PROGRAM)
    same = {now.root}
    for snapshot in opened.snapshots.list():
        if snapshot.root in same:
            continue
        # An editor's own files come and go, and leave a directory another time.
        if not opened.snapshots.diff(snapshot.id, now.id, limit=1).nothing:
            return snapshot.id
        same.add(snapshot.root)
    raise NoSuchSnapshotError("no snapshot differs from the workspace as it is now")


def _tell_plan(parsed: Parsed, plan: Plan) -> None:
    if parsed.flag(options.JSON):
        say.document(
            {"id": "rollback", "ok": True, "error": None, **workspace_snapshots.fields_of(plan)}
        )
    else:
        say.out(changes.of_plan(plan) + "\n")


def _ask(parsed: Parsed, plan: Plan) -> None:
    if parsed.flag(options.JSON) or not os.isatty(0):
        raise UsageError("there is nobody to ask", f"say {YES.name}, or {DRY_RUN.name} to look")
    say.err(changes.of_plan(plan) + "\n")
    if not workspace_snapshots.agreed("Put it back?"):
        raise FailedError("nothing was put back")
