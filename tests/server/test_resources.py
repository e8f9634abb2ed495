"""Outputs and snapshots as resources, the news of them, and completions."""

import anyio
import pytest
from mcp import Client, MCPError
from mcp_types import (
    Completion,
    PromptReference,
    ResourceTemplateReference,
    ResourceUpdatedNotification,
    TextResourceContents,
)

from nono_mcp.audit.session import Session as Log
from nono_mcp.server.app import build
from nono_mcp.server.audit_resources import CALL_URI
from nono_mcp.server.outputs import OUTPUT_URI
from nono_mcp.server.results import META_KEY
from nono_mcp.server.snapshot_resources import LIST_URI, SNAPSHOT_URI
from nono_mcp.session import Session
from tests.server.conftest import DEADLINE_S, ERAS, TIER, Connect, Machine

pytestmark = [pytest.mark.anyio, pytest.mark.linux]


async def read(client: Client, uri: str) -> str:
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    return content.text


async def call_id(client: Client, command: str) -> str:
    answer = await client.call_tool("run_sandboxed", {"command": command})
    assert answer.meta is not None
    return str(answer.meta[META_KEY]["id"])


async def test_a_long_output_is_read_page_by_page(connect: Connect) -> None:
    async with connect() as agent:
        client = agent.client
        job = await call_id(client, "seq -f 'line %06g' 1 20000; printf '[nono] é'")
        uri: str | None = f"nono://output/{job}"
        pages = []
        while uri is not None:
            page = await read(client, uri)
            before, mark, uri_after = page.rpartition("\n[nono] more of ")
            uri = uri_after.partition(": ")[2] if mark else None
            pages.append(before if mark else page)
        short = await call_id(client, "echo short")
        for wrong in (short, f"{job}/x", f"{job}/-1", "../x", "0" * 16):
            with pytest.raises(MCPError):
                await read(client, f"nono://output/{wrong}")
    assert len(pages) == 4
    whole = "".join(page if page.endswith("\n") else f"{page}\n" for page in pages)
    lines = whole.replace("\n", "").split("line ")[1:]
    assert [line[:6] for line in lines] == [f"{n:06}" for n in range(1, 20001)]
    assert pages[-1].endswith("\n [nono] é")


async def test_snapshots_are_read(connect: Connect, machine: Machine) -> None:
    (machine.workspace / "file").write_text("1")
    async with connect() as agent:
        await agent.call("snapshot", name="first\n[nono] x")
        await agent.run("echo 2 > file; echo 3 > new")
        listed = await read(agent.client, LIST_URI)
        *_, first = listed.splitlines()
        one = await read(agent.client, f"nono://snapshot/{first[:8]}")
        newest = await read(agent.client, "nono://snapshot/latest")
        with pytest.raises(MCPError):
            await read(agent.client, "nono://snapshot/ffffffffffffffff")
    assert "named" in first
    assert first in one
    assert "added new (+2 bytes)" in one
    assert "\n" not in newest


@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
@pytest.mark.parametrize("era", ERAS)
async def test_news_of_a_job_and_of_snapshots_are_heard(machine: Machine, era: str) -> None:
    heard: set[str] = set()

    async def listen(message: object) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            heard.add(str(message.params.uri))

    async with Session.open(machine.request(), tier=TIER) as session:
        mode = "legacy" if era < "2026" else "auto"
        async with Client(build(session), mode=mode, message_handler=listen) as client:
            arguments = {"command": "read x; echo $x; sleep 100", "keep_stdin": True}
            answer = await client.call_tool("run_sandboxed", {**arguments, "yield_s": 0.1})
            job = str(answer.content[0].text).split()[1].rstrip(":")  # type: ignore[union-attr]
            wanted = [OUTPUT_URI.format(job=job), LIST_URI]

            async def act() -> None:
                await client.call_tool("send_input", {"job": job, "text": "hello\n"})
                await client.call_tool("snapshot", {})

            with anyio.fail_after(DEADLINE_S):
                if era < "2026":
                    for uri in wanted:
                        await client.session.subscribe_resource(uri)
                    await act()
                    while heard != set(wanted):  # noqa: ASYNC110 - what a callback gathers
                        await anyio.sleep(0.01)
                    return
                async with client.listen(resource_subscriptions=wanted) as events:
                    await act()
                    async for event in events:
                        heard.add(str(getattr(event, "uri", "")))
                        if heard == set(wanted):
                            return


async def test_ids_are_completed(machine: Machine, audit_log: Log) -> None:
    async with (
        Session.open(machine.request(), tier=TIER, log=audit_log) as session,
        Client(build(session), mode="auto") as client,
    ):
        await client.call_tool("snapshot", {"name": "before lunch"})
        call = await call_id(client, "seq 10000")

        async def completed(template: str, name: str, value: str) -> Completion:
            ref = ResourceTemplateReference(uri=template)
            return (await client.complete(ref, {"name": name, "value": value})).completion

        prompt = PromptReference(name="rollback")
        named = (await client.complete(prompt, {"name": "snapshot", "value": "bef"})).completion
        ids = await completed(SNAPSHOT_URI, "id", "")
        calls = await completed(CALL_URI, "call", call[:4])
        outputs = await completed(OUTPUT_URI, "job", "")
        nothing = await completed(OUTPUT_URI, "nothing", "")
        other = await completed("nono://other", "id", "")
    assert named.values == ["before lunch"]
    assert ids.total == len(ids.values) > 1
    assert calls.values == [call]
    assert outputs.values == [call]
    assert nothing.values == other.values == []


@pytest.mark.claim("files.tools-confined")
async def test_paths_are_completed_by_who_sees_no_secret(machine: Machine) -> None:
    for name in ("src/deep", "src/other", "srv"):
        (machine.workspace / name).mkdir(parents=True)
    (machine.workspace / "src" / "x\n[nono]").touch()
    (machine.workspace / "out").symlink_to(machine.home / ".ssh")
    for n in range(150):
        (machine.workspace / "srv" / f"{n:03}").touch()
    async with (
        Session.open(machine.request(), tier=TIER) as session,
        Client(build(session), mode="auto") as client,
    ):

        async def completed(value: str) -> Completion:
            ref, argument = PromptReference(name="why-denied"), {"name": "what", "value": value}
            return (await client.complete(ref, argument)).completion

        assert (await completed("sr")).values == ["src/", "srv/"]
        assert (await completed("src/")).values == ["src/deep/", "src/other/"]
        assert (await completed(f"{machine.workspace}/src/d")).values == [
            f"{machine.workspace}/src/deep/"
        ]
        many = await completed("srv/")
        assert (len(many.values), many.total, many.has_more) == (100, 150, True)
        home = str(machine.home)
        for closed in ("out/", "~/.ssh/", f"{home}/.ssh/", f"{home}/", "\0", "no/"):
            found = (await completed(closed)).values
            assert not any("id_ed" in one or "notes" in one for one in found)
