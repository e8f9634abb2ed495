"""What a client is offered, and what it is told, in both eras of the protocol."""

from typing import Any

import anyio
import pytest

from nono_mcp.policy.document import Document, FilesystemSection, LimitsSection, NetworkSection
from nono_mcp.server import attending
from nono_mcp.server.policy_text import instructions
from nono_mcp.server.results import META_KEY
from tests.server.conftest import DEADLINE_S, SECRET, Connect, Machine, Marked

JOB_TOOLS = {"read_output", "send_input", "stop_job"}
UNDO_TOOLS = {"snapshot", "list_snapshots", "diff", "rollback"}
FILE_TOOLS = {"read_file", "write_file", "edit_file", "list_directory", "search_files"}
pytestmark = [pytest.mark.anyio, pytest.mark.linux]


async def test_the_tools_offered_say_what_they_are(connect: Connect) -> None:
    async with connect() as agent:
        offered = {tool.name: tool for tool in (await agent.client.list_tools()).tools}
    known = {
        "run_sandboxed",
        "explain_policy",
        "request_access",
        *FILE_TOOLS,
        *JOB_TOOLS,
        *UNDO_TOOLS,
    }
    assert set(offered) == known
    for tool in offered.values():
        assert tool.title
        assert tool.description
        assert tool.output_schema is None
    run = offered["run_sandboxed"].annotations
    assert run is not None
    # It may write the workspace, and the network is closed.
    assert (run.read_only_hint, run.destructive_hint, run.open_world_hint) == (False, True, False)
    explain = offered["explain_policy"].annotations
    assert explain is not None
    assert explain.read_only_hint


READ_ONLY_WITH_NETWORK = {
    "profile": "read-only",
    "flags": Document(network=NetworkSection("open")),
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"profile": "read-only"}, (True, False, False)),
        ({"profile": "open"}, (False, True, True)),
        (READ_ONLY_WITH_NETWORK, (False, False, True)),
    ],
)
async def test_annotations_follow_from_the_policy(
    connect: Connect, changes: dict[str, Any], expected: tuple[bool, bool, bool]
) -> None:
    async with connect(**changes) as agent:
        (run, *_) = (await agent.client.list_tools()).tools
    hints = run.annotations
    assert hints is not None
    assert (hints.read_only_hint, hints.destructive_hint, hints.open_world_hint) == expected


async def test_limits_stand_in_the_description(connect: Connect) -> None:
    async with connect(flags=Document(limits=LimitsSection(timeout_s=7))) as agent:
        (run, *_) = (await agent.client.list_tools()).tools
        assert "at most 7 (default 7)" in (run.description or "")
        assert await agent.refused(command="true", timeout_s=8) == (
            "timeout_s: must be over 0 and at most 7"
        )
        assert "exit status 0" in await agent.run("true", timeout_s=6.5)


async def test_instructions_are_short(connect: Connect) -> None:
    async with connect() as agent:
        names = {tool.name for tool in (await agent.client.list_tools()).tools}
        told = agent.client.instructions
    assert told == instructions(names)
    assert len(told.encode()) < 2048


async def test_a_command_runs_and_its_end_is_told(connect: Connect, machine: Machine) -> None:
    async with connect() as agent:
        told = await agent.run("echo out; echo err >&2; pwd; exit 3")
        first, *output = told.split("\n")
        assert first.startswith("exit status 3, ")
        assert output == ["out", "err", str(machine.workspace)]
        told = await agent.run(argv=["printf", "%s|", "a b", "$HOME", "*"])
        assert told.endswith("\na b|$HOME|*|")
        answer = await agent.call("run_sandboxed", command="true")
        assert answer.meta is not None
        assert answer.meta[META_KEY]["status"] == 0


async def test_arguments_reach_the_command(connect: Connect, machine: Machine) -> None:
    (machine.workspace / "sub").mkdir()
    async with connect() as agent:
        assert (await agent.run("pwd", cwd="sub")).endswith("/sub")
        assert (await agent.run("cat", stdin='{"a": "é\\n"}')).endswith('\n{"a": "é\\n"}')
        assert (await agent.run("echo $A", env={"A": "x y"})).endswith("\nx y")
        told = await agent.run("sleep 60", timeout_s=0.2)
        assert told.startswith("stopped: its time limit (timeout_s) was reached")


async def test_what_is_secret_stays_unread(connect: Connect, machine: Machine) -> None:
    async with connect() as agent:
        key = machine.home / ".ssh" / "id_ed25519"
        told = await agent.run(f"cat {key}")
        assert SECRET not in told
        assert "[nono] fs.protected:" in told
        assert "--bypass" in told
        told = await agent.run(f"cat {machine.home}/notes.txt; env; cat /proc/self/environ")
        assert SECRET not in told
        told = await agent.run("cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline")
        assert SECRET not in told


