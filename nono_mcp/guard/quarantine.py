"""Where what a worker planted is kept, for the person to look at: outside every grant.

Architecture invariant: nothing in it is ever executed, opened by us, or handed to a worker; the
oldest goes when there are over `ENTRIES_MAX`.
"""

from __future__ import annotations

import os
import time

from nono_mcp.guard import tree
from nono_sandbox import scratch

ENTRIES_MAX = 64
_RANDOM_BYTES = 4
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Quarantine:
    """The quarantine of our state directory, made when it's first needed."""

    def __init__(self, state_dir: str) -> None:
        self._path = f"{state_dir}/quarantine"

    def take(self, name: str, parent: int) -> str:
        """Move what stands at *name* in the open directory *parent* here; return where it is.

        Raises:
            OSError: It is still there.
        """
        os.makedirs(self._path, mode=0o700, exist_ok=True)
        self._forget()
        # Names sort by time.
        place = f"{self._path}/{time.time_ns():020d}-{os.urandom(_RANDOM_BYTES).hex()}"
        os.mkdir(place, 0o700)
        directory = os.open(place, _DIRECTORY)
        try:
            tree.put_away(name, parent, directory)
        finally:
            os.close(directory)
        return f"{place}/{name}"

    def _forget(self) -> None:
        for name in sorted(os.listdir(self._path))[: -ENTRIES_MAX + 1 or None]:
            try:
                scratch.remove(f"{self._path}/{name}")
            except FileNotFoundError:
                continue  # another session forgot it
