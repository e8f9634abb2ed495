"""Group commit: many wait for one fsync."""

import os
import threading
from collections.abc import Callable

from nono_mcp.audit import files


class GroupSync:
    """Waits until records are on disk; whoever comes while one fsync runs shares the next."""

    def __init__(self, duplicate: Callable[[], int]) -> None:
        """Take a function that returns a new descriptor of what is written to."""
        self._duplicate = duplicate
        self._changed = threading.Condition()
        self._synced = -1
        self._asked = -1
        self._running = False

    def wait_for(self, seq: int) -> None:
        """Return when record *seq*, which was written, is on disk.

        Raises:
            OSError: It may not be.
        """
        with self._changed:
            self._asked = max(self._asked, seq)
            while self._running and self._synced < seq:
                self._changed.wait()
            if self._synced >= seq:
                return
            self._running = True
            covers = self._asked
        done = False
        try:
            fd = self._duplicate()
            try:
                files.durable(fd)
            finally:
                os.close(fd)
            done = True
        finally:
            with self._changed:
                self._running = False
                if done:
                    self._synced = max(self._synced, covers)
                self._changed.notify_all()
