"""The real Claude Code and the real Codex, configured as the README says, act through us alone."""

import contextlib
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from nono_mcp.demo.processes import running
from tests.e2e.agents import CODEX_OWN, SECRET, Agent, until
from tests.e2e.conftest import CLIENTS

pytestmark = pytest.mark.linux

OURS = {"run_sandboxed", "explain_policy", "read_file", "edit_file", "audit_tail", "audit_verify"}


@pytest.fixture(params=sorted(CLIENTS))
def agent(request: pytest.FixtureRequest, tmp_path: Path) -> Agent:
    agent = Agent(request.param, tmp_path)
    (agent.home / ".ssh").mkdir(parents=True)
    (agent.home / ".ssh" / "id_ed25519").write_text(SECRET)
    agent.project.mkdir()
    return agent


def test_a_command_runs_a_secret_stays_unread_and_the_tools_are_ours(agent: Agent) -> None:
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
        turn("run_sandboxed", command=f"sleep 1000; : {mark}", yield_s=0.1),
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
    assert "running" in jobs
    until(lambda: not any(running(mark)))


def test_a_client_that_is_killed_takes_its_command_along(agent: Agent) -> None:
    mark = f"marked-{agent.root.name}-{os.getpid()}"
    process = agent.start(agent.turn(f"sh -c 'sleep 1000; :' {mark}"))
    try:
        until(lambda: any(running(mark)))
        for pid in descendants(process.pid):
            # Theirs, by what they are: where the clients lie may be called as we are.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if "python" not in Path(f"/proc/{pid}/exe").readlink().name:
                    os.kill(pid, signal.SIGKILL)
        until(lambda: not any(running(mark)))
    finally:
        process.kill()
        process.wait()


def descendants(pid: int) -> list[int]:
    """Return the processes below *pid* that are the client's own, the nearest first."""
    found = []
    # It may have ended meanwhile.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found
