"""What is imported where; import-linter's contracts in pyproject.toml say the rest."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import nono_mcp
import nono_sandbox

# Each of these costs a tenth of a bare start of Python or more, most by what they import in turn.
DEAR = {
    "argparse", "ast", "asyncio", "collections", "contextlib", "dataclasses", "enum", "functools",
    "hashlib", "importlib.metadata", "inspect", "json", "logging", "pathlib", "random", "re",
    "selectors", "shutil", "signal", "site", "socket", "subprocess", "tempfile", "threading",
    "tomllib", "traceback", "typing",
}  # fmt: skip


def imported(module: Path) -> set[str]:
    """Return the top-level names *module* imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(module.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, module
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


def test_the_sandbox_is_the_standard_library_and_nothing_else() -> None:
    allowed = {*sys.stdlib_module_names, "nono_sandbox"}
    modules = list(Path(*nono_sandbox.__path__).rglob("*.py"))
    assert len(modules) > 1
    assert {
        module: names - allowed for module in modules if (names := imported(module)) - allowed
    } == {}


def imports_of(*command: str, cwd: Path, home: Path | None = None) -> set[str]:
    """Return every module that the command line and its children import."""
    # As the launcher starts it; where we're installed in place it goes by way of `site`.
    roots = sorted({str(Path(*package.__path__).parent) for package in (nono_mcp, nono_sandbox)})
    code = f"import sys; sys.path += {roots!r}; from nono_mcp.__main__ import run; run()"
    launched = [sys.executable, "-I", "-S", "-X", "importtime", "-c", code, *command]
    finished = subprocess.run(
        launched,
        capture_output=True,
        check=True,
        cwd=cwd,
        env=None if home is None else {"HOME": str(home), "PATH": os.environ["PATH"]},
        text=True,
        timeout=30,
    )
    return set(re.findall(r"^import time:.*\| +(\S+)$", finished.stderr, re.MULTILINE))


@pytest.mark.linux
def test_run_imports_nothing_dear(tmp_path: Path) -> None:
    names = imports_of("run", "--allow-cwd", "--", "true", cwd=tmp_path)
    assert "nono_sandbox.landlock" in names
    assert names & DEAR == set()


@pytest.mark.linux
def test_a_run_that_was_judged_before_does_without_os_too(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for place in ("home/.local/state/nono", "home/.config/nono", "work"):
        (tmp_path / place).mkdir(mode=0o700, parents=True)
    run = ("run", "--", "true")
    runs = [imports_of(*run, cwd=tmp_path / "work", home=home) for _ in range(2)]
    # Whatever was judged may be otherwise by the second time, on a machine that others work on.
    while "nono_mcp.policy.load" in runs[-1] and len(runs) < 5:
        runs.append(imports_of(*run, cwd=tmp_path / "work", home=home))
    if not list(home.glob(".local/state/nono/recall/*")):
        pytest.skip("without namespaces every run is judged")
    assert "os" in runs[0]
    assert runs[-1] & {"os", "resource", "stat", "struct"} == set()
