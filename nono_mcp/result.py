"""What came of a command.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nono_mcp.capture import Capture
    from nono_mcp.guard.action import Action
    from nono_mcp.policy.egress import Refused
    from nono_mcp.undo.values import Changed
    from nono_sandbox.call_end import CallEnd


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended. All its processes are gone."""

    id: str
    """By which the audit log knows the call."""
    ended: CallEnd
    output: Capture
    """Standard output and error, interleaved as they were written."""
    duration_s: float
    cwd: str
    guarded: tuple[Action, ...] = ()
    """What was put right of what it did to what is guarded."""
    changed: Changed | None = None
    """What it changed in the workspace; nothing is known if it may not, or none is kept."""
    hosts_refused: tuple[Refused, ...] = ()
    """The first hosts that the proxy refused it."""

    @property
    def status(self) -> int:
        """Return the exit status as a shell reports it."""
        return self.ended.status
