"""The real Claude Code and the real Codex at one server by HTTP, as `nono install` set them up."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.agents import DEADLINE_S, HERE, SECRET, Agent, no_network

pytestmark = [pytest.mark.linux, pytest.mark.slow]

HOSTS = {"claude": "claude-code", "codex": "codex"}


class Remote(Agent):
    """One of several clients of a server that has a home of its own, at work in one project."""

    @property
    def project(self) -> Path:
        return self.root.parent / "project"

    def does(self, tool: str, **arguments: object) -> dict[str, object]:
        """Return the turn of a tool."""
        return {"tool": self.tool(tool), "arguments": arguments}


def run(root: Path, turns: dict[Remote, list[dict[str, object]]]) -> None:
    """Run a server and the clients, each with its turns, to their ends."""
    clients = [
        {
            "host": HOSTS[agent.name],
            "command": agent.command(*its),
            "environ": agent.environ(),
            "out": str(agent.root / "out"),
        }
        for agent, its in turns.items()
    ]
    alone = no_network()
    place = {"workspace": str(root / "project"), "home": str(root / "home"), "alone": bool(alone)}
    (root / "plan.json").write_text(json.dumps(place | {"clients": clients}))
    command = [*alone, sys.executable, "-m", "tests.e2e.by_http"]
    command += [str(root / "plan.json")]
    # In a group of their own, which ends as a whole.
    process = subprocess.Popen(
        command, cwd=HERE.parents[1], stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        status = process.wait(DEADLINE_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert status == 0, [agent.said() for agent in turns]


@pytest.mark.claim("shared.clients-apart")
@pytest.mark.claim("ask.given")
@pytest.mark.claim("undo.asked")
def test_two_clients_at_one_server_have_sessions_of_their_own(tmp_path: Path) -> None:
    """Each runs, is denied and asks; what one was given, kept or printed isn't the other's."""
    claude, codex = (
        Remote(name, tmp_path / name, has_person=True, is_remote=True) for name in sorted(HOSTS)
    )
    for agent in (claude, codex):
        agent.home.mkdir(parents=True)
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    (tmp_path / "home" / ".ssh" / "id_ed25519").write_text(SECRET)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "precious").write_text("as it was")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("of the data")
    data, key = str(tmp_path / "data"), f"{tmp_path}/home/.ssh/id_ed25519"
    given, looked, undone = (str(tmp_path / name) for name in ("given", "looked", "undone"))

    def asks_and_reads(agent: Remote) -> list[dict[str, object]]:
        return [
            agent.does("request_access", path=data, why="to read it"),
            agent.turn(f"cat {data}/file"),
        ]

    def harms_and_undoes(agent: Remote) -> list[dict[str, object]]:
        return [
            agent.turn("rm precious; echo oops > made"),
            agent.does("rollback", snapshot="{last:undo: rollback ([0-9a-f]+)}"),
        ]

    # No call of the one's runs while the other rolls back: each waits for the other's answer.
    turns: dict[Remote, list[dict[str, object]]] = {
        claude: [
            claude.turn(f"env; cat {key}"),
            *asks_and_reads(claude),
            claude.does("snapshot", name="kept by one") | {"marks": given, "once": looked},
            *harms_and_undoes(claude),
            {"text": "THE END", "marks": undone},
        ],
        codex: [
            codex.turn(f"env; cat {key}"),
            codex.turn(f"cat {data}/file") | {"once": given},
            codex.does("list_snapshots") | {"marks": looked, "once": undone},
            *asks_and_reads(codex),
            *harms_and_undoes(codex),
            {"text": "THE END"},
        ],
    }
    run(tmp_path, turns)
    denied, agreed, read, kept, _, rolled_back = claude.results()
    also_denied, unread, snapshots, also_agreed, also_read, _, also_rolled_back = codex.results()
    for one in (denied, also_denied):
        assert "[nono] fs.protected: " in one
        assert SECRET not in one
    assert "of the data" not in unread
    assert "kept by one" in kept
    assert "kept by one" not in snapshots
    for one in (agreed, also_agreed):
        assert f"given until the session ends: read {data}\n" in one
    for one in (read, also_read):
        assert one.endswith("\nof the data")
    for one in (rolled_back, also_rolled_back):
        assert ", verified" in one
    assert (tmp_path / "project" / "precious").read_text() == "as it was"
    assert not (tmp_path / "project" / "made").exists()
