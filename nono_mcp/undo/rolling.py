"""Putting a snapshot back, told to the audit log: the intent before the act, the outcome after it.

Architecture invariant: what somebody agreed to is done, or nothing is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nono_mcp.snapshots.errors import StalePlanError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nono_mcp.audit.session import Session as Log
    from nono_mcp.snapshots.snapshots import Snapshots
    from nono_mcp.snapshots.values import Outcome, Plan, Progress
    from nono_mcp.undo.values import Wanted

    OnProgress = Callable[[Progress], None] | None


def roll_back(
    store: Snapshots,
    wanted: Wanted,
    log: Log | None,
    *,
    agreed: Plan | None = None,
    on_progress: OnProgress = None,
) -> Outcome:
    """Put back what is *wanted*; if somebody *agreed* to a plan, as that says and not otherwise.

    Raises:
        StalePlanError: The workspace isn't what it was then. Nothing was changed.
        SnapshotError: The error says in what state the workspace is.
        AuditWriteError: It isn't in the log.
    """
    begun: list[Plan] = []

    def begin(plan: Plan) -> None:
        if agreed is not None and _roots(agreed) != _roots(plan):
            raise StalePlanError(
                "the workspace has changed since the question: nothing was put back"
            )
        start: dict[str, object] = {"scope": plan.scope, "root": plan.target_root}
        record(log, plan.snapshot.id, "start", start)
        begun.append(plan)

    try:
        outcome = store.roll_back(
            wanted.snapshot,
            scope=wanted.scope,
            paths=wanted.paths,
            leave=wanted.leave,
            begin=begin,
            progress=on_progress,
        )
    except BaseException as error:
        # Interrupted by the person, too: it has ended, and the log says how.
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        for plan in begun:
            record(log, plan.snapshot.id, "end", {"outcome": "error", "reason": reason})
        raise
    for plan in begun:
        record(log, plan.snapshot.id, "end", of_outcome(outcome))
    return outcome


def of_outcome(outcome: Outcome) -> dict[str, object]:
    """Return what the audit log is told of a rollback's end."""
    return {
        "outcome": "verified" if outcome.verified else "unverified",
        "root": outcome.root,
        "restored": outcome.restored_count,
        "removed": outcome.removed_count,
        "kept": len(outcome.kept),
        "conflicts": len(outcome.conflicts),
        "safety": outcome.safety.id,
        "safety_root": outcome.safety.root,
    }


def record(log: Log | None, snapshot: str, phase: str, fields: Mapping[str, object]) -> None:
    """Record a rollback's beginning or end."""
    if log is not None:
        log.append("rollback", {"id": snapshot, "phase": phase, **fields})


def _roots(plan: Plan) -> tuple[str, str]:
    return plan.current_root, plan.target_root
