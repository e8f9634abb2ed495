"""Lanes that are idle between calls, since to start one takes as long as several calls.

Architecture invariant: a lane is idle, runs one call, or is ended.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from nono_sandbox.client import Lane

LANES_MIN = 2
"""Of those whose workers wait, so that one gets ready while the other runs a call."""
LANES_KEPT = 4
"""Idle ones that stay; each has 2 MiB to itself."""
LANE_IDLE_S_MAX = 20.0
"""How long the others wait for the next call: to start one takes as long as several calls."""


class KeptLanes:
    """The lanes of one kind; of those that get ready after a call, more than one is kept."""

    def __init__(self, start: Callable[[], Lane], *, get_ready: bool) -> None:
        self._start = start
        self._get_ready = get_ready
        self._idle: list[tuple[Lane, float]] = []
        """Since when each one is, the longest first."""
        self._trimming: asyncio.TimerHandle | None = None
        self.busy_count = 0

    def take(self) -> Lane:
        """Return a lane that runs nothing.

        Raises:
            LaneLostError: The fork server died.
        """
        wanted = LANES_MIN - self.busy_count if self._get_ready else 1
        while len(self._idle) < max(wanted, 1):
            self._idle.append((self._start(), time.monotonic()))
        # The last, whose memory is at hand, and so that some are idle long enough to be ended; but
        # of those that get ready after a call the one before it, which had the time.
        lane, _ = self._idle.pop(-2 if self._get_ready and len(self._idle) > 1 else -1)
        self.busy_count += 1
        return lane

    def give_back(self, lane: Lane, *, keep: bool) -> None:
        """Take *lane* back; without *keep* it is ended with whatever it still runs."""
        self.busy_count -= 1
        if keep and not lane.is_spent():
            self._idle.append((lane, time.monotonic()))
            self._trim_later()
        else:
            lane.close()

    def _trim_later(self) -> None:
        if self._trimming is None and len(self._idle) > LANES_KEPT:
            due_s = self._idle[0][1] + LANE_IDLE_S_MAX - time.monotonic()
            self._trimming = asyncio.get_running_loop().call_later(max(0.0, due_s), self._trim)

    def _trim(self) -> None:
        """End lanes that nobody has needed for a while."""
        self._trimming = None
        due = time.monotonic() - LANE_IDLE_S_MAX
        while len(self._idle) > LANES_KEPT and self._idle[0][1] <= due:
            self._idle.pop(0)[0].close()
        self._trim_later()

    def end_idle(self) -> None:
        """End those that run nothing."""
        if self._trimming is not None:
            self._trimming.cancel()
        for lane, _ in self._idle:
            lane.close()
        self._idle.clear()
