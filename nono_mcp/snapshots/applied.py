"""What a restore did to a workspace, and what it left alone.

Architecture invariant: this module does no I/O and reads no clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nono_mcp.snapshots.marks import Mark
from nono_mcp.snapshots.values import LISTED_MAX, Conflict

if TYPE_CHECKING:
    from nono_mcp.snapshots.steps import Step


@dataclass(slots=True)
class Applied:
    """What was done."""

    restored: list[bytes] = field(default_factory=list)
    restored_count: int = 0
    removed: list[bytes] = field(default_factory=list)
    removed_count: int = 0
    conflicts: list[Conflict] = field(default_factory=list)
    touched: Mark = field(default_factory=Mark)

    def _restore(self, step: Step) -> None:
        self.restored_count += 1
        if len(self.restored) < LISTED_MAX:
            self.restored.append(step.node.path())

    def _remove(self, step: Step) -> None:
        self.removed_count += 1
        if len(self.removed) < LISTED_MAX:
            self.removed.append(step.node.path())

    def done(self, step: Step) -> None:
        """Note that *step* was done."""
        if step.after is None:
            self._remove(step)
        else:
            self._restore(step)

    def left(self, step: Step, why: str) -> None:
        """Note that *step* wasn't done."""
        if len(self.conflicts) < LISTED_MAX:
            self.conflicts.append(Conflict(step.node.path(), why))
