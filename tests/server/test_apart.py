"""Several clients with one token: what one began isn't told to another, in either era."""

import http.client
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from mcp import MCPError
from mcp_types import ResourceTemplateReference, ResourceUpdatedNotification

from nono_mcp.server.addressing import Asked, asked
from tests.server.conftest import DEADLINE_S, ERAS, Agent, Machine, Marked, furnished, until
from tests.server.test_http import ENVELOPE, MODERN, PING, Website, calling, handshake, listening

pytestmark = pytest.mark.linux

JOB = re.compile(r"\bjob ([0-9a-f]{16})\b")
UNDO = re.compile(r"undo: rollback ([0-9a-f]+)")
TEMPLATES = (("snapshot/{id}", "id"), ("output/{job}", "job"), ("audit/call/{call}", "call"))


@pytest.fixture(scope="module")
def website(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    with listening(furnished(tmp_path_factory.mktemp("apart"))) as found:
        yield found


@dataclass
class Begun:
    """What a client began, and all ids that it was given."""

    job: str
    call: str
    snapshot: str
    file: str

    @property
    def ids(self) -> tuple[str, ...]:
        return self.job, self.call, self.snapshot


async def begin(agent: Agent, marked: Marked, file: str) -> Begun:
    answer = await agent.call("run_sandboxed", command=f"echo {marked.text} > {file}")
    assert answer.meta is not None
    told = answer.meta["nono-mcp/call"]
    (job,) = JOB.findall(await agent.run(f"cat; echo {marked.text}", keep_stdin=True))
    return Begun(job, told["id"], told["changes"]["before"], file)


async def read(agent: Agent, uri: str) -> str:
    try:
        return str((await agent.client.read_resource(uri)).contents)
    except MCPError as error:
        return str(error)


async def everything_told(agent: Agent, theirs: Begun) -> str:
    """Return all that a client hears who asks for whatever there is, and guesses."""
    told = []
    for tool, arguments in (
        ("read_output", {}),
        ("read_output", {"job": "0" * 16}),
        ("list_snapshots", {}),
        ("audit_tail", {}),
        ("audit_tail", {"everybody": True}),
        ("audit_tail", {"grep": theirs.file}),
        ("audit_tail", {"call": theirs.call[:15]}),
        ("audit_tail", {"call": theirs.snapshot[:7]}),
        ("diff", {"base": "latest"}),
        ("diff", {"base": theirs.snapshot[:7]}),
        ("diff", {"base": theirs.snapshot[:15]}),
        ("diff", {"base": theirs.call[:15]}),
        ("rollback", {"snapshot": theirs.snapshot[:7], "dry_run": True}),
        ("rollback", {"snapshot": "private", "dry_run": True}),
    ):
        told.append(str((await agent.call(tool, **arguments)).content))
    told += [
        await read(agent, f"nono://{uri}")
        for uri in ("audit/session", "snapshots", f"snapshot/{theirs.snapshot[:7]}", "policy")
    ]
    for uri, name in TEMPLATES:
        template = ResourceTemplateReference(type="ref/resource", uri=f"nono://{uri}")
        for value in ("", theirs.job[:7], theirs.call[:7], theirs.snapshot[:7]):
            found = await agent.client.complete(template, {"name": name, "value": value})
            told.append(str(found.completion.values))
    return "\n".join(told)


@pytest.mark.anyio
@pytest.mark.claim("shared.clients-apart")
@pytest.mark.parametrize(
    ("era", "names"),
    [*((era, ("", "")) for era in ERAS), (MODERN, ("left", "right"))],
)
async def test_a_client_is_told_nothing_of_what_another_with_its_token_began(
    website: Website, marked: Marked, era: str, names: tuple[str, str]
) -> None:
    mine, others = (website.named(name) for name in names)
    async with mine.client(era) as agent, others.client(era) as other:
        begun = await begin(agent, marked, f"made-{era}{''.join(names)}")
        await agent.call("snapshot", name="private")
        told = await everything_told(other, begun)
        for id_ in begun.ids:
            # Whole, or as far as it's shown: what was asked about is said again.
            assert not re.search(rf"\b({id_}|{id_[:8]})\b", told), told
        assert marked.text not in told
        assert f"> {begun.file}" not in told
        assert "'private'" not in told.replace("no snapshot 'private'", "")
        # Whose it is reaches it by what it was told.
        assert marked.text in await agent.run(f"cat {begun.file}")
        records = str((await agent.call("audit_tail", call=begun.call)).content)
        assert marked.text in records
        dry = await agent.call("rollback", snapshot=begun.snapshot, dry_run=True)
        assert begun.file in str(dry.content)
        assert begun.job in str((await agent.call("stop_job", job=begun.job)).content)


@pytest.mark.anyio
@pytest.mark.claim("shared.clients-apart")
@pytest.mark.parametrize("pair", ["2025", "named", "2025 and 2026", "named and 2026"])
async def test_an_id_of_anothers_session_opens_none_of_its_jobs_and_records(
    website: Website, marked: Marked, pair: str
) -> None:
    mine = website.named("mine") if "named" in pair else website
    others = website.named("theirs") if pair == "named" else website
    async with (
        mine.client(ERAS[0]) as agent,
        others.client(MODERN if "2026" in pair else ERAS[0]) as other,
    ):
        begun = await begin(agent, marked, f"file-{pair.replace(' ', '-')}")
        for tool, more in (("read_output", {}), ("send_input", {"text": "x\n"}), ("stop_job", {})):
            refused = await other.refused(tool, job=begun.job, **more)
            assert refused.startswith(f"no job '{begun.job}'")
            assert refused.count(begun.job) == 1
        for uri in (f"output/{begun.job}", f"output/{begun.job}/0", f"audit/call/{begun.call}"):
            assert marked.text not in await read(other, f"nono://{uri}")
        records = str((await other.call("audit_tail", call=begun.call)).content)
        assert marked.text not in records
        assert "running" in str((await agent.call("read_output", job=begun.job)).content)
        # A /tmp and a loopback of its own.
        await agent.run("echo mine > /tmp/mine")
        assert "mine" not in await other.run("cat /tmp/mine 2>/dev/null; true")
        await agent.call("stop_job", job=begun.job)


@pytest.mark.anyio
async def test_an_undo_by_the_id_that_was_told_works_where_nothing_tells_clients_apart(
    website: Website, marked: Marked
) -> None:
    async with website.client(MODERN) as agent:
        (id_,) = UNDO.findall(await agent.run(f"echo {marked.text} > undone"))
        assert len(id_) == 16
        assert "rolled back" in str((await agent.call("rollback", snapshot=id_)).content)
        assert "no such" in (await agent.run("cat undone 2>&1; true")).lower()
        assert "say which job" in await agent.refused("read_output")
        assert "/NAME" in await agent.refused("audit_tail")
        assert "keep_cwd" in await agent.refused(command="pwd", cwd="/", keep_cwd=True)
        names = {tool.name for tool in (await agent.client.list_tools()).tools}
        assert "list_snapshots" not in names
        assert {"rollback", "diff", "audit_tail"} <= names
        asked = str((await agent.client.get_prompt("what-changed", {})).messages)
        assert "read_output for each that you began" in asked
        assert "list_snapshots" not in asked
        assert "audit_tail" not in asked


@pytest.mark.anyio
@pytest.mark.claim("shared.clients-apart")
async def test_who_comes_back_by_a_name_finds_its_snapshots(
    machine: Machine, marked: Marked
) -> None:
    id_ = ""
    for _ in range(2):
        with listening(machine) as website:
            async with (
                website.named("laptop").client(MODERN) as agent,
                website.named("laptop").client(ERAS[0]) as same,
                website.named("other").client(MODERN) as other,
            ):
                if not id_:
                    (id_,) = UNDO.findall(await agent.run(f"echo {marked.text} > kept"))
                    (job,) = JOB.findall(await agent.run("cat", keep_stdin=True))
                    assert job in str((await same.call("read_output")).content)
                    await same.call("stop_job", job=job)
                assert id_ in str((await agent.call("list_snapshots")).content)
                assert id_ not in str((await other.call("list_snapshots")).content)
                assert "kept" in str(
                    (await same.call("rollback", snapshot=id_, dry_run=True)).content
                )


@pytest.mark.anyio
async def test_who_writes_at_the_same_time_is_no_secret_to_who_might_undo_it(
    machine: Machine,
) -> None:
    with listening(machine) as website:
        async with (
            website.client(ERAS[0]) as agent,
            website.named("other").client(MODERN) as other,
            anyio.create_task_group() as group,
        ):
            told: list[str] = []

            async def run() -> None:
                command = "echo > mine; while ! [ -e gate ]; do sleep 0.05; done"
                told.append(await agent.run(command))

            group.start_soon(run)
            with anyio.fail_after(DEADLINE_S):
                while not (machine.workspace / "mine").exists():  # noqa: ASYNC110 - a worker's
                    await anyio.sleep(0.02)
            told.append(await other.run("echo > gate"))
        assert len(told) == 2
        for text in told:
            assert "by this or by calls at the same time" in text


@dataclass
class Heard:
    agent: Agent
    uris: set[str] = field(default_factory=set)
    all: anyio.Event = field(default_factory=anyio.Event)


@asynccontextmanager
async def subscribed(website: Website, *uris: str) -> AsyncIterator[Heard]:
    async def hear(message: object) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            heard.uris.add(str(message.params.uri))
            if heard.uris == set(uris):
                heard.all.set()

    async with website.client(ERAS[0], message_handler=hear) as agent:
        for uri in uris:
            await agent.client.session.subscribe_resource(uri)
        heard = Heard(agent)
        yield heard


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
@pytest.mark.claim("shared.clients-apart")
async def test_news_of_one_reach_nobody_else(website: Website) -> None:
    uris = ["nono://audit/session", "nono://snapshots"]
    events: list[object] = []

    async def listen(agent: Agent) -> None:
        async with agent.client.listen(resource_subscriptions=uris) as found:
            listens.set()
            async for event in found:
                events.append(event)  # noqa: PERF401 - it doesn't end

    listens = anyio.Event()
    async with (
        subscribed(website, *uris) as mine,
        subscribed(website, *uris) as other,
        website.client(MODERN) as newer,
        website.client(MODERN) as newest,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listen, newer)
        await listens.wait()
        await newest.run("echo x > by-the-newest")
        await mine.agent.run("echo x > by-me")
        with anyio.fail_after(DEADLINE_S):
            await mine.all.wait()
        # Whatever was to be told of the first has been told by the time that its own has.
        assert not other.uris
        assert not events
        group.cancel_scope.cancel()


@pytest.mark.claim("shared.clients-apart")
def test_a_protocol_session_is_known_by_its_id_alone(website: Website, marked: Marked) -> None:
    mine, other = handshake(website), handshake(website)
    assert mine != other
    for wrong in (mine[:-1], mine.upper() + "x", "0" * 32, "", " ", "x" * 4000, f"{mine},{other}"):
        assert website.post(PING, Mcp_Session_Id=wrong)[0] in (400, 404)
    # Nor is it anybody's at another address.
    assert website.named("elsewhere").post(PING, Mcp_Session_Id=mine)[0] == 404
    assert website.post(PING, Mcp_Session_Id=mine)[0] == 200
    # What another cancels by a number that mine has, too, is another's.
    connection = called(website, mine, marked)
    body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}}
    for session_id in (other, None):
        headers = {"MCP_Protocol_Version": MODERN} if session_id is None else {}
        website.post(json.dumps(body).encode(), Mcp_Session_Id=session_id, **headers)
    assert website.post(PING, Mcp_Session_Id=other)[0] == 200
    assert marked.alive()
    # Its end ends what it began, and another's goes on.
    assert delete(website, mine) == 200
    marked.await_disappearance()
    connection.close()
    assert website.post(PING, Mcp_Session_Id=mine)[0] == 404
    assert website.post(PING, Mcp_Session_Id=other)[0] == 200
    assert delete(website, other) == 200


