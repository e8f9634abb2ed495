"""`nono serve` and a client of it, where sandbox-exec is a stand-in."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nono_sandbox.seatbelt.evaluator import Profile, Query
from tests.macos.conftest import Mac, a_mac
from tests.server.conftest import Marked, Wire, command_lines, has_ended, until

if TYPE_CHECKING:
    from collections.abc import Iterator


class Served:
    """A server on a Mac, and its client."""

    def __init__(self, mac: Mac) -> None:
        self.mac = mac
        policy = mac.machine.root / "policy.toml"
        policy.write_text('[snapshots]\nrollback = "allow"\n')
        options = ("--workspace", str(mac.machine.workspace), "--profile", str(policy))
        self.wire = Wire(mac.command("serve", *options), mac.machine.environ)
        self.wire.initialize()

    def call(self, tool: str, **arguments: object) -> dict[str, Any]:
        asked = self.wire.request("tools/call", {"name": tool, "arguments": arguments})
        result: dict[str, Any] = self.wire.answer(asked)["result"]
        return result

    def text(self, tool: str, **arguments: object) -> str:
        result = self.call(tool, **arguments)
        text: str = result["content"][0]["text"]
        assert not result.get("isError"), text
        return text

    def run(self, command: str, **arguments: object) -> str:
        return self.text("run_sandboxed", command=command, **arguments)

    def descendants(self) -> dict[int, str]:
        """Return the server's own processes below it, and their command lines."""
        return {pid: text for pid, text in command_lines() if str(self.mac.machine.root) in text}

    def fork_server(self) -> int:
        """Return the process that the server has fork its calls; its lanes have the same name."""
        children = Path(f"/proc/{self.wire.process.pid}/task").glob("*/children")
        own = {int(pid) for path in children for pid in path.read_text().split()}
        (pid,) = [
            pid for pid, text in self.descendants().items() if "mac.server" in text and pid in own
        ]
        return pid


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = Served(a_mac(tmp_path_factory.mktemp("served")))
    try:
        yield server
    finally:
        server.wire.close()


def test_a_command_runs_by_sandbox_exec(served: Served) -> None:
    assert "exit status 7" in served.run("echo hi; exit 7")
    called = served.mac.calls()[-1]
    assert called[0] == "-p"
    judged = Profile(called[1])
    workspace = served.mac.machine.workspace
    assert judged.decide(Query("file-write-create", path=f"{workspace}/x")).allowed
    assert not judged.decide(
        Query("file-read-data", path=f"{served.mac.machine.home}/notes.txt")
    ).allowed


def test_file_tools_run_by_sandbox_exec_and_write_nowhere_else(served: Served) -> None:
    workspace = served.mac.machine.workspace
    served.text("write_file", path="a/b.txt", content="one\ntwo\n")
    assert (workspace / "a" / "b.txt").read_text() == "one\ntwo\n"
    served.text("edit_file", path="a/b.txt", edits=[{"old": "two", "new": "three"}])
    assert "three" in served.text("read_file", path="a/b.txt")
    assert "b.txt" in served.text("list_directory", path="a")
    assert "b.txt" in served.text("search_files", pattern="three")
    home = served.mac.machine.home
    builtin = [called for called in served.mac.calls() if "-I" in called]
    assert len(builtin) >= 4
    for _, text, _, program, *_ in builtin:
        judged = Profile(text)
        assert judged.decide(Query("process-exec", path=os.path.realpath(program))).allowed
        for path in (f"{home}/notes.txt", f"{home}/.ssh/id_ed25519"):
            assert not judged.decide(Query("file-read-data", path=path)).allowed
        for path in (program, os.__file__, f"{home}/x"):
            assert not judged.decide(Query("file-write-data", path=path)).allowed


def test_a_call_that_gives_up_writing_has_a_profile_without(served: Served) -> None:
    served.run("true # narrowed", writes=[])
    judged = Profile(served.mac.calls()[-1][1])
    path = f"{served.mac.machine.workspace}/x"
    assert judged.decide(Query("file-read-data", path=path)).allowed
    assert not judged.decide(Query("file-write-create", path=path)).allowed


def test_input_output_and_limits(served: Served, marked: Marked) -> None:
    big = "x" * 300_000
    assert "300000" in served.run("wc -c", stdin=big)
    long = "y" * 100_000
    assert "100000" in served.run(f"printf %s {long} | wc -c")
    text = served.run(f"setsid sleep 1000 & {marked.sleeper}", timeout_s=1)
    assert "time" in text
    marked.await_disappearance()


def test_a_call_is_cancelled(served: Served, marked: Marked) -> None:
    asked = served.wire.run(marked.sleeper)
    until(lambda: bool(marked.alive()))
    served.wire.notify("notifications/cancelled", {"requestId": asked})
    marked.await_disappearance()
    assert "exit status 0" in served.run("true")


def test_what_a_call_changed_is_told_and_undone(served: Served) -> None:
    workspace = served.mac.machine.workspace
    (workspace / "kept.txt").write_text("as it was")
    (workspace / "link").symlink_to("kept.txt")
    (workspace / "closed").mkdir()
    (workspace / "closed" / "in").write_text("in")
    told = served.run("echo changed >kept.txt; rm link; rm -r closed; echo new >new.txt")
    assert "kept.txt" in told
    served.text("rollback", snapshot=told.rstrip().rsplit(" ", 1)[1])
    assert (workspace / "kept.txt").read_text() == "as it was"
    assert (workspace / "link").readlink() == Path("kept.txt")
    assert (workspace / "closed" / "in").read_text() == "in"
    assert not (workspace / "new.txt").exists()


def test_the_policy_is_explained(served: Served) -> None:
    text = served.text("explain_policy")
    assert "Enforced by: Seatbelt" in text
    assert "memory and disk have none" in text
    told = served.text("explain_policy", path=f"{served.mac.machine.home}/.ssh/id_ed25519")
    assert "protected" in told


def test_calls_run_beside_each_other(served: Served) -> None:
    (served.mac.machine.workspace / "gate").unlink(missing_ok=True)
    waiting = served.wire.run("while [ ! -e gate ]; do sleep 0.02; done; echo passed")
    opening = served.wire.run("touch gate")
    ended: dict[int, str] = {}
    while ended.keys() != {waiting, opening}:
        message = served.wire.receive()
        if "method" not in message:
            ended[message["id"]] = message["result"]["content"][0]["text"]
    assert "passed" in ended[waiting]
    assert "exit status 0" in ended[opening]


def test_the_fork_server_is_started_again(served: Served) -> None:
    assert "exit status 0" in served.run("true")
    pid = served.fork_server()
    os.kill(pid, signal.SIGKILL)
    until(lambda: has_ended(pid))
    assert "exit status 0" in served.run("true")


def test_a_call_ends_with_the_fork_server(served: Served, marked: Marked) -> None:
    served.wire.run(marked.sleeper)
    until(lambda: bool(marked.alive()))
    pid = served.fork_server()
    os.kill(pid, signal.SIGKILL)
    marked.await_disappearance()
    until(lambda: has_ended(pid))
    assert "exit status 0" in served.run("true")


def test_nothing_is_left_of_a_killed_server(tmp_path: Path, marked: Marked) -> None:
    server = Served(a_mac(tmp_path))
    server.wire.run(f"setsid sh -c 'sleep 1000; : {marked.text}' & {marked.sleeper}")
    until(lambda: len(marked.alive()) >= 2)
    server.wire.close()
    marked.await_disappearance()
    until(lambda: not server.descendants())
