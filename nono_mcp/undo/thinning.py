"""Thinning out old snapshots beside the work, once in so many new ones."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from nono_mcp.snapshots import upkeep
from nono_mcp.snapshots.errors import SnapshotError
from nono_mcp.undo.opening import retention

if TYPE_CHECKING:
    from nono_mcp.undo.rules import Rules

TAKES_A_PRUNE = 200
"""Snapshots after which the old ones are thinned."""


class Thinning:
    """Counts the snapshots that one session takes."""

    def __init__(self) -> None:
        self._takes_count = 0

    def taken(self, rules: Rules) -> None:
        """Count one more, and thin out what the policy doesn't keep if it's time to."""
        if self._takes_count % TAKES_A_PRUNE == 0:
            threading.Thread(target=_thin, args=(rules,), daemon=True, name="thin").start()
        self._takes_count += 1


def _thin(rules: Rules) -> None:
    try:
        upkeep.prune(rules.state_dir, retention(rules.section))
    except (SnapshotError, OSError) as error:
        logging.getLogger("nono").warning("old snapshots weren't thinned: %s", error)
