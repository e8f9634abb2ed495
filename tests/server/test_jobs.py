"""Commands that go on after their call was answered."""

import json
import re
from pathlib import Path

import anyio
import pytest

from nono_mcp.server import job_tools, jobs
from nono_mcp.server.jobs import Kept
from tests.server.conftest import DEADLINE_S, Agent, Connect, Machine, Marked, Wire, text_of

pytestmark = [pytest.mark.anyio, pytest.mark.linux]


async def told(agent: Agent, tool: str, **arguments: object) -> str:
    answer = await agent.call(tool, **arguments)
    assert not answer.is_error, text_of(answer)
    return text_of(answer)


def job_of(text: str) -> str:
    found = re.match(r"job ([0-9a-f]{16}): running, ", text)
    assert found, text
    return found[1]


async def until_told(agent: Agent, wanted: str, **arguments: object) -> str:
    """Read a job's output until it holds a text."""
    text = ""
    with anyio.fail_after(DEADLINE_S):
        while wanted not in text:
            text += "\n" + await told(agent, "read_output", wait_s=5, **arguments)
    return text


async def test_what_takes_long_is_answered_in_between_and_goes_on(
    connect: Connect, machine: Machine
) -> None:
    script = "echo one; while [ ! -e go ]; do sleep 0.05; done; echo two; exit 3"
    async with connect() as agent:
        yield_s = 0.3
        first = await agent.run(script, yield_s=yield_s)
        while "\none\n" not in first and yield_s < DEADLINE_S:
            # It hadn't come to it.
            await told(agent, "stop_job", job=job_of(first), signal="KILL")
            yield_s *= 3
            first = await agent.run(script, yield_s=yield_s)
        job = job_of(first)
        assert first.split("\n")[1:] == ["one", "[nono] it goes on: read_output"]
        assert "exit status 0" in await agent.run("true")
        assert f"{job}: running, " in await told(agent, "read_output")
        (machine.workspace / "go").touch()
        last = await until_told(agent, "exit status 3", job=job)
        assert "two" in last.split("\n")
        assert "one" not in last.split("\n")
        again = await told(agent, "read_output", job=job, offset=0)
        assert again.split("\n")[1:3] == ["one", "two"]
        ended = await told(agent, "read_output", job=job, tail=4)
        assert ended.split("\n")[1] == "two"


@pytest.mark.claim("guard.put-right")
@pytest.mark.claim("guard.beneath")
async def test_what_a_job_plants_is_put_right_before_an_answer_tells_of_it(
    connect: Connect, machine: Machine
) -> None:
    plants = [machine.workspace / ".envrc", machine.workspace / "d" / ".envrc"]
    plant = "echo x > .envrc; echo x > d/.envrc"
    # What it says isn't in its own words, which every answer repeats.
    script = f"mkdir d; {plant}; echo o''ne; read go; {plant}; echo t''wo; read go; {plant}"

    def check(told_of_it: str) -> None:
        for path in plants:
            assert f"[nono] taken away again: {path} " in told_of_it
            assert not path.exists()

    async with connect() as agent:
        first = await agent.run(script, yield_s=0.3, keep_stdin=True)
        job = job_of(first)
        told_all = first + await until_told(agent, "one", job=job, offset=0)
        check(told_all)
        answer = await told(agent, "send_input", job=job, text="\n", wait_s=0.01)
        answer += await until_told(agent, "two", job=job, offset=0)
        check(answer)
        await told(agent, "send_input", job=job, text="\n")
        last = await until_told(agent, "exit status 0", job=job)
        check(last)


async def test_what_ends_in_time_is_answered_as_ever(connect: Connect) -> None:
    async with connect() as agent:
        assert (await agent.run("echo out; exit 3", yield_s=60)).startswith("exit status 3, ")
        assert await told(agent, "read_output") == "no jobs"
        assert "not run (status 127)" in await agent.refused(argv=["no-such"], yield_s=60)
        told_ = await agent.run("sleep 60", yield_s=30, timeout_s=0.2)
        assert told_.startswith("stopped: its time limit")


