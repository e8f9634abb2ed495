"""Claude Code with the plugin: its own tools are refused, ours act."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.agents import Agent
from tests.e2e.conftest import CLIENTS

pytestmark = pytest.mark.linux

PLUGIN = Path(__file__).parents[2] / "integrations" / "claude-code"
REFUSE = PLUGIN / "hooks" / "refuse.py"
OURS = "mcp__plugin_nono_nono"


class Plugged(Agent):
    """Claude Code with the plugin; it would let its own tools run."""

    def _client(self) -> list[str]:
        options = ["-p", "go", "--plugin-dir", str(PLUGIN), "--verbose"]
        return [CLIENTS["claude"], *options, "--allowedTools", f"Bash,Write,Read,{OURS}"]


@pytest.mark.slow
@pytest.mark.skipif("claude" not in CLIENTS, reason="Claude Code isn't here")
def test_its_own_tools_are_refused_and_ours_act(tmp_path: Path) -> None:
    agent = Plugged("claude", tmp_path)
    agent.home.mkdir()
    agent.project.mkdir()
    (agent.project / "file").write_text("its content")
    shell, write, read, ours = agent.run(
        {"tool": "Bash", "arguments": {"command": "touch escaped", "description": "x"}},
        {"tool": "Write", "arguments": {"file_path": str(agent.project / "new"), "content": "x"}},
        {"tool": "Read", "arguments": {"file_path": str(agent.project / "file")}},
        {"tool": f"{OURS}__run_sandboxed", "arguments": {"command": "touch made; cat file"}},
    )
    for refused in (shell, write, read):
        assert "act by way of nono's tools alone" in refused
    assert "its content" not in read
    assert "\nits content\n[nono] changed: 1 added" in ours
    assert sorted(path.name for path in agent.project.iterdir()) == ["file", "made"]


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"tool_name": "mcp__nono__run_sandboxed"}, 0),
        ({"tool_name": f"{OURS}__read_file"}, 0),
        ({"tool_name": "TodoWrite"}, 0),
        ({"tool_name": "Bash", "tool_input": {"tool_name": "mcp__nono__x"}}, 2),
        ({"tool_name": "Bash", "tool_input": {"command": '"tool_name": "TodoWrite"'}}, 2),
        ({"tool_name": "mcp__other__shell"}, 2),
        ({"tool_name": "ATool", "tool_input": {}}, 2),
        ({}, 1),
        ([], 1),
    ],
)
def test_what_isnt_known_is_refused(told: object, status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", REFUSE],
        input=json.dumps(told),
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == status
    # Anything but 0 and 2 lets a tool run.
    assert "|| exit 2" in (PLUGIN / "hooks" / "hooks.json").read_text()
