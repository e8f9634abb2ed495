"""Who runs on this machine, as its own tools tell it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def running(mark: str) -> Iterator[int]:
    """Yield the processes that have *mark* among their arguments."""
    for pid, arguments in _command_lines():
        if mark in arguments:
            yield pid


if sys.platform == "darwin":

    def _command_lines() -> Iterator[tuple[int, str]]:
        listed = subprocess.run(
            ["/bin/ps", "-axww", "-o", "pid=,args="], capture_output=True, check=True
        )
        for line in listed.stdout.decode(errors="replace").splitlines():
            pid, _, arguments = line.strip().partition(" ")
            yield int(pid), arguments

else:

    def _command_lines() -> Iterator[tuple[int, str]]:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    arguments = (entry / "cmdline").read_bytes()
                except OSError:
                    continue  # ended since it was listed
                yield int(entry.name), arguments.decode(errors="replace")
