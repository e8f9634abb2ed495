"""A Linux that does as a Mac does: the command line in it, and what became of its calls."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import nono_mcp
import nono_proxy
import nono_sandbox
from tests.macos import mac, stand_in
from tests.server.conftest import Machine, Marked, furnished

# What is imitated is imitated on Linux; on a Mac tests/sandbox/seatbelt/test_on_macos.py runs.
collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]
LONG_ENOUGH_S = 60.0


@dataclass(frozen=True)
class Mac:
    """A person's machine, with a stand-in for sandbox-exec beside it."""

    machine: Machine

    def command(self, *arguments: str) -> list[str]:
        """Return what to execute for the command line with *arguments*."""
        roots = {str(Path(*one.__path__).parent) for one in (nono_mcp, nono_proxy, nono_sandbox)}
        code = (
            f"import sys; sys.path += {sorted(roots)!r} + [{str(mac.HERE)!r}];"
            f"import mac; mac.command_line({str(self.machine.root)!r})"
        )
        return [sys.executable, "-I", "-S", "-c", code, *arguments]

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run the command line in the workspace to its end."""
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            check=False,
            cwd=self.machine.workspace,
            env=self.machine.environ | environ,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=LONG_ENOUGH_S,
        )

    def calls(self) -> list[list[str]]:
        """Return with which arguments the stand-in was called."""
        return stand_in.calls(self.machine.root)


@pytest.fixture
def on_mac(tmp_path: Path) -> Mac:
    return a_mac(tmp_path)


@pytest.fixture
def marked() -> Marked:
    return Marked()


def a_mac(root: Path) -> Mac:
    machine = furnished(Path(os.path.realpath(root)))
    stand_in.install(machine.root)
    return Mac(machine)
