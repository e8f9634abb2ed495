"""Agents' frameworks, each in an environment of its own, act through us as integrations/ says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.agents import no_network
from tests.e2e.conftest import FRAMEWORKS

pytestmark = [pytest.mark.linux, pytest.mark.slow]

HERE = Path(__file__).parent
INTEGRATIONS = HERE.parents[1] / "integrations"
SECRET = "correct-horse-battery"  # noqa: S105 - planted, to be looked for
NAMES = sorted(path.parent.name for path in INTEGRATIONS.glob("*/requirements.txt"))
# What their adapters pin: the other line of the SDK's.
OLD_SDK = {"langchain", "smolagents"}
# Where a sample's workspace is its own, and gone when it ends.
OWN_WORKSPACE = {"inspect-ai"}
COMMANDS = ("echo made here > made.txt; cat made.txt", "cat ~/.ssh/id_ed25519 /etc/shadow")


def python(name: str) -> str:
    assert FRAMEWORKS is not None
    return str(FRAMEWORKS / name / "bin" / "python")


def environ(home: Path) -> dict[str, str]:
    nowhere = "http://127.0.0.1:1"
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "HTTP_PROXY": nowhere,
        "HTTPS_PROXY": nowhere,
        "NO_PROXY": "127.0.0.1",
        # Which of them ask for a model ask the stand-in.
        "ANTHROPIC_API_KEY": SECRET,
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:{port}",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "MCP_CONNECT_TIMEOUT_MS": "60000",
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_example_acts_through_us_alone(name: str, tmp_path: Path) -> None:
    home, workspace = tmp_path / "home", tmp_path / "home" / "work"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id_ed25519").write_text(SECRET)
    workspace.mkdir()
    turns: list[dict[str, object]] = [
        {"tool": "mcp__nono__run_sandboxed", "arguments": {"command": command}}
        for command in COMMANDS
    ]
    (tmp_path / "turns.json").write_text(json.dumps([*turns, {"text": "THE END"}]))
    alone = no_network()
    standin = [sys.executable, str(HERE / "standin.py"), "--turns", str(tmp_path / "turns.json")]
    standin += ["--log", str(tmp_path / "log"), *(["--alone"] if alone else [])]
    example = [python(name), str(INTEGRATIONS / name / "example.py"), str(workspace)]
    ended = subprocess.run(
        [*alone, *standin, "--", *example],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env=environ(home),
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=240,
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    assert "made here" in ended.stdout
    assert "Permission denied" in ended.stdout
    assert SECRET not in said
    assert "root:" not in said
    if name in OWN_WORKSPACE:
        assert "accuracy 1.0" in ended.stdout
    else:
        assert (workspace / "made.txt").read_text() == "made here\n"


@pytest.mark.parametrize("name", sorted(OLD_SDK))
def test_some_of_them_have_the_other_line_of_the_sdk(name: str) -> None:
    code = "import importlib.metadata as m; print(m.version('mcp'))"
    ended = subprocess.run([python(name), "-c", code], capture_output=True, check=True, text=True)
    assert ended.stdout.startswith("1.")