async def test_a_job_is_sent_input_and_its_end(connect: Connect) -> None:
    async with connect() as agent:
        job = job_of(
            await agent.run(
                "while read line; do echo got $line; done; echo end", keep_stdin=True, yield_s=0.1
            )
        )
        for word in ("a", "b"):
            answer = await told(agent, "send_input", job=job, text=f"{word}\n", wait_s=20)
            assert answer.endswith(f"\ngot {word}")
        await told(agent, "send_input", job=job, text="c\n", end=True)
        await until_told(agent, "exit status 0", job=job)
        whole = await told(agent, "read_output", job=job, offset=0)
        assert whole.split("\n")[1:] == ["got a", "got b", "got c", "end"]
        assert "has ended" in await agent.refused("send_input", job=job, text="d\n")
        other = job_of(await agent.run("exec sleep 1000", keep_stdin=True, yield_s=0.1))
        await told(agent, "send_input", job=other, end=True, wait_s=0)
        assert "that was ended" in await agent.refused("send_input", job=other, text="x")
        other = job_of(await agent.run("sleep 1000", yield_s=0.1))
        assert "keep_stdin" in await agent.refused("send_input", job=other, text="x")
        assert "no job" in await agent.refused("send_input", job="none", text="x")


async def test_a_job_has_a_terminal_if_it_is_to(connect: Connect) -> None:
    script = (
        "test -t 0 && test -t 1 && test -t 2 && stty size; echo >/dev/tty the''re; cat; echo end"
    )
    async with connect() as agent:
        answer = await agent.run(script, tty=True, yield_s=0.1)
        job = job_of(answer)
        text = answer + await until_told(agent, "there", job=job, offset=0)
        assert "40 120" in text
        answer = await told(agent, "send_input", job=job, text="typed\n", end=True, wait_s=20)
        await until_told(agent, "exit status 0", job=job)
        # Once as the terminal's echo, once from cat.
        assert (await told(agent, "read_output", job=job, offset=0)).count("typed") == 2
        # In the middle of a line too, where the terminal's own sign for it ends the line alone.
        job = job_of(await agent.run("cat; echo en''ded; exec cat", tty=True, yield_s=0.1))
        await told(agent, "send_input", job=job, text="typed")
        await told(agent, "send_input", job=job, text=" on", end=True)
        await until_told(agent, "ended", job=job, offset=0)
        await told(agent, "send_input", job=job, end=True)
        await until_told(agent, "exit status 0", job=job)
        job = job_of(await agent.run("echo rea''dy; exec sleep 1000", tty=True, yield_s=0.1))
        await until_told(agent, "ready", job=job, offset=0)
        await told(agent, "send_input", job=job, text="\x03")
        await until_told(agent, "killed by SIGINT", job=job)


async def test_stopping_a_job_leaves_nothing_of_it(
    connect: Connect, marked: Marked, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper = marked.sleeper.removeprefix("exec ")
    async with connect() as agent:
        monkeypatch.setattr(job_tools, "TERM_S", DEADLINE_S)
        kind = f"trap 'echo asked; exit 5' TERM; echo rea''dy; {sleeper} & wait"
        job = job_of(await agent.run(kind, yield_s=0.1))
        await until_told(agent, "ready", job=job, offset=0)
        answer = await told(agent, "stop_job", job=job)
        assert "exit status 5" in answer
        assert "asked" in answer
        await marked.disappear()
        monkeypatch.setattr(job_tools, "TERM_S", 0.1)
        deaf = f"trap '' TERM INT; echo rea''dy; setsid {sleeper} & wait"
        job = job_of(await agent.run(deaf, yield_s=0.1))
        await until_told(agent, "ready", job=job, offset=0)
        await marked.appear()
        assert "running, " in await told(agent, "stop_job", job=job, signal="INT")
        assert marked.alive()
        assert "it was stopped" in await told(agent, "stop_job", job=job)
        await marked.disappear()
        assert "it was stopped" in await told(agent, "stop_job", job=job)


@pytest.mark.claim("process.nothing-survives")
async def test_jobs_end_with_their_session(connect: Connect, marked: Marked) -> None:
    async with connect() as agent:
        for _ in range(3):
            job_of(await agent.run(f"trap '' TERM; {marked.sleeper}", yield_s=0.1))
        await marked.appear(3)
    await marked.disappear()


@pytest.mark.claim("process.nothing-survives")
def test_jobs_end_with_their_client(wire: Wire, marked: Marked) -> None:
    wire.initialize()
    for text in (wire.text(wire.run(marked.sleeper, yield_s=0.1)) for _ in range(2)):
        job_of(text)
    marked.await_appearance(2)
    wire.close_input()
    assert wire.wait() == 0
    marked.await_disappearance()


async def test_a_job_whose_first_call_is_cancelled_ends(connect: Connect, marked: Marked) -> None:
    async with connect() as agent:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: agent.run(marked.sleeper, yield_s=600))
            await marked.appear()
            group.cancel_scope.cancel()
        await marked.disappear()
        # Its processes are gone before what came of it is written down.
        with anyio.fail_after(DEADLINE_S):
            while "it was stopped" not in await told(agent, "read_output"):  # noqa: ASYNC110 - see above
                await anyio.sleep(0.05)


