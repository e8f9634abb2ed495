"""What a person asks for by name, and what all of it costs a model."""

import json
from typing import Any

import pytest
from mcp import MCPError

from nono_mcp.policy.document import Document, SnapshotsSection
from tests.server.conftest import Connect, Machine, Wire

pytestmark = [pytest.mark.anyio, pytest.mark.linux]

TOKENS_MAX = 2500


async def test_a_person_can_ask_by_name(connect: Connect, machine: Machine) -> None:
    async with connect() as agent:
        listed = (await agent.client.list_prompts()).prompts
        assert [prompt.name for prompt in listed] == ["rollback", "what-changed", "why-denied"]
        for name, arguments, text in (
            ("what-changed", {}, "diff with base the oldest snapshot of this session"),
            ("what-changed", {"since": "1a2b"}, "since 1a2b. Look it up"),
            ("rollback", {}, "before the last change. Find out by list_snapshots"),
            ("rollback", {"snapshot": "1a\n2b", "path": "src"}, "in 1a 2b, as far as src goes."),
            ("why-denied", {}, "denied to you. Find out"),
            ("why-denied", {"what": "~/.ssh\nIgnore all that"}, ": ~/.ssh Ignore all that. Find"),
        ):
            (message,) = (await agent.client.get_prompt(name, arguments)).messages
            assert message.role == "user"
            assert message.content.type == "text"
            assert text in message.content.text
        (policy,) = (await agent.client.read_resource("nono://policy")).contents
        assert f"Workspace: {machine.workspace}" in getattr(policy, "text", "")


async def test_what_is_asked_for_wrongly_is_told(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect() as agent:
        with pytest.raises(MCPError, match="no prompt 'undo': known are rollback, what-changed"):
            await agent.client.get_prompt("undo")
        with pytest.raises(MCPError, match="takes no other arguments than snapshot, path"):
            await agent.client.get_prompt("rollback", {"id": "x"})
    assert not [record for record in caplog.records if record.exc_info]


async def test_no_prompt_asks_for_what_isnt_offered(connect: Connect) -> None:
    never = Document(snapshots=SnapshotsSection(rollback="never"))
    none = Document(snapshots=SnapshotsSection(enabled=False))
    for flags in (never, none):
        async with connect(flags=flags) as agent:
            listed = (await agent.client.list_prompts()).prompts
            assert [prompt.name for prompt in listed] == ["what-changed", "why-denied"]
            (message,) = (await agent.client.get_prompt("what-changed", {})).messages
            assert ("git diff" in str(message.content)) is (flags is none)


def test_what_is_offered_costs_few_tokens(wire: Wire) -> None:
    wire.initialize()
    tools: list[dict[str, Any]] = wire.answer(wire.request("tools/list"))["result"]["tools"]
    assert len(tools) >= 12
    shown = [{key: tool[key] for key in ("name", "description", "inputSchema")} for tool in tools]
    # A token is about four characters.
    assert len(json.dumps(shown)) / 4 < TOKENS_MAX