async def test_a_denial_names_the_rule_and_what_a_person_can_do(
    connect: Connect, machine: Machine
) -> None:
    outside = machine.root / "outside"
    outside.mkdir()
    async with connect() as agent:
        told = await agent.run(f"touch {outside}/file")
        hint = told.split("\n")[-1]
        assert hint.startswith("[nono] fs.")
        assert f"you may write: {machine.workspace}" in hint
        assert "start nono serve with --allow" in hint
        assert not list(outside.iterdir())
        told = await agent.run("touch kept", writes=[])
        assert told.split("\n")[-1] == "[nono] the call's own writes may be what refused that"
        # A failure that has nothing to do with the policy has no hint.
        assert "[nono]" not in await agent.run("cat missing/file; exit 1")
        assert "[nono]" not in await agent.run("false")


async def test_the_network_is_closed_and_the_hint_says_so(connect: Connect) -> None:
    async with connect() as agent:
        told = await agent.run("getent hosts example.com || { echo Could not resolve it; exit 1; }")
        assert "[nono] net.closed: nothing leaves the sandbox" in told


async def test_a_call_narrows(connect: Connect, machine: Machine) -> None:
    (machine.workspace / "a").mkdir()
    async with connect() as agent:
        await agent.run("touch a/x; touch b", writes=["a"])
        assert (machine.workspace / "a" / "x").exists()
        assert not (machine.workspace / "b").exists()
        # Naming a path doesn't open it.
        outside = machine.root / "outside"
        outside.mkdir()
        await agent.call("run_sandboxed", command=f"touch {outside}/x", writes=[str(outside)])
        assert not list(outside.iterdir())
        assert "what exists" in await agent.refused(command="true", writes=["missing"])
    opened = Document(network=NetworkSection("open"))
    probe = "python3 -c 'import socket; socket.socket().close()'"
    async with connect(flags=opened) as agent:
        assert "exit status 0" in await agent.run(probe)
        assert "exit status 1" in await agent.run(probe, network="none")


BAD: tuple[tuple[dict[str, Any], str], ...] = (
    ({"command": "x", "argv": ["x"]}, "bad arguments: give either command or argv"),
    ({"command": ""}, "bad arguments: the command is empty"),
    ({"command": "true", "cwd": "/etc"}, "is outside the workspace"),
    ({"command": "true", "cwd": "../.."}, "is outside the workspace"),
    ({"command": "true", "cwd": "missing"}, "not run (status 126)"),
    ({"command": "true", "timeout_s": 10**9}, "at most 3600"),
    ({"command": "true", "timeout_s": 0}, "bad arguments: timeout_s"),
    ({"command": "x" * 10**6}, "write it to a file first"),
    ({"argv": ["true", *["x" * 10**5] * 20]}, "at most"),
    ({"argv": ["no-such-program"]}, "not run (status 127): no program named"),
    ({"argv": ["./no-such-program"]}, "not run (status 127)"),
    ({"argv": ["./no-program.txt"]}, "not run (status 126)"),
    ({"argv": ["x" * 10**5]}, "not run (status 12"),
    ({"command": "true", "env": {"": "x"}}, "can't be the name"),
    ({"command": "true", "env": {"A=B": "x"}}, "can't be the name"),
    ({"command": "true", "env": {"A": "x" * 10**6}}, "the kernel takes"),
    ({"command": "true", "writes": ["x" * 10**6]}, ""),
    ({"command": "true", "cwd": "x" * 10**6}, ""),
    ({"command": "true", "unknown": 1}, "bad arguments: unknown argument 'unknown'"),
    ({"command": "a\0b"}, "NUL"),
)


async def test_bad_input_is_refused_on_one_line_and_the_next_call_works(
    connect: Connect, machine: Machine
) -> None:
    (machine.workspace / "no-program.txt").write_text("text")
    async with connect() as agent:
        for arguments, text in BAD:
            told = await agent.refused(**arguments)
            assert text in told
            assert len(told) < 2000
            assert "exit status 0" in await agent.run("true")


async def test_big_input_that_is_right_works(connect: Connect) -> None:
    async with connect() as agent:
        assert (await agent.run("wc -c", stdin="x" * 10**6)).endswith("1000000")
        assert "exit status 0" in await agent.run(
            "true", env={f"A{n}": "x" * 1000 for n in range(500)}
        )


async def test_an_unknown_tool_is_an_error(connect: Connect) -> None:
    async with connect() as agent:
        assert "Unknown tool" in await agent.refused("no_such_tool")


