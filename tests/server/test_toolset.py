"""Fewer tools where fewer are wanted, and none that writes where nothing may be written."""

import pytest

from nono_mcp.policy.document import AgentSection, Document, FilesystemSection
from nono_mcp.policy.toolsets import ALWAYS, SETS
from nono_sandbox.confinement import WRITE
from tests.server.conftest import Machine, Wire, serving, text_of
from tests.server.test_rollback import id_in
from tests.server.test_undo import opened
from tests.server.test_undo import serving as served

pytestmark = [pytest.mark.anyio, pytest.mark.linux]


@pytest.mark.parametrize("toolset", ["core", "shell", "files", "files,undo"])
async def test_only_what_is_wanted_is_offered(machine: Machine, toolset: str) -> None:
    async with served(machine, {"flags": Document(agent=AgentSection(toolset))}) as agent:
        listed = {tool.name for tool in (await agent.client.list_tools()).tools}
        told = agent.client.instructions or ""
        prompts = [one.name for one in (await agent.client.list_prompts()).prompts]
        assert "Unknown tool" in await agent.refused("audit_verify")
    wanted = ALWAYS.union(*(SETS[name] for name in toolset.split(",")))
    assert listed == wanted
    every = ALWAYS.union(*SETS.values())
    # No word of a tool that isn't there.
    assert not [name for name in every - wanted if name in told.replace("git diff", "")]
    assert ("rollback" in prompts) is ("rollback" in wanted)


def test_every_tool_is_in_a_set(machine: Machine) -> None:
    wire = Wire(serving(machine), machine.environ)
    try:
        wire.initialize()
        tools = wire.answer(wire.request("tools/list"))["result"]["tools"]
    finally:
        wire.close()
    names = {tool["name"] for tool in tools}
    assert names == ALWAYS.union(*SETS.values())


def test_the_command_line_says_which(machine: Machine) -> None:
    wire = Wire(serving(machine, "--toolset", "core", "--read-only"), machine.environ)
    try:
        wire.initialize()
        tools = wire.answer(wire.request("tools/list"))["result"]["tools"]
        assert {tool["name"] for tool in tools} == ALWAYS | SETS["core"] - {
            "write_file",
            "edit_file",
            "rollback",
        }
        hints = {tool["name"]: tool["annotations"] for tool in tools}
        assert hints["run_sandboxed"]["readOnlyHint"]
        wire.run("touch made")
    finally:
        wire.close()
    wrong = Wire(serving(machine, "--toolset", "core,all"), machine.environ)
    assert wrong.wait() == 2
    assert "unknown set of tools all" in wrong.errors()
    wrong.close()
    assert not list(machine.workspace.iterdir())


@pytest.mark.claim("policy.read-only")
async def test_where_nothing_may_be_written_nothing_is(machine: Machine) -> None:
    data = machine.root / "data"
    data.mkdir()
    (machine.workspace / "file").write_text("1")
    async with served(machine) as agent:
        base = id_in(await agent.run("echo 2 > file"))
    allowed = FilesystemSection(allow=(str(data),), read_only=True)
    async with opened(machine, {"flags": Document(filesystem=allowed)}) as session:
        assert not any(
            grant.access & WRITE and grant.source is None and grant.path.startswith(str(data))
            for grant in session.prepared.confinement.grants
        )
    async with served(machine, {"flags": Document(filesystem=allowed)}) as agent:
        for path in (machine.workspace / "made", data / "made", machine.workspace / "file"):
            assert "exit status 0" not in await agent.run(f"echo 3 > {path}")
        assert "exit status 0" in await agent.run("cat file; echo 1 > $TMPDIR/x")
        for tool in ("write_file", "edit_file", "rollback"):
            assert "Unknown tool" in await agent.refused(tool)
        asked = {"path": str(data), "access": "write", "why": "x"}
        assert "fs.read-only" in await agent.refused("request_access", **asked)
        assert "-1" in text_of(await agent.call("diff", base=base, path="file"))
    assert (machine.workspace / "file").read_text() == "2\n"
    assert not list(data.iterdir())


@pytest.mark.claim("policy.read-only")
async def test_an_agent_puts_nothing_back_that_it_may_not_write(machine: Machine) -> None:
    (machine.workspace / "src").mkdir()
    (machine.workspace / "mine").write_text("a person's, before")
    async with served(machine) as agent:
        base = id_in(await agent.run("echo 1 > src/file"))
    (machine.workspace / "mine").write_text("a person's, now")
    listed = FilesystemSection(allow=(str(machine.workspace / "src"),))
    narrowed = Document(filesystem=listed)
    async with served(machine, {"profile": "read-only", "flags": narrowed}) as agent:
        await agent.run("echo 2 > src/file")
        assert "Unknown tool" in await agent.refused("rollback", snapshot=base)
    assert (machine.workspace / "mine").read_text() == "a person's, now"
