"""What a restore would do, and doing it: both follow from one look at the workspace.

Architecture invariant: what is restored is what was planned from the state that the safety snapshot
holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

from nono_mcp.snapshots import answers, database, restoring, rows
from nono_mcp.snapshots.choosing import Target
from nono_mcp.snapshots.errors import NothingToRestoreError
from nono_mcp.snapshots.values import Outcome, Plan, Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nono_mcp.snapshots.values import Dirty, Progress, Snapshot
    from nono_mcp.snapshots.workspace import Looked, Workspace

    OnProgress = Callable[[Progress], None]

NOTHING: Final = "nothing to restore: it's all as it was"


class Planning:
    """One restore that is wanted: a snapshot, a scope and paths; used inside `held`."""

    def __init__(
        self,
        workspace: Workspace,
        what: tuple[Snapshot, Scope, Sequence[str]],
        leave: Sequence[bytes] = (),
    ) -> None:
        self._workspace = workspace
        self._leave = leave
        self._snapshot, self._scope, self._paths = what

    def plan(self, dirty: Dirty | None, on_progress: OnProgress | None) -> Plan:
        """Return what it would do."""
        return self._planned(self._workspace.look(dirty, on_progress=on_progress))

    def roll_back(
        self,
        begin: Callable[[Plan], None],
        dirty: Callable[[], Dirty | None] | None,
        on_progress: OnProgress | None,
    ) -> Outcome:
        """Do it; *begin* hears the plan before anything is changed, and may raise."""
        workspace, db = self._workspace, self._workspace.store.db
        looked = workspace.look(dirty() if dirty else None, on_progress=on_progress)
        plan = self._planned(looked)
        if plan.nothing:
            raise NothingToRestoreError(NOTHING, plan.kept)
        begin(plan)
        with database.writing(db):
            safety = rows.insert(db, workspace, looked, ("safety", None, None))
        target = bytes.fromhex(plan.target_root)
        restore = restoring.Restore(workspace, looked.root_hash, target, on_progress)
        done = restore.run(safety, answers.marks(dirty))
        return answers.outcome(safety, done, plan.kept, plan.unprotected)

    def _planned(self, looked: Looked) -> Plan:
        workspace, current = self._workspace, looked.root_hash
        target = self._target(current)
        with database.reading(workspace.store.db):
            restore = restoring.Restore(workspace, current, target.root_hash, None)
            return Plan(
                self._snapshot, self._scope, tuple(self._paths), current.hex(),
                target.root_hash.hex(),
                workspace.comparisons.of(current, target.root_hash).difference(),
                tuple(target.kept), (*looked.unprotected, *target.unprotected),
                restore.bytes_needed,
            )  # fmt: skip

    def _target(self, current: bytes) -> Target:
        workspace, objects = self._workspace, self._workspace.store.objects
        where = objects, workspace.comparisons, current
        target = Target(*where, workspace.untouchable(), self._leave)
        with objects.writing():
            if self._scope == "agent":
                since = rows.since(workspace.store.db, workspace.id, self._snapshot.seq)
                target.choose_calls(since)
            else:
                target.choose(bytes.fromhex(self._snapshot.root), self._paths)
        return target


def check_scope(scope: Scope, paths: Sequence[str]) -> None:
    """Raise ValueError unless *scope* is one that goes with *paths*."""
    if scope not in get_args(Scope) or bool(paths) != (scope == "paths"):
        raise ValueError(f"scope {scope!r} doesn't go with {len(paths)} paths")
