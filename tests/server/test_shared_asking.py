"""A shared server whose principals may ask: who hears of a yes, and whose yes counts."""

import http.client
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp_types import ToolListChangedNotification

from tests.server.conftest import DEADLINE_S, ERAS, SECRET, Agent
from tests.server.teamwork import NAMES, People, Shared, people, sharing
from tests.server.test_access import Person
from tests.server.test_http import ENVELOPE, MODERN, Website, handshake

pytestmark = pytest.mark.linux

CAN_ASK = ENVELOPE | {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def readable(team: People, name: str) -> Path:
    return team.root / "for" / name


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """Share a server where each may ask for some directories."""
    team = people(tmp_path_factory.mktemp("team"))
    profiles = team.root / "machine" / "config" / "nono" / "profiles"
    profiles.mkdir(mode=0o700, parents=True)
    (profiles.parent).chmod(0o700)
    paths = []
    for name in (*NAMES, *(f"{name}-{use}" for name in NAMES for use in ("yes", "forged"))):
        directory = readable(team, name)
        directory.mkdir(parents=True)
        (directory / "file").write_text(f"given to {name} {SECRET}")
        paths.append(str(directory))
    profile = profiles / "asking.toml"
    profile.write_text(f"[ask]\nwrite = {json.dumps(paths)}\n")
    profile.chmod(0o600)
    team.write(each='profile = "asking"')
    with sharing(team) as found:
        yield found


@dataclass
class Hearing:
    """A client, and how often it heard that its tools changed."""

    agent: Agent
    heard: anyio.Event = field(default_factory=anyio.Event)


@asynccontextmanager
async def hearing(website: Website, **options: object) -> AsyncIterator[Hearing]:
    heard = anyio.Event()

    async def hear(message: object) -> None:
        if isinstance(message, ToolListChangedNotification):
            heard.set()

    async with website.client(ERAS[0], message_handler=hear, **options) as agent:
        await agent.client.list_tools()
        yield Hearing(agent, heard)


async def described(agent: Agent) -> str:
    """Return what is told of running commands."""
    tools = {tool.name: tool for tool in (await agent.client.list_tools()).tools}
    return tools["run_sandboxed"].description or ""


@pytest.mark.anyio
@pytest.mark.claim("shared.sessions-apart")
async def test_a_sessions_clients_hear_that_their_tools_changed_and_no_others(
    asking: Shared,
) -> None:
    alice, bob = (asking.of(name).named("mine") for name in NAMES)
    theirs = readable(asking.people, "alice")
    async with (
        hearing(alice, elicitation_callback=Person().answer) as asker,
        hearing(alice) as other,
        hearing(bob) as stranger,
        hearing(asking.of("alice")) as apart,
        hearing(alice.named("other")) as elsewhere,
        alice.client(MODERN) as newer,
        newer.client.listen(tools_list_changed=True) as events,
    ):
        await asker.agent.call(
            "request_access", path=str(theirs), access="write", why="to write there"
        )
        with anyio.fail_after(DEADLINE_S):
            await asker.heard.wait()
            await other.heard.wait()
            async for event in events:
                assert type(event).__name__ == "ToolsListChanged"
                break
        assert str(theirs) in await described(other.agent)
        for one in (stranger, apart, elsewhere):
            assert str(theirs) not in await described(one.agent)
            assert not one.heard.is_set()
            assert SECRET not in await one.agent.run(f"cat {theirs}/file; true")


def ask(website: Website, path: Path, **more: object) -> dict[str, Any]:
    """Ask for *path*, and return what that comes to."""
    arguments = {"path": str(path), "access": "write", "why": "to write there"}
    params = {"name": "request_access", "arguments": arguments, "_meta": CAN_ASK} | more
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {"MCP_Protocol_Version": MODERN, "Mcp_Method": "tools/call"}
    _, text = website.post(json.dumps(body).encode(), **headers, Mcp_Name="request_access")
    answer: dict[str, Any] = json.loads(text)
    return answer


@pytest.mark.claim("shared.sessions-apart")
def test_a_yes_to_ones_question_is_none_to_anothers(asking: Shared) -> None:
    alice, bob = (asking.of(name) for name in NAMES)
    path = readable(asking.people, "alice-yes")
    question = ask(alice, path)["result"]
    (key,) = question["inputRequests"]
    yes = {
        "inputResponses": {key: {"action": "accept", "content": {"agreed": True}}},
        "requestState": question["requestState"],
    }
    for website, wanted in ((bob, path), (bob, readable(asking.people, "bob-yes"))):
        told = ask(website, wanted, **yes)
        assert "error" in told or told["result"].get("isError"), told
        # Nor when he was asked the same himself.
        asked = ask(website, wanted)["result"]
        assert asked["inputRequests"]
        told = ask(website, wanted, **yes)
        assert "error" in told or told["result"].get("isError"), told
    told = ask(alice, readable(asking.people, "bob-yes"), **yes)
    assert "error" in told or told["result"].get("isError"), told
    # Hers was hers all the while.
    told = ask(alice, path, **yes)
    assert "given until the session ends" in str(told), told
    # And it's one yes.
    told = ask(alice, path, **yes)
    assert "error" in told or told["result"].get("isError"), told


def test_a_yes_that_nobody_was_asked_for_gives_nothing(asking: Shared) -> None:
    alice = asking.of("alice")
    path = readable(asking.people, "alice-forged")
    (key,) = ask(alice, path)["result"]["inputRequests"]
    yes = {"inputResponses": {key: {"action": "accept", "content": {"agreed": True}}}}
    for state in ({}, {"requestState": ""}, {"requestState": "{}"}, {"requestState": "x" * 9999}):
        told = ask(alice, path, **yes, **state)
        assert "given until" not in str(told), told
    session_id = handshake(alice)
    for number in range(3):
        body = {"jsonrpc": "2.0", "id": number, "result": yes["inputResponses"][key]}
        status, _ = alice.post(json.dumps(body).encode(), Mcp_Session_Id=session_id)
        assert status == 202


def test_who_comes_back_for_what_they_missed_gets_none_of_anothers(asking: Shared) -> None:
    alice = asking.of("alice")
    session_id = handshake(alice)
    for website, status in ((alice, 200), (asking.of("bob"), 404)):
        assert stream(website, session_id, "0_1") == status


def stream(website: Website, session_id: str, last: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", website.port, timeout=DEADLINE_S)
    headers = website.headers | {"Mcp-Session-Id": session_id, "Last-Event-ID": last}
    connection.request("GET", "/mcp", headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status
