"""Writing through to the disk that calls run, so that a power cut can't hide one.

A call doesn't wait for that. The kernel writes what is written in order, where both are on one
file system with a journal; elsewhere a call that plants something, has it written through and
loses power within the time that one write takes is missed.

Architecture invariant: nothing is decided here. A call costs no write to the disk of its own as
long as the last one is less than `QUIET_S` ago.
"""

from __future__ import annotations

import logging
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.guard.presence import Presence

QUIET_S = 5.0
"""After so long without a call the disk may say that none runs."""


class WriteThrough:
    """What a session says of calls that ran not long ago, and a thread that sees to it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        """Held while what is said is changed, or its file closed."""
        self._woken = threading.Event()
        self._new: list[Presence] = []
        self._thread: threading.Thread | None = None
        self._is_over = False

    def ran(self, one: Presence) -> None:
        """Write through what *one* says, soon. The lock has to be held."""
        self._new.append(one)
        if self._thread is None:
            self._thread = threading.Thread(target=self._see_to_them, daemon=True, name="guard")
            self._thread.start()
        self._woken.set()

    def close(self) -> None:
        """See to nothing more."""
        with self.lock:
            self._is_over = True
            self._woken.set()

    def _see_to_them(self) -> None:
        warm: list[Presence] = []
        while True:
            self._woken.wait(QUIET_S if warm else None)
            self._woken.clear()
            with self.lock:
                if self._is_over:
                    return
                new, self._new = self._new, []
            for one in new:
                try:
                    one.write_through()
                except OSError as error:
                    logging.getLogger("nono").warning("a power cut may hide a call: %s", error)
            warm = [one for one in (*warm, *new) if not one.cool(QUIET_S)]
