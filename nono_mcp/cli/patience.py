"""Who waits for the look after a program: is told how far it is, and may end it by a signal.

Imported only where there is something to judge.

Architecture invariant: a signal never comes in the middle of anything: it's looked for between one
thing and the next.
"""

from __future__ import annotations

import os
import time

from nono_mcp.cli import say, signals

SHOWN_AFTER_S = 1.5
_SHOWN_EVERY_S = 0.2
GRACE_S = 0.2
"""What is done so soon after a signal is done whole: the person may have meant the program."""
_CLEAR_LINE = "\r\033[K"


class Patience:
    """What a look is told whether to go on by, where signals have *arrived*."""

    def __init__(self, arrived: signals.Signals, *, quiet: bool) -> None:
        self._arrived = arrived
        self._ended_by = 0
        self._until_s = 0.0
        self._is_shown = False
        self._is_seen = not quiet and os.isatty(2)
        self._next_at_s = time.monotonic() + SHOWN_AFTER_S

    def goes_on(self, done: int, total: int) -> bool:
        """Tell whether to go on, and show how far it is."""
        now_s = time.monotonic()
        for number in self._arrived.take():
            self._hear(number, now_s)
        if self._ended_by and now_s >= self._until_s:
            self._arrived.cut_short_by = self._ended_by
            return False
        if self._is_seen and now_s >= self._next_at_s:
            self._is_shown = True
            self._next_at_s = now_s + _SHOWN_EVERY_S
            say.err(f"{_CLEAR_LINE}nono: judging what it left: {done:,} of {total:,}")
        return True

    def close(self) -> None:
        """Leave nothing of it on the terminal."""
        if self._is_shown:
            say.err(_CLEAR_LINE)

    def _hear(self, number: int, now_s: float) -> None:
        if number == signals.TSTP:
            signals.stop()
        elif number in signals.ENDING and not self._ended_by:
            self._ended_by = number
            self._until_s = now_s + GRACE_S
