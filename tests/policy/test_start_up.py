"""What a start of `nono run` pays for: modules, since time can't be trusted on a busy machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nono_mcp
import nono_sandbox

COSTLY = {
    "argparse",
    "collections",
    "contextlib",
    "dataclasses",
    "difflib",
    "enum",
    "fnmatch",
    "functools",
    "hashlib",
    "json",
    "logging",
    "pathlib",
    "re",
    "shutil",
    "signal",
    "socket",
    "subprocess",
    "tempfile",
    "tomllib",
    "typing",
}

SCRIPT = """
import sys
sys.path[:0] = {roots!r}
from nono_mcp.policy import home, load
from nono_mcp.policy.request import Request
prepared = load.prepare(Request(
    workspace={root!r} + "/work", tier="namespaces", environ={{"PATH": "/usr/bin"}},
    home={root!r} + "/home", state_dir={root!r} + "/state", config_dir={root!r} + "/config",
))
home.ensure(prepared)
print(*sys.modules)
"""


def test_a_default_run_imports_nothing_costly(tmp_path: Path) -> None:
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    roots = [str(Path(str(found.__file__)).parents[1]) for found in (nono_mcp, nono_sandbox)]
    script = SCRIPT.format(roots=roots, root=str(tmp_path))
    finished = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    loaded = set(finished.stdout.split())
    assert "nono_mcp.policy.compile" in loaded
    assert "nono_mcp.policy.parse" not in loaded
    assert loaded.isdisjoint(COSTLY)
