"""The official conformance suite and Inspector, against the whole server."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import BIN

pytestmark = pytest.mark.linux

SOURCES = Path(__file__).parents[2]
# An extension that neither the SDK nor we offer: its scenarios want tools that are tasks.
NOT_OFFERED = "server-tasks-"
CHECKS_MIN = {"2025-11-25": 81, "2026-07-28": 150}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    workspace = tmp_path / "home" / "work"
    workspace.mkdir(parents=True)
    return workspace


def environ(workspace: Path) -> dict[str, str]:
    home = str(workspace.parent)
    return {"HOME": home, "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}


@pytest.fixture
def url(workspace: Path) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.conformance.serve", str(workspace)],
        cwd=SOURCES,
        env=environ(workspace) | {"PYTHONPATH": str(SOURCES)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        yield process.stderr.readline().split()[-1]
    finally:
        process.terminate()
        process.communicate()


@pytest.mark.parametrize("revision", sorted(CHECKS_MIN))
def test_the_official_suite_passes(
    url: str, workspace: Path, tmp_path: Path, revision: str
) -> None:
    command = ["conformance", "server", "--url", url, "--requirements", revision]
    ended = subprocess.run(
        [*command, "-o", str(tmp_path / "results")],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env=environ(workspace) | {"PATH": f"{BIN}:{os.environ['PATH']}"},
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stdout
    statuses: Counter[str] = Counter()
    for scenario in (tmp_path / "results").iterdir():
        for check in json.loads((scenario / "checks.json").read_text()):
            if not scenario.name.startswith(NOT_OFFERED):
                assert check["status"] != "FAILURE", (scenario.name, check)
                statuses[check["status"]] += 1
    assert statuses["SUCCESS"] >= CHECKS_MIN[revision]


def inspect(workspace: Path, *options: str) -> tuple[dict[str, Any], str]:
    """Return what Inspector's command line prints of a server on standard input and output."""
    nono = Path(sys.executable).parent / "nono"
    server = [str(nono), "serve", "--workspace", str(workspace)]
    ended = subprocess.run(
        ["mcp-inspector", "--cli", *server, "--connect-timeout", "60000", *options],
        capture_output=True,
        check=False,
        env=environ(workspace),
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout), ended.stderr


def test_inspector_finds_nothing_wrong_with_the_tools(workspace: Path) -> None:
    told, errors = inspect(workspace, "--method", "tools/list", "--strict")
    assert {"run_sandboxed", "read_file", "rollback"} <= {tool["name"] for tool in told["tools"]}
    assert "portability" not in errors


def test_inspector_calls_a_tool_and_puts_load_on_it(workspace: Path) -> None:
    call = ["--protocol-era", "modern", "--method", "tools/call", "--tool-name", "run_sandboxed"]
    call += ["--tool-arg", "command=echo called"]
    told, _ = inspect(workspace, *call)
    assert told["content"][0]["text"].endswith("\ncalled")
    load, _ = inspect(workspace, *call, "--load", "--load-requests", "60")
    assert (load["ok"], load["toolErrors"], load["errors"]) == (60, 0, 0)
