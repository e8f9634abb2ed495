"""Whatever ends a server in whatever it was doing: no worker, a whole log, whole files."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nono_mcp.audit import verify
from nono_mcp.audit.walk import FAILED
from nono_mcp.server.jobs import JOBS_MAX
from nono_mcp.snapshots import upkeep
from tests.server.conftest import Machine, Marked, Wire, serving, until

pytestmark = pytest.mark.linux

CONTENTS = ("a" * 200_000, "b" * 200_000)
FILES = 1000
"""Enough that a rollback of them is still going on when its first is seen to be done."""


def call(wire: Wire, tool: str, **arguments: object) -> int:
    return wire.request("tools/call", {"name": tool, "arguments": arguments})


def in_a_job(wire: Wire, _: Machine, marked: Marked) -> None:
    wire.text(wire.run(marked.sleeper, yield_s=0.1))
    marked.await_appearance()


def while_a_person_is_asked(wire: Wire, machine: Machine, marked: Marked) -> None:
    wire.run(marked.sleeper)
    marked.await_appearance()
    call(wire, "request_access", path=str(machine.home / "notes.txt"), why="to read it")
    while wire.receive().get("method") != "elicitation/create":
        pass


def in_writing_files(wire: Wire, machine: Machine, marked: Marked) -> None:
    wire.run(marked.sleeper)
    for n in range(20):
        call(wire, "write_file", path="file", content=CONTENTS[n % 2])
    until((machine.workspace / "file").exists)


def in_a_rollback(wire: Wire, machine: Machine, _: Marked) -> None:
    wire.text(call(wire, "snapshot", name="empty"))
    wire.text(wire.run(f"mkdir d; seq {FILES} | while read n; do echo $n > d/$n; done"))
    call(wire, "rollback", snapshot="empty")
    # The person's yes is the last thing before it acts.
    while (asked := wire.receive()).get("method") != "elicitation/create":
        pass
    wire.send_answer(asked["id"], {"action": "accept", "content": {"agreed": True}})
    until(lambda: not (machine.workspace / "d" / "1").exists())


Phase = Callable[[Wire, Machine, Marked], None]
CLOSED_INPUT, CLOSED_OUTPUT = "closed input", "closed output"


def end(wire: Wire, how: signal.Signals | str) -> set[int]:
    """End a server, and return what its status may be."""
    if isinstance(how, signal.Signals):
        wire.process.send_signal(how)
        return {-how, 128 + how}
    if how == CLOSED_INPUT:
        wire.close_input()
    else:
        assert wire.process.stdout is not None
        wire.process.stdout.close()
        # It finds out when it has something to say.
        wire.request("ping")
    return {0}


@pytest.mark.claim("server.any-end")
@pytest.mark.parametrize(
    ("phase", "how"),
    [
        (in_a_job, signal.SIGKILL),
        (while_a_person_is_asked, signal.SIGTERM),
        (in_writing_files, signal.SIGKILL),
        (in_a_rollback, signal.SIGKILL),
        (in_a_rollback, CLOSED_INPUT),
        *(
            pytest.param(phase, how, marks=pytest.mark.slow)
            for phase, how in (
                (in_a_job, signal.SIGTERM),
                (in_a_job, signal.SIGINT),
                (in_a_job, CLOSED_OUTPUT),
                (while_a_person_is_asked, signal.SIGKILL),
                (while_a_person_is_asked, CLOSED_INPUT),
                (while_a_person_is_asked, CLOSED_OUTPUT),
                (in_writing_files, signal.SIGTERM),
                (in_writing_files, signal.SIGINT),
                (in_writing_files, CLOSED_INPUT),
                (in_writing_files, CLOSED_OUTPUT),
                (in_a_rollback, signal.SIGTERM),
                (in_a_rollback, signal.SIGINT),
                (in_a_rollback, CLOSED_OUTPUT),
            )
        ),
    ],
)
def test_however_it_ends_what_is_left_is_whole(
    machine: Machine, marked: Marked, phase: Phase, how: signal.Signals | str
) -> None:
    wire = Wire(serving(machine), machine.environ)
    try:
        wire.initialize(capabilities={"elicitation": {}})
        phase(wire, machine, marked)
        expected = end(wire, how)
        assert wire.wait() in expected
        marked.await_disappearance()
        assert "Traceback" not in wire.errors()
    finally:
        wire.close()
    state = machine.root / "state" / "nono"
    report = verify.verify(str(state), None)
    assert report.integrity.status != FAILED, report
    assert report.bad is None
    assert upkeep.verify(str(state)).whole
    file = machine.workspace / "file"
    assert not file.exists() or file.read_text() in CONTENTS
    if phase is not in_a_rollback:
        return
    # The next one completes or undoes what the last one left.
    again = Wire(serving(machine), machine.environ)
    try:
        again.initialize()
        assert "exit status 0" in again.text(again.run("true"))
        assert len(list((machine.workspace / "d").glob("*"))) in (0, FILES)
    finally:
        again.close()


def test_a_hundred_megabytes_in_one_message_are_answered(wire: Wire) -> None:
    wire.initialize()
    part = b"x" * (1 << 20)
    wire.start_line(b'{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"text":"')
    for _ in range(100):
        wire.start_line(part)
    wire.send(b'"}}')
    assert "are read" in wire.answer(9)["error"]["message"]
    assert "exit status 0" in wire.text(wire.run("true"))


def test_two_hundred_jobs_are_wanted_and_few_are_given(wire: Wire, marked: Marked) -> None:
    wire.initialize()
    asked = {wire.run(marked.sleeper, yield_s=0.01) for _ in range(200)}
    results = []
    while asked:
        answer = wire.receive()
        asked.remove(answer["id"])
        results.append(answer["result"])
    refused = [one for one in results if one["isError"]]
    assert len(results) - len(refused) == JOBS_MAX
    assert all("jobs run already" in one["content"][0]["text"] for one in refused)
    wire.close_input()
    assert wire.wait() == 0
    marked.await_disappearance()


@pytest.mark.slow
def test_ten_thousand_calls_in_a_row_leave_nothing(wire: Wire) -> None:
    wire.initialize()

    def run(count: int) -> None:
        for _ in range(count // 20):
            # What costs is a worker; what leaks may as well be in what has none.
            asked = {wire.run("true", writes=[]) for _ in range(2)}
            asked |= {call(wire, tool) for tool in 9 * ("read_output", "explain_policy")}
            while asked:
                answer = wire.receive()
                asked.remove(answer["id"])
                assert not answer["result"]["isError"]

    run(500)
    before = descriptors(wire), resident(wire)
    began_at = time.monotonic()
    run(9_500)
    assert descriptors(wire) <= before[0] + 8
    assert resident(wire) < before[1] + (64 << 20), time.monotonic() - began_at


def descriptors(wire: Wire) -> int:
    return len(list(Path(f"/proc/{wire.process.pid}/fd").iterdir()))


def resident(wire: Wire) -> int:
    pages = Path(f"/proc/{wire.process.pid}/statm").read_text().split()[1]
    return int(pages) * 4096