async def test_their_number_is_bounded(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "JOBS_MAX", 2)
    monkeypatch.setattr(jobs, "ENDED_MAX", 1)
    async with connect() as agent:
        running = [job_of(await agent.run("sleep 1000", yield_s=0.1)) for _ in range(2)]
        refused = await agent.refused(command="sleep 1000", yield_s=0.1)
        assert refused == f"2 jobs run already: stop one ({', '.join(running)})"
        assert "exit status 0" in await agent.run("true")
        for job in running:
            await told(agent, "stop_job", job=job, signal="KILL")
        last = job_of(await agent.run("sleep 1000", yield_s=0.1))
        listed = await told(agent, "read_output")
        assert [line.partition(":")[0] for line in listed.split("\n")] == [running[1], last]


async def test_the_rest_of_a_long_output_is_there_to_be_read(connect: Connect) -> None:
    async with connect() as agent:
        text = await agent.run("seq 1 20000")
        found = re.search(r"read_output has them: job ([0-9a-f]{16}), offset 0", text)
        assert found, text
        lines: list[str] = []
        offset = 0
        for _ in range(30):
            page = await told(agent, "read_output", job=found[1], offset=offset)
            assert len(page) <= 10_000
            _, *body = page.split("\n")
            more = re.match(r"\[nono\] more: offset (\d+)", body[-1])
            # A page may end within a line.
            lines.append("\n".join(body[:-1] if more else body))
            if not more:
                break
            offset = int(more[1])
    digits = re.sub(r"\D", "", "".join(lines))
    assert digits == "".join(map(str, range(1, 20001)))


async def test_a_directory_is_kept_if_the_call_says_so(connect: Connect, machine: Machine) -> None:
    (machine.workspace / "sub").mkdir()
    async with connect() as agent:
        assert (await agent.run("pwd", cwd="sub")).endswith("/sub")
        assert (await agent.run("pwd")).endswith("/work")
        assert (await agent.run("pwd", cwd="sub", keep_cwd=True)).endswith("/sub")
        assert (await agent.run("pwd")).endswith("/sub")
        # It's kept once a call ran there, and not if none could.
        for yield_s in (None, 1.0):
            await agent.refused(command="pwd", cwd="gone", keep_cwd=True, yield_s=yield_s)
            assert (await agent.run("pwd")).endswith("/sub")
        (machine.workspace / "job").mkdir()
        await agent.run("read line", cwd="job", keep_cwd=True, keep_stdin=True, yield_s=0.1)
        assert (await agent.run("pwd")).endswith("/job")
        await agent.run("true", cwd="sub", keep_cwd=True)
        (machine.workspace / "sub").rmdir()
        assert "the one that was kept: say another" in await agent.refused(command="pwd")
        assert "say another" not in await agent.refused(command="pwd", cwd="gone")
        assert (await agent.run("pwd", cwd=".", keep_cwd=True)).endswith("/work")


def test_what_a_job_is_told_is_recorded(wire: Wire, machine: Machine) -> None:
    wire.initialize()
    job = job_of(wire.text(wire.run("cat", keep_stdin=True, yield_s=0.1)))
    arguments = {"job": job, "text": "a-secret-word\n"}
    wire.text(wire.request("tools/call", {"name": "send_input", "arguments": arguments}))
    wire.text(wire.request("tools/call", {"name": "stop_job", "arguments": {"job": job}}))
    wire.close_input()
    wire.wait()
    log = Path(machine.root / "state" / "nono" / "audit")
    text = "".join(path.read_text() for path in sorted(log.glob("*.jsonl")))
    records = [json.loads(line) for line in text.splitlines()]
    told_ = [one for one in map(json.dumps, records) if f'"job": "{job}"' in one]
    assert [tool for tool in ("send_input", "stop_job") if any(tool in one for one in told_)] == [
        "send_input",
        "stop_job",
    ]
    assert "a-secret-word" not in text


def test_the_end_of_an_output_is_kept_by_offsets() -> None:
    kept = Kept(10)
    whole = b""
    for number in range(50):
        chunk = b"%d," % number
        kept.feed(chunk)
        whole += chunk
        assert kept.end == len(whole)
        assert kept.end - kept.start >= min(10, len(whole))
        start, data = kept.read(0, 1000)
        assert (start, data) == (kept.start, whole[kept.start :])
        assert kept.read(kept.end - 2, 1) == (kept.end - 2, whole[-2:-1])
        assert kept.read(1 << 60, 5) == (kept.end, b"")
