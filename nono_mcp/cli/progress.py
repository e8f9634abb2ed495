"""How far a long piece of work is, as a bar on a terminal; elsewhere nothing.

Architecture invariant: nothing is imported or shown for work that is done at once, and nothing of
it is left on the terminal afterwards.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from nono_mcp.snapshots.values import Phase, Progress

AFTER_S = 0.3
"""How long work takes before it's shown: to import what shows it takes a tenth of a second."""
_EVERY_S = 0.1
_NAMES: dict[Phase, str] = {
    "scan": "looking",
    "stage": "preparing",
    "apply": "putting back",
    "verify": "verifying",
    "collect": "thinning out",
}


@contextmanager
def showing() -> Iterator[Shown]:
    """Show how far the body is, on standard error if that is a terminal."""
    shown = Shown()
    try:
        yield shown
    finally:
        shown.close()


class Shown:
    """A bar, once there is one, and the phase that it shows."""

    def __init__(self) -> None:
        self.phase: Phase | None = None
        """The last that was told of."""
        self._is_on = sys.stderr is not None and os.isatty(2)
        self._next_at_s = time.monotonic() + AFTER_S
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._shown: Phase | None = None

    def __call__(self, progress: Progress) -> None:
        """Show *progress*, if it's time to."""
        self.phase = progress.phase
        now_s = time.monotonic()
        if not self._is_on or now_s < self._next_at_s:
            return
        self._next_at_s = now_s + _EVERY_S
        if self._bar is None:
            self._bar = _bar()
        if self._task is None or progress.phase != self._shown:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._shown = progress.phase
            self._task = self._bar.add_task(_NAMES[progress.phase], of="")
        of = "" if progress.total is None else f" of {progress.total:,}"
        self._bar.update(self._task, completed=progress.done, total=progress.total, of=of)
        self._bar.refresh()

    def close(self) -> None:
        """Leave no trace of it."""
        if self._bar is not None:
            self._bar.stop()


def _bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}{task.fields[of]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        # By us: a thread would go on showing while others write.
        auto_refresh=False,
    )
    bar.start()
    return bar
