"""The real Claude Code and the real Codex, configured as the README says, act through us alone."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from nono_mcp.demo.processes import running
from tests.e2e.conftest import CLIENTS

pytestmark = pytest.mark.linux

HERE = Path(__file__).parent
README = (HERE.parents[1] / "README.md").read_text(encoding="utf-8")
SECRET = "correct-horse-battery"  # noqa: S105 - planted, to be looked for
DEADLINE_S = 180.0
OURS = {"run_sandboxed", "explain_policy", "read_file", "edit_file", "audit_tail", "audit_verify"}
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
        (self.root / "turns.json").write_text(json.dumps(turns))
        command = [sys.executable, str(HERE / "standin.py")]
        command += ["--turns", str(self.root / "turns.json"), "--log", str(self.root / "log")]
        alone = no_network()
        with (self.root / "out").open("wb") as out:
            return subprocess.Popen(
                [*alone, *command, *(["--alone"] if alone else []), "--", *self._client()],
                cwd=self.project,
                env=self._environ(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def _client(self) -> list[str]:
        if self.name == "claude":
            (self.project / ".mcp.json").write_text(snippet("json", "mcpServers"))
            options = "-p go --mcp-config .mcp.json --strict-mcp-config --verbose"
            ours_alone = ["--tools", "", "--allowedTools", "mcp__nono"]
            if self.has_person:
                (self.root / "settings.json").write_text(json.dumps(yes_settings()))
                ours_alone += ["--settings", str(self.root / "settings.json")]
            return [CLIENTS["claude"], *options.split(), *ours_alone]
        top, _, tables = snippet("toml", "mcp_servers.nono").partition("\n[")
        top += '\nmodel = "fake"\nmodel_provider = "standin"\ncheck_for_update_on_startup = false\n'
        configuration = f"{top}\n[{tables}\n{CODEX_STANDIN}"
        (self.home / ".codex").mkdir()
        (self.home / ".codex" / "config.toml.in").write_text(configuration)
        # The port is known once the stand-in listens.
        script = 'sed "s/[{]port[}]/$0/" <$CODEX_HOME/config.toml.in >$CODEX_HOME/config.toml; '
        script += 'exec "$@"'
        codex = [CLIENTS["codex"], "exec", "--skip-git-repo-check", "--json", "go"]
        if self.has_person:
            codex = [sys.executable, str(HERE / "appserver.py"), CLIENTS["codex"], "go"]
        return ["sh", "-c", script, "{port}", *codex]

    def _environ(self) -> dict[str, str]:
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
        said = (self.root / "out").read_text(errors="replace")
        assert status == 0, said
        assert "THE END" in said
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


@pytest.fixture(params=sorted(CLIENTS))
def agent(request: pytest.FixtureRequest, tmp_path: Path) -> Agent:
    agent = Agent(request.param, tmp_path)
    (agent.home / ".ssh").mkdir(parents=True)
    (agent.home / ".ssh" / "id_ed25519").write_text(SECRET)
    agent.project.mkdir()
    return agent


def test_a_command_runs_and_a_secret_stays_unread(agent: Agent) -> None:
    ran, denied, environment, explained = agent.run(
        agent.turn("echo made here > made.txt; cat made.txt; exit 3"),
        agent.turn(f"cat {agent.home}/.ssh/id_ed25519"),
        agent.turn("env; cat /proc/[0-9]*/environ"),
        {"tool": agent.tool("explain_policy"), "arguments": {"path": "~/.ssh/id_ed25519"}},
    )
    assert "exit status 3, " in ran
    assert "made here\n[nono] changed: 1 added" in ran
    assert (agent.project / "made.txt").read_text() == "made here\n"
    assert "[nono] fs.protected: " in denied
    assert "denied. fs.protected: " in explained
    assert SECRET not in ran + denied + environment + explained


def test_the_tools_offered_are_ours(agent: Agent) -> None:
    agent.run(agent.turn("true"))
    ours, others = agent.offered()
    assert ours >= OURS
    assert others <= (CODEX_OWN if agent.name == "codex" else set())


@pytest.mark.claim("ask.given")
@pytest.mark.claim("undo.asked")
def test_a_person_steers_from_chat(agent: Agent) -> None:
    """They approve one more path and a mistake's undoing, and see a long job at work."""
    agent = replace(agent, has_person=True)
    data = agent.root / "data"
    data.mkdir()
    (data / "file").write_text("of the data")
    (agent.project / "precious").write_text("as it was")

    def turn(tool: str, **arguments: object) -> dict[str, object]:
        return {"tool": agent.tool(tool), "arguments": arguments}

    mark = f"marked-{agent.root.name}-{os.getpid()}"
    unread, given, read, _, harmed, restored, job, jobs = agent.run(
        agent.turn(f"cat {data}/file"),
        turn("request_access", path=str(data), why="to read it"),
        agent.turn(f"cat {data}/file"),
        turn("snapshot", name="start"),
        agent.turn("rm precious; echo oops > made"),
        turn("rollback", snapshot="start"),
        turn("run_sandboxed", command=f"echo begun; sleep 1000; : {mark}", yield_s=1),
        turn("read_output"),
    )
    assert "of the data" not in unread
    assert f"given until the session ends: read {data}\n" in given
    assert read.endswith("\nof the data")
    assert "1 added, 1 deleted" in harmed
    assert "rolled back to start, verified" in restored
    assert (agent.project / "precious").read_text() == "as it was"
    assert not (agent.project / "made").exists()
    assert "running" in job
    assert "begun" in job
    assert "running" in jobs
    until(lambda: not any(running(mark)))


def test_a_client_that_is_killed_takes_its_command_along(agent: Agent) -> None:
    mark = f"marked-{agent.root.name}-{os.getpid()}"
    process = agent.start(agent.turn(f"sh -c 'sleep 1000; :' {mark}"))
    try:
        until(lambda: any(running(mark)))
        for pid in descendants(process.pid):
            # Theirs, by what they are: where the clients lie may be called as we are.
            if "python" not in Path(f"/proc/{pid}/exe").readlink().name:
                os.kill(pid, signal.SIGKILL)
        until(lambda: not any(running(mark)))
    finally:
        process.kill()
        process.wait()


def descendants(pid: int) -> list[int]:
    """Return the processes below *pid* that are the client's own, the nearest first."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = []
    for child in map(int, children):
        found += [child, *descendants(child)]
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
