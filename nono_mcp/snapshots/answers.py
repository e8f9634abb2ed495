"""What a restore asks of its caller, and what it answers with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nono_mcp.snapshots.marks import Mark, marked
from nono_mcp.snapshots.values import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from nono_mcp.snapshots.restoring import Restored
    from nono_mcp.snapshots.values import Conflict, Dirty, Snapshot, Unprotected


def marks(dirty: Callable[[], Dirty | None] | None) -> Callable[[], Mark | None] | None:
    """Return what asks *dirty* for marks."""
    if dirty is None:
        return None

    def asked() -> Mark | None:
        told = dirty()
        return None if told is None else marked(told)

    return asked


def outcome(
    safety: Snapshot,
    done: Restored,
    kept: tuple[Conflict, ...],
    unprotected: tuple[Unprotected, ...],
) -> Outcome:
    """Return what a restore answers with."""
    applied = done.applied
    return Outcome(
        safety, done.root, done.verified, tuple(applied.restored), applied.restored_count,
        tuple(applied.removed), applied.removed_count, kept, tuple(applied.conflicts),
        unprotected,
    )  # fmt: skip
