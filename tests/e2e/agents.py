"""The real Claude Code and the real Codex, configured as the README says, with a scripted model."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.conftest import CLIENTS

HERE = Path(__file__).parent
README = (HERE.parents[1] / "README.md").read_text(encoding="utf-8")
SECRET = "correct-horse-battery"  # noqa: S105 - planted, to be looked for
DEADLINE_S = 180.0
# What Codex offers besides. None of it runs a command, opens a file or reaches the network.
CODEX_OWN = {
    "create_goal",
    "get_goal",
    "list_mcp_resource_templates",
    "list_mcp_resources",
    "read_mcp_resource",
    "request_user_input",
    "update_goal",
    "update_plan",
}
CODEX_STANDIN = """
[model_providers.standin]
name = "standin"
base_url = "http://127.0.0.1:{port}/v1"
wire_api = "responses"
env_key = "STANDIN_KEY"
request_max_retries = 0
stream_max_retries = 0
supports_websockets = false
"""


def snippet(language: str, holding: str) -> str:
    """Return the one block of the README in *language* that holds a text."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    (found,) = (block for block in blocks if holding in block)
    return str(found)


@dataclass(frozen=True)
class Agent:
    """A client and a model that does as it is told, in a home with a secret in it."""

    name: str
    root: Path
    has_person: bool = False
    """Somebody is there to be asked, and says yes."""
    is_remote: bool = False
    """It isn't told of a server here: somebody has one by HTTP installed."""

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def project(self) -> Path:
        return self.root / "project"

    def tool(self, name: str) -> str:
        return f"mcp__nono__{name}" if self.name == "claude" else f"mcp__nono/{name}"

    def turn(self, command: str) -> dict[str, object]:
        return {"tool": self.tool("run_sandboxed"), "arguments": {"command": command}}

    def start(self, *turns: dict[str, object]) -> subprocess.Popen[bytes]:
        """Start the client beside a stand-in that takes these turns."""
        with (self.root / "out").open("wb") as out:
            return subprocess.Popen(
                [*no_network(), *self.command(*turns)],
                cwd=self.project,
                env=self.environ(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def command(self, *turns: dict[str, object]) -> list[str]:
        """Return what starts the client beside a stand-in that takes these turns."""
        (self.root / "turns.json").write_text(json.dumps(turns))
        command = [sys.executable, str(HERE / "standin.py")]
        command += ["--turns", str(self.root / "turns.json"), "--log", str(self.root / "log")]
        return [*command, *(["--alone"] if no_network() else []), "--", *self._client()]

    def _client(self) -> list[str]:
        if self.name == "claude":
            if not self.is_remote:
                (self.project / ".mcp.json").write_text(snippet("json", "mcpServers"))
            options = "-p go --mcp-config .mcp.json --strict-mcp-config --verbose"
            ours_alone = ["--tools", "", "--allowedTools", "mcp__nono"]
            if self.has_person:
                (self.root / "settings.json").write_text(json.dumps(yes_settings()))
                ours_alone += ["--settings", str(self.root / "settings.json")]
            return [CLIENTS["claude"], *options.split(), *ours_alone]
        top, _, tables = snippet("toml", "mcp_servers.nono").partition("\n[")
        top += '\nmodel = "fake"\nmodel_provider = "standin"\ncheck_for_update_on_startup = false\n'
        if self.is_remote:
            tables, _, _ = tables.partition("\n[mcp_servers.nono]")
        configuration = f"{top}\n[{tables}\n{CODEX_STANDIN}"
        (self.home / ".codex").mkdir()
        (self.home / ".codex" / "config.toml").write_text(configuration)
        # The port is known once the stand-in listens.
        script = 'sed -i "s/[{]port[}]/$0/" $CODEX_HOME/config.toml; exec "$@"'
        codex = [CLIENTS["codex"], "exec", "--skip-git-repo-check", "--json", "go"]
        if self.has_person:
            codex = [sys.executable, str(HERE / "appserver.py"), CLIENTS["codex"], "go"]
        return ["sh", "-c", script, "{port}", *codex]

    def environ(self) -> dict[str, str]:
        """Return the client's environment."""
        nowhere = "http://127.0.0.1:1"
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "TERM": "dumb",
            "LANG": "C.UTF-8",
            "HTTP_PROXY": nowhere,
            "HTTPS_PROXY": nowhere,
            "NO_PROXY": "127.0.0.1",
            "OPENAI_API_KEY": SECRET,
            "ANTHROPIC_API_KEY": SECRET,
            "ANTHROPIC_BASE_URL": "http://127.0.0.1:{port}",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "MCP_CONNECT_TIMEOUT_MS": "60000",
            "CODEX_HOME": str(self.home / ".codex"),
            "STANDIN_KEY": "key",
        }

    def run(self, *turns: dict[str, object]) -> list[str]:
        """Run the client to its end and return the results of the tools it called."""
        process = self.start(*turns, {"text": "THE END"})
        try:
            status = process.wait(DEADLINE_S)
        finally:
            process.kill()
            process.wait()
        assert status == 0, self.said()
        return self.results()

    def said(self) -> str:
        """Return what the client printed."""
        return (self.root / "out").read_text(errors="replace")

    def results(self) -> list[str]:
        """Return the results of the tools that it called, if it came to the end of the turns."""
        assert "THE END" in self.said(), self.said()
        return list(self.log()[-1]["results"])

    def log(self) -> list[dict[str, Any]]:
        lines = (self.root / "log").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def offered(self) -> tuple[set[str], set[str]]:
        """Return the names of all tools that the model was ever offered: ours and others."""
        names: set[str] = set()
        for request in self.log():
            for tool in request["tools"]:
                name = tool.get("name") or tool["type"]
                if name == "mcp__nono":
                    names |= {f"mcp__nono__{inner['name']}" for inner in tool["tools"]}
                else:
                    names.add(name)
        ours = {name for name in names if name.startswith("mcp__nono__")}
        return {name.removeprefix("mcp__nono__") for name in ours}, names - ours


def yes_settings() -> dict[str, object]:
    """Return settings by which Claude Code's person says yes to every question."""
    answer = {"hookEventName": "Elicitation", "action": "accept", "content": {"agreed": True}}
    command = f"echo {shlex.quote(json.dumps({'hookSpecificOutput': answer}))}"
    return {"hooks": {"Elicitation": [{"hooks": [{"type": "command", "command": command}]}]}}


def no_network() -> list[str]:
    """Return what runs a command where there is only loopback, if that is to be had."""
    command = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    tried = subprocess.run([*command, "true"], check=False, capture_output=True)
    return command if tried.returncode == 0 else []


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