async def test_progress_is_told_while_a_command_runs(
    connect: Connect, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attending, "PROGRESS_S", 0.05)
    heard: list[tuple[float, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        assert total is None
        heard.append((progress, message))
        if len(heard) >= 2 and (message or "").endswith("6 bytes of output so far"):
            (machine.workspace / "go").touch()

    async with connect() as agent:
        command = {"command": "echo hello; while ! [ -e go ]; do sleep 0.02; done"}
        with anyio.fail_after(DEADLINE_S):
            await agent.client.call_tool("run_sandboxed", command, progress_callback=hear)
    assert len(heard) >= 2
    assert [progress for progress, _ in heard] == sorted({progress for progress, _ in heard})
    assert (heard[-1][1] or "").endswith("6 bytes of output so far")


async def test_calls_run_at_the_same_time(connect: Connect) -> None:
    count = 8
    # Each waits for all of them.
    meet = f"while [ $(ls | wc -l) -lt {count} ]; do sleep 0.02; done"
    async with connect() as agent:
        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as group:
                for number in range(count):
                    group.start_soon(agent.run, f": > {number}; {meet}")


async def test_calls_that_run_at_the_same_time_dont_reach_each_other(
    connect: Connect, marked: Marked
) -> None:
    async with connect() as agent, anyio.create_task_group() as group:
        group.start_soon(agent.start, marked.sleeper)
        await marked.appear()
        (victim, *_) = marked.alive()
        told = await agent.run(f"kill -9 {victim}; kill -9 -1; kill -9 0; true")
        assert marked.alive()
        told = await agent.run(f"cat /proc/{victim}/cmdline /proc/*/cmdline | tr '\\0' ' '")
        assert marked.text not in told.replace(f"/proc/{victim}", "")
        group.cancel_scope.cancel()
    await marked.disappear()


async def test_a_hundred_cancelled_calls_leave_no_process(connect: Connect, marked: Marked) -> None:
    # Each tries to outlive its call in its own way.
    command = (
        f"trap '' TERM INT HUP; setsid sh -c 'trap \"\" TERM; sleep 1000 & sleep 1000' "
        f"{marked.text} & (sh -c 'sleep 1000; :' {marked.text} &) ; {marked.sleeper}"
    )
    async with connect() as agent:
        for _ in range(10):
            async with anyio.create_task_group() as group:
                for _ in range(10):
                    group.start_soon(agent.run, command)
                await marked.appear(10)
                group.cancel_scope.cancel()
        await marked.disappear()
        assert "exit status 0" in await agent.run("true")


async def test_too_many_calls_at_once_are_refused(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, marked: Marked
) -> None:
    monkeypatch.setattr(attending, "CALLS_MAX", 2)
    async with connect() as agent, anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(agent.run, marked.sleeper)
        await marked.appear(2)
        assert "run or wait already" in await agent.refused(command="true")
        group.cancel_scope.cancel()


async def test_the_policy_is_explained(connect: Connect, machine: Machine) -> None:
    async with connect() as agent:
        told = await agent.explain()
        assert f"Workspace: {machine.workspace}" in told
        assert "Network: closed" in told
        assert "Enforced by: " in told
        # Which of the protected paths there are is not told.
        assert ".ssh" not in told
        told = await agent.explain(path="new", operation="write")
        assert (
            told == f"write {machine.workspace}/new: allowed by profile default: allow $WORKSPACE"
        )
        told = await agent.explain(path="~/.ssh/id_ed25519")
        assert "denied. fs.protected:" in told
        told = await agent.explain(host="example.com")
        assert "denied. net.closed:" in told
        assert "allowed" in await agent.explain(path="/bin/sh")
        assert "write /proc/self/comm" in await agent.explain(
            path="/proc/self/../self/comm", operation="write"
        )


async def test_an_explanation_doesnt_tell_what_there_is_outside(
    connect: Connect, machine: Machine
) -> None:
    (machine.root / "plans").mkdir()
    (machine.root / "a-link").symlink_to(machine.root / "plans")
    async with connect() as agent:
        hidden = "Enforced by: namespaces" in await agent.explain()
        told = [
            (await agent.explain(path=f"{machine.root}/{name}")).replace(name, "NAME")
            for name in ("plans", "a-link", "nothing")
        ]
    # Without namespaces a worker can find out for itself, by stat(2).
    assert (len(set(told)) == 1) == hidden


async def test_a_link_is_judged_by_where_it_leads(connect: Connect, machine: Machine) -> None:
    (machine.workspace / "link").symlink_to("/etc/shadow")
    async with connect() as agent:
        assert "fs.protected: /etc/shadow" in await agent.explain(path="link")


async def test_one_more_directory_is_granted_by_a_flag(connect: Connect, machine: Machine) -> None:
    data = machine.root / "data"
    data.mkdir()
    (data / "file").write_text("some data")
    flags = Document(filesystem=FilesystemSection(read=(str(data),)))
    async with connect(flags=flags) as agent:
        assert "some data" in await agent.run(f"cat {data}/file")
        assert "fs.read-only" in await agent.run(f"echo more >>{data}/file")
    assert (data / "file").read_text() == "some data"


async def test_a_replaced_workspace_is_noticed(connect: Connect, machine: Machine) -> None:
    async with connect() as agent:
        await agent.run("touch before")
        machine.workspace.rename(machine.root / "moved")
        machine.workspace.mkdir()
        await agent.run("touch after")
        assert [entry.name for entry in machine.workspace.iterdir()] == ["after"]
        machine.workspace.rename(machine.root / "moved too")
        told = await agent.refused(command="true")
        assert "can't be opened" in told
        machine.workspace.mkdir()
        assert "exit status 0" in await agent.run("true")