def called(website: Website, session_id: str, marked: Marked) -> http.client.HTTPConnection:
    params = {"name": "run_sandboxed", "arguments": {"command": marked.sleeper}}
    body = json.dumps({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params})
    connection = http.client.HTTPConnection("127.0.0.1", website.port, timeout=120)
    headers = website.headers | {"Mcp-Session-Id": session_id}
    connection.request("POST", "/mcp", body=body, headers=headers)
    marked.await_appearance()
    return connection


def delete(website: Website, session_id: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", website.port, timeout=120)
    headers = website.headers | {"Mcp-Session-Id": session_id}
    connection.request("DELETE", "/mcp", headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def sessions_count(website: Website) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", website.port, timeout=120)
    connection.request("GET", "/metrics", headers=website.headers)
    text = connection.getresponse().read().decode()
    connection.close()
    return int(text.split('nono_sessions{principal="person"} ')[1].split("\n")[0])


def test_what_opens_no_protocol_session_begins_none_of_ours(website: Website) -> None:
    opening = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
    count = sessions_count(website)
    for body in (
        PING,
        b"",
        b"nonsense",
        b"[" * 100_000,
        b'{"method": "initialize"' + b" " * 100_000 + b"}",
        json.dumps([opening]).encode(),
    ):
        assert website.post(body)[0] == 400
    for path in ("/mcp/", "/mcp/a/b", "/mcp/..", "/mcp/-", f"/mcp/{'x' * 65}", "/mcp/%0a", "/"):
        assert post_to(website, path) == 404
    # Fewer, if one of before has only now ended.
    assert sessions_count(website) <= count
    # One that is refused ends at once.
    assert website.post(json.dumps(opening).encode(), Accept="text/plain")[0] == 406
    until(lambda: sessions_count(website) <= count)


def post_to(website: Website, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", website.port, timeout=120)
    connection.request("POST", path, body=PING, headers=website.headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def test_a_command_of_an_era_that_was_forged_runs_in_the_session_of_nobody_else(
    website: Website, marked: Marked
) -> None:
    """Whoever says 2026 and sends a session's id is in the common one: it has no such session."""
    session_id = handshake(website)
    params = {"name": "read_output", "arguments": {}, "_meta": ENVELOPE}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    connection = calling(website, marked.sleeper, MODERN)
    marked.await_appearance()
    _, text = website.post(
        body.encode(),
        MCP_Protocol_Version=MODERN,
        Mcp_Method="tools/call",
        Mcp_Name="read_output",
        Mcp_Session_Id=session_id,
    )
    assert "say which job" in text
    assert connection.sock is not None
    connection.sock.close()
    connection.close()
    marked.await_disappearance()


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/mcp", [], Asked(may_open=True)),
        ("/mcp", [(b"mcp-protocol-version", MODERN.encode())], Asked()),
        ("/mcp", [(b"mcp-protocol-version", b"2099-01-01")], Asked()),
        ("/mcp", [(b"mcp-session-id", b"x")], Asked(protocol_id="x")),
        ("/mcp", [(b"mcp-session-id", b"")], Asked(protocol_id="")),
        ("/mcp", [(b"mcp-session-id", b"\xff")], Asked(protocol_id="\xff")),
        ("/mcp/laptop", [(b"mcp-session-id", b"x")], Asked("laptop")),
        ("/mcp/a.b_c-9", [], Asked("a.b_c-9")),
        ("/mcp/\N{GREEK SMALL LETTER ALPHA}", [], None),
        ("/mcp/a\n", [], None),
        ("/mcpx", [], None),
        ("/mcp/../mcp", [], None),
    ],
)
def test_a_request_says_which_session_it_is_for(
    path: str, headers: list[tuple[bytes, bytes]], expected: Asked | None
) -> None:
    assert asked({"path": path, "headers": headers, "method": "POST"}) == expected
