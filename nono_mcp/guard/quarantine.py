"""Where what a worker planted is kept, for the person to look at: outside every grant.

What one look puts away is in one entry of it. It may be the person's own: what was saved while a
call ran.

Architecture invariant: nothing in it is ever executed, opened by us, or handed to a worker. What
one call makes flushes out nothing of another's: only entries older than `AGE_MIN_S` ever go, and
of those the first, when there are over `ENTRIES_MAX`.
"""

from __future__ import annotations

import os
import time

from nono_mcp.guard import tree
from nono_sandbox import scratch

ENTRIES_MAX = 64
AGE_MIN_S = 7 * 24 * 3600
_RANDOM_BYTES = 4
_TIME_DIGITS = 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Quarantine:
    """The quarantine of our state directory, made when it's first needed."""

    def __init__(self, state_dir: str) -> None:
        self._path = f"{state_dir}/quarantine"
        self.entry = ""
        """Of the look that is going on; none, if it hasn't put anything away."""
        self._taken_count = 0

    def begin_look(self) -> None:
        """Put what is taken from here on into an entry of its own."""
        self.entry = ""

    def take(self, name: str, parent: int) -> str:
        """Move what stands at *name* in the open directory *parent* here; return where it is.

        Raises:
            OSError: It is still there.
        """
        if not self.entry:
            self._make_entry()
        self._taken_count += 1
        place = f"{self.entry}/{self._taken_count}"
        os.mkdir(place, 0o700)
        directory = os.open(place, _DIRECTORY)
        try:
            tree.put_away(name, parent, directory)
        finally:
            os.close(directory)
        return f"{place}/{name}"

    def _make_entry(self) -> None:
        os.makedirs(self._path, mode=0o700, exist_ok=True)
        present = sorted(os.listdir(self._path))
        # Names sort by time, and by what came after what, should the clock have been set back.
        last = present[-1][:_TIME_DIGITS] if present else ""
        now = max(time.time_ns(), int(last) + 1 if last.isdecimal() else 0)
        entry = f"{self._path}/{now:0{_TIME_DIGITS}d}-{os.urandom(_RANDOM_BYTES).hex()}"
        os.mkdir(entry, 0o700)
        self.entry, self._taken_count = entry, 0
        self._forget(present)

    def _forget(self, present: list[str]) -> None:
        too_young = time.time() - AGE_MIN_S
        for name in present[: -ENTRIES_MAX + 1 or None]:
            path = f"{self._path}/{name}"
            try:
                if os.stat(path, follow_symlinks=False).st_mtime < too_young:
                    scratch.remove(path)
            except OSError:
                continue  # another session forgot it, or it stays
