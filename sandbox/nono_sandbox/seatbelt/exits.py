"""That a process has ended, told by a descriptor, while its number stays its own.

Who isn't collected keeps the number, so that no other process is ended in its stead. kqueue tells
it on macOS (kqueue(2), EVFILT_PROC), pidfd_open(2) on Linux, where the tests are run.

Nobody has run the half that is macOS's.
"""

from __future__ import annotations

import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self


if sys.platform == "darwin":

    class Exit:
        """The end of a child process that nobody collects meanwhile; `fileno` is readable then."""

        def __init__(self, pid: int) -> None:
            self._queue = select.kqueue()
            event = select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)
            try:
                self._queue.control([event], 0)
            except ProcessLookupError:
                # It has ended already: XNU finds no zombie. A timer says so at once.
                timer = select.kevent(pid, select.KQ_FILTER_TIMER, select.KQ_EV_ADD, data=0)
                self._queue.control([timer], 0)

        def fileno(self) -> int:
            """Return the descriptor to wait on."""
            return self._queue.fileno()

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            self._queue.close()

else:

    class Exit:
        """The end of a child process that nobody collects meanwhile; `fileno` is readable then."""

        def __init__(self, pid: int) -> None:
            self._fd = os.pidfd_open(pid)

        def fileno(self) -> int:
            """Return the descriptor to wait on."""
            return self._fd

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            os.close(self._fd)
