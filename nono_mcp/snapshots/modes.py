"""Looking into what is closed to its owner, and leaving it as closed as it was.

Architecture invariant: before a mode is changed to look inside, it's written down in the store, and
whoever opens the workspace next puts it back.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from typing import TYPE_CHECKING, Final

from nono_mcp.snapshots import place
from nono_mcp.snapshots.descent import Descent
from nono_sandbox.opath import LOOK, change_mode

if TYPE_CHECKING:
    from collections.abc import Iterator

_JOURNAL_BYTES_MAX: Final = 1 << 28


class Modes:
    """The modes that are changed for a moment in one workspace."""

    def __init__(self, store_fd: int, workspace: int) -> None:
        self._store_fd = store_fd
        self._name = f"modes-{workspace}"
        self._fd = -1

    def note(self, path: list[bytes], status: os.stat_result) -> None:
        """Write down the mode of what is at *path*, before it's changed."""
        if self._fd < 0:
            self._fd = place.open_private(
                self._store_fd, self._name, os.O_RDWR | os.O_CREAT | os.O_APPEND
            )
        components = [os.fsdecode(name) for name in path]
        line = json.dumps([components, status.st_ino, stat.S_IMODE(status.st_mode)])
        os.write(self._fd, line.encode() + b"\n")

    def done(self) -> None:
        """Forget what was written down: all modes are as they were."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            os.unlink(self._name, dir_fd=self._store_fd)

    def put_back(self, root_fd: int) -> None:
        """Put the modes back that a crash left changed."""
        try:
            fd = place.open_private(self._store_fd, self._name, os.O_RDONLY)
        except FileNotFoundError:
            return
        with open(fd, "rb") as file:
            lines = file.read(_JOURNAL_BYTES_MAX).splitlines()
        # The deepest first: what is above has to be open until then.
        for line in reversed(lines):
            with contextlib.suppress(OSError, ValueError):
                components, ino, mode = json.loads(line)
                _put_back(root_fd, [os.fsencode(name) for name in components], ino, mode)
        os.unlink(self._name, dir_fd=self._store_fd)


def _put_back(root_fd: int, path: list[bytes], ino: int, mode: int) -> None:
    if not path:
        change_mode(root_fd, mode)
        return
    with Descent(root_fd) as descent:
        for name in path[:-1]:
            descent.down(name)
        with looking(descent.fd, path[-1]) as fd:
            if os.fstat(fd).st_ino == ino:
                change_mode(fd, mode)


@contextlib.contextmanager
def looking(dir_fd: int, name: bytes) -> Iterator[int]:
    """Hold *name* by a descriptor that can only be looked at."""
    fd = os.open(name, LOOK, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)
