"""The lanes of a session: how many wait for calls, for how long, and what ends a call on one."""

import threading
from pathlib import Path

import anyio
import pytest
from mcp.server.mcpserver import Context

from nono_mcp import kept_lanes
from nono_mcp.server import attending, file_calls
from nono_mcp.server.fair_queue import Turns
from nono_mcp.session import LANES_MAX, Command, Session
from nono_sandbox.client import ForkServer, Lane
from nono_sandbox.confinement import NAMESPACES, READ
from tests.server.conftest import TIER, Connect, Machine, Marked

pytestmark = [pytest.mark.anyio, pytest.mark.linux]

LONG_ENOUGH_S = 60
MANY = kept_lanes.LANES_KEPT + 3


def lanes_of(session: Session) -> set[int]:
    """Return the lanes that are there now, and whoever is about to fork one."""
    pid = session.fork_server_pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return {int(child) for child in children.split()}


async def run_many(session: Session) -> None:
    """Have many calls run at once: each waits for all of them."""
    meet = "touch $1; while [ $(ls | wc -l) -lt $2 ]; do sleep 0.01; done"
    async with anyio.create_task_group() as group:
        for number in range(MANY):
            argv = ("/bin/sh", "-c", meet, "-", str(number), str(MANY))
            group.start_soon(session.run, Command(argv))
    await session.run(Command(("/bin/sh", "-c", "rm *")))


@pytest.fixture(name="started")
def _started(monkeypatch: pytest.MonkeyPatch) -> list[Lane]:
    """Return the lanes that were started so far."""
    started: list[Lane] = []
    start = ForkServer.lane

    def told(server: ForkServer, *, waits: bool = False) -> Lane:
        started.append(start(server, waits=waits))
        return started[-1]

    monkeypatch.setattr(ForkServer, "lane", told)
    return started


async def test_a_call_that_waits_for_its_turn_runs_under_what_is_in_force_then(
    machine: Machine,
) -> None:
    data = machine.root / "data"
    data.mkdir()
    turns = Turns(1).share(1)
    ended: list[int] = []

    async def look(session: Session) -> None:
        ended.append((await session.run(Command(("/bin/ls", str(data))))).status)

    async with Session.open(machine.request(), tier=TIER, turns=turns) as session:
        with anyio.fail_after(LONG_ENOUGH_S):
            # As calls of others' sessions do: none of this one holds its fork server.
            async with anyio.create_task_group() as group, turns:
                group.start_soon(look, session)
                await anyio.wait_all_tasks_blocked()
                await session.grant(str(data), READ)
    assert ended == [0]


async def test_lanes_that_many_calls_needed_serve_the_next_many(
    machine: Machine, started: list[Lane], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_lanes, "LANE_IDLE_S_MAX", LONG_ENOUGH_S)
    with anyio.fail_after(LONG_ENOUGH_S):
        async with Session.open(machine.request(), tier=TIER) as session:
            await run_many(session)
            assert len(started) == MANY
            await run_many(session)
            assert len(started) == MANY


async def test_lanes_that_nobody_needs_for_a_while_are_ended_but_a_few(
    machine: Machine, started: list[Lane], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_lanes, "LANE_IDLE_S_MAX", 0.1)
    with anyio.fail_after(LONG_ENOUGH_S):
        async with Session.open(machine.request(), tier=TIER) as session:
            await run_many(session)
            count = len(started)
            while len(lanes_of(session)) != kept_lanes.LANES_KEPT:  # noqa: ASYNC110 - others' ends
                await anyio.sleep(0.01)
            # The one that was used last is one of those that stay.
            assert (await session.run(Command(("/bin/true",)))).status == 0
            assert len(started) == count


def children_of(pid: int) -> int:
    """Return how many children a process has; none, if it's gone."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return len(text.split())


async def test_a_worker_waits_for_what_file_tools_ask(machine: Machine) -> None:
    """To fork one when a call has come takes longer than all that the call does."""
    (machine.workspace / "file").write_text("")
    request = {"path": str(machine.workspace / "file"), "offset": 1, "limit": 1, "bytes_max": 1}
    asking = file_calls.asking("read_file", request, LONG_ENOUGH_S)
    with anyio.fail_after(LONG_ENOUGH_S):
        async with Session.open(machine.request(), tier=TIER) as session:
            await session.run(Command(("/bin/true",)))
            in_first_tier = session.tier == NAMESPACES
            for _ in range(3):
                assert (await session.run(asking)).status == 0
                expected = [0, 1, 1] if in_first_tier else [1, 1]
                # The last one's next worker is forked when its call has been answered.
                while sorted(map(children_of, lanes_of(session))) != expected:  # noqa: ASYNC110
                    await anyio.sleep(0.01)


async def test_many_callers_have_the_lanes_there_may_be_and_no_thread_each(
    machine: Machine, started: list[Lane]
) -> None:
    statuses = []

    async def call(session: Session) -> None:
        statuses.append((await session.run(Command(("/bin/true",)))).status)

    with anyio.fail_after(LONG_ENOUGH_S):
        async with Session.open(machine.request(), tier=TIER) as session:
            async with anyio.create_task_group() as group:
                for _ in range(2 * LANES_MAX):
                    group.start_soon(call, session)
            assert statuses == [0] * 2 * LANES_MAX
            assert len(started) <= LANES_MAX
            # Looks at the workspace are made in threads, one at a time.
            workers = [one for one in threading.enumerate() if "AnyIO" in one.name]
            assert len(workers) < LANES_MAX // 4


async def test_what_fails_to_take_output_in_ends_its_call(machine: Machine, marked: Marked) -> None:
    def refuse(_: bytes) -> None:
        raise ZeroDivisionError

    with anyio.fail_after(LONG_ENOUGH_S):
        async with Session.open(machine.request(), tier=TIER) as session:
            command = Command(("/bin/sh", "-c", f"echo hello; {marked.sleeper}"))
            with pytest.raises(ZeroDivisionError):
                await session.run(command, on_output=refuse)
            await marked.disappear()
            assert (await session.run(Command(("/bin/true",)))).status == 0


async def test_a_client_that_cant_be_told_of_progress_has_its_call_ended(
    connect: Connect, marked: Marked, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(attending, "PROGRESS_S", 0.05)
    monkeypatch.setattr(Context, "report_progress", fail)
    async with connect() as agent:
        with anyio.fail_after(LONG_ENOUGH_S):
            assert "Error executing" in await agent.refused("run_sandboxed", command=marked.sleeper)
        await marked.disappear()
        # The next may take as long as it does.
        monkeypatch.setattr(attending, "PROGRESS_S", LONG_ENOUGH_S)
        assert "exit status 0" in await agent.run("true")
