"""The log as resources: what they say, and that a client hears when they change."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from mcp import Client, MCPError
from mcp_types import ResourceUpdatedNotification, TextResourceContents

from nono_mcp.audit.session import Session as Log
from nono_mcp.server.app import build
from nono_mcp.server.audit_resources import SESSION_URI
from nono_mcp.server.prompts import POLICY_URI
from nono_mcp.server.snapshot_resources import LIST_URI
from nono_mcp.session import Session
from tests.server.conftest import DEADLINE_S, TIER, Machine

pytestmark = [pytest.mark.anyio, pytest.mark.linux]


@asynccontextmanager
async def served(machine: Machine, log: Log, **options: object) -> AsyncIterator[Client]:
    async with (
        Session.open(machine.request(), tier=TIER, log=log) as session,
        Client(build(session), **options) as client,  # type: ignore[arg-type]
    ):
        yield client


async def text_at(client: Client, uri: str) -> str:
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    return content.text


async def call_id(client: Client, command: str) -> str:
    answer = await client.call_tool("run_sandboxed", {"command": command})
    assert answer.meta is not None
    return str(answer.meta["nono-mcp/call"]["id"])


async def test_the_session_and_each_call_are_resources(
    machine: Machine, audit_log: Log, era: str
) -> None:
    mode = "legacy" if era < "2026" else "auto"
    async with served(machine, audit_log, mode=mode) as client:
        first = await call_id(client, "echo \x1b[31mone")
        second = await call_id(client, "exit 7")
        uris = [str(one.uri) for one in (await client.list_resources()).resources]
        whole = await text_at(client, SESSION_URI)
        one = await text_at(client, f"nono://audit/call/{second}")
        for uri in ("nono://audit/call/..%2f..", "nono://audit/call/", "nono://audit/other"):
            with pytest.raises(MCPError):
                await client.read_resource(uri)
    assert sorted(uris) == [SESSION_URI, POLICY_URI, LIST_URI]
    assert f"call={first}" in whole
    assert f"call={second}" in whole
    assert "\x1b" not in whole
    assert "exit_status=7" in one
    assert first not in one


@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
async def test_a_client_of_an_older_protocol_hears_of_what_it_subscribed_to(
    machine: Machine, audit_log: Log
) -> None:
    heard: list[str] = []
    news = anyio.Event()

    async def listen(message: object) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            heard.append(str(message.params.uri))
            news.set()

    async with served(machine, audit_log, mode="legacy", message_handler=listen) as client:
        with pytest.raises(MCPError):
            await client.session.subscribe_resource("nono://audit/other")
        await client.session.subscribe_resource(SESSION_URI)
        await call_id(client, "true")
        with anyio.fail_after(DEADLINE_S):
            await news.wait()
        await client.session.unsubscribe_resource(SESSION_URI)
    assert set(heard) == {SESSION_URI}


async def test_a_client_of_a_newer_protocol_hears_of_what_it_listens_to(
    machine: Machine, audit_log: Log
) -> None:
    async with (
        served(machine, audit_log, mode="auto") as client,
        client.listen(resource_subscriptions=[SESSION_URI]) as events,
    ):
        call = await call_id(client, "true")
        with anyio.fail_after(DEADLINE_S):
            async for event in events:
                assert getattr(event, "uri", "") == SESSION_URI
                break
        async with client.listen(resource_subscriptions=[f"nono://audit/call/{call}"]) as others:
            # Nothing more happens in that call; what comes is of the call that is named.
            audit_log.append("limit", {"limit": "output", "value": 1, "call": call})
            with anyio.fail_after(DEADLINE_S):
                async for event in others:
                    assert getattr(event, "uri", "") == f"nono://audit/call/{call}"
                    break


async def test_without_a_log_there_is_no_resource_of_it(machine: Machine) -> None:
    async with (
        Session.open(machine.request(), tier=TIER) as session,
        Client(build(session), mode="auto") as client,
    ):
        listed = (await client.list_resources()).resources
        assert sorted(str(one.uri) for one in listed) == [POLICY_URI, LIST_URI]
