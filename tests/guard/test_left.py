"""Whatever is put right at a call's end is put right as well after its server was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from nono_mcp.guard.guard import Guard
from nono_mcp.guard.subtree_guard import SubtreeGuard
from tests.guard import test_guard, test_names, test_subtree_guard
from tests.guard.runs import ENVIRON

pytestmark = [pytest.mark.linux, pytest.mark.claim("guard.shared")]

ATTACKS = test_guard.PLANTED | test_subtree_guard.PLANTED | test_names.INNER
SERVER = """
    import json, os, signal, subprocess, sys
    from nono_mcp.guard.subtree_guard import SubtreeGuard
    from nono_mcp.guard.guard import Guard

    guards = []
    attacks = json.loads(sys.argv[2])
    for work in attacks:
        below, guard = SubtreeGuard(sys.argv[1]), Guard(sys.argv[1])
        below.settle(work, ())
        guard.settle([(work, None)], ())
        below.begin(None)
        guard.begin()
        guards += below, guard
    for work, script in attacks.items():
        subprocess.run(["/bin/sh", "-c", script], cwd=work, check=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def is_there(path: Path) -> bool:
    """Look, in a directory that is shut too."""
    try:
        mode = path.parent.stat().st_mode
    except FileNotFoundError:
        return False
    path.parent.chmod(0o700)
    try:
        return os.path.lexists(path)
    finally:
        path.parent.chmod(mode & 0o7777)


def test_every_plant_is_taken_away_by_the_next_server(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    attacks = {}
    for number, (path, script) in enumerate(ATTACKS.items()):
        work = tmp_path / f"{number}"
        for name in (".git", "d"):
            (work / name).mkdir(parents=True)
        attacks[str(work)] = path, script
    scripts = json.dumps({work: script for work, (_, script) in attacks.items()})
    words = [sys.executable, "-c", textwrap.dedent(SERVER), state, scripts]
    environ = ENVIRON | {"HOME": str(tmp_path)}
    done = subprocess.run(words, env=environ, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    for place, (path, script) in attacks.items():
        assert is_there(Path(place, path)), script
        below, guard = SubtreeGuard(state), Guard(state)
        below.settle(place, ())
        guard.settle([(place, None)], ())
        actions = (*below.begin(None), *guard.begin(), *guard.end(), *below.end())
        assert [(one.action, one.path) for one in actions] == [("removed", f"{place}/{path}")]
        assert not is_there(Path(place, path))
        below.close()
        guard.close()
