"""Thinning out old snapshots beside the work, once in so many new ones and not all the time.

Who thins has the store for that long, and calls that end meanwhile wait.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import TYPE_CHECKING

from nono_mcp.snapshots import upkeep
from nono_mcp.snapshots.errors import SnapshotError
from nono_mcp.undo.opening import retention

if TYPE_CHECKING:
    from nono_mcp.undo.rules import Rules

TAKES_A_PRUNE = 200
"""Snapshots after which the old ones are thinned."""
PAUSE_S_MIN = 10.0
"""How long nothing is thinned after that, however many are taken."""
PAUSE_TIMES = 20
"""How many times as long as it took, at least."""


class Thinning:
    """Counts the snapshots that one session takes."""

    def __init__(self) -> None:
        self._takes_count = TAKES_A_PRUNE
        self._due_at = 0.0

    def taken(self, rules: Rules) -> None:
        """Count one more, and thin out what the policy doesn't keep if it's time to."""
        self._takes_count += 1
        if self._takes_count > TAKES_A_PRUNE and time.monotonic() >= self._due_at:
            self._takes_count, self._due_at = 0, math.inf
            threading.Thread(target=self._thin, args=(rules,), daemon=True, name="thin").start()

    def _thin(self, rules: Rules) -> None:
        began_at = time.monotonic()
        try:
            upkeep.prune(rules.state_dir, retention(rules.section))
        except (SnapshotError, OSError) as error:
            logging.getLogger("nono").warning("old snapshots weren't thinned: %s", error)
        finally:
            now = time.monotonic()
            self._due_at = now + max(PAUSE_S_MIN, PAUSE_TIMES * (now - began_at))
