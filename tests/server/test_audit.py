"""What a server does stands in the log, and what can't stand there isn't done."""

import contextlib
import hashlib
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp_types import Implementation, TextContent

from nono_mcp.audit.reading import Filters, tail
from nono_mcp.audit.record import Record
from nono_mcp.audit.session import Session as Log
from nono_mcp.policy.toml import emit
from nono_mcp.server.app import build
from nono_mcp.session import Session
from tests.server.conftest import TIER, Machine

pytestmark = [pytest.mark.anyio, pytest.mark.linux]


def records(machine: Machine, kind: str) -> list[Record]:
    page = tail(str(machine.root / "state" / "nono"), Filters(kind=kind), 100)
    return list(page.records)


@pytest.mark.claim("audit.calls-recorded")
async def test_the_intent_of_a_call_stands_before_its_outcome(
    machine: Machine, audit_log: Log
) -> None:
    async with (
        Session.open(machine.request(), log=audit_log) as session,
        Client(build(session)) as client,
    ):
        answer = await client.call_tool("run_sandboxed", {"command": "exit 3"})
    start, end = records(machine, "call")
    assert (start.kind, start.data["argv"]) == ("call.start", ["/bin/sh", "-c", "exit 3"])
    assert (end.kind, end.data["outcome"], end.data["exit_status"]) == ("call.end", "exit", 3)
    assert answer.meta is not None
    assert start.data["call"] == end.data["call"] == answer.meta["nono-mcp/call"]["id"]


@pytest.mark.claim("audit.calls-recorded")
@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [
        ({"command": "sleep 9", "timeout_s": 0.2}, "timeout"),
        ({"argv": ["no-such-program"]}, "refused"),
        ({"command": "true", "cwd": "/etc"}, "refused"),
        ({"command": "kill -9 $$"}, "signal"),
    ],
)
async def test_every_way_a_call_ends_is_recorded(
    machine: Machine, audit_log: Log, arguments: dict[str, object], outcome: str
) -> None:
    async with (
        Session.open(machine.request(), log=audit_log) as session,
        Client(build(session)) as client,
    ):
        await client.call_tool("run_sandboxed", arguments)
    assert [record.data["outcome"] for record in records(machine, "call.end")] == [outcome]


@pytest.mark.claim("audit.calls-recorded")
async def test_what_cannot_be_recorded_is_not_run(machine: Machine, audit_log: Log) -> None:
    async with (
        Session.open(machine.request(), log=audit_log) as session,
        Client(build(session)) as client,
    ):
        audit_log.close()
        answer = await client.call_tool("run_sandboxed", {"command": "touch ran"})
    assert answer.is_error
    assert not (machine.workspace / "ran").exists()


async def test_a_client_reads_and_verifies_the_log(machine: Machine, audit_log: Log) -> None:
    async with (
        Session.open(machine.request(), log=audit_log) as session,
        Client(build(session)) as client,
    ):
        await client.call_tool("run_sandboxed", {"command": "echo \x1b[31mred"})
        shown = await client.call_tool("audit_tail", {"kind": "call"})
        verified = await client.call_tool("audit_verify", {})
    text = shown.content[0].model_dump()["text"]
    assert "\x1b" not in text
    assert "outcome=exit" in text
    assert "integrity:    ok" in verified.content[0].model_dump()["text"]


@pytest.mark.claim("audit.calls-recorded")
async def test_a_call_names_its_policy_its_tier_and_who_asked(
    machine: Machine, audit_log: Log
) -> None:
    meta: Any = {"claudecode/toolUseId": "toolu_1", "token": "ghp_" + "a" * 36, "half": 0.5}
    info = Implementation(name="evil\x1b[2J", version="1")
    async with (
        Session.open(machine.request(), tier=TIER, log=audit_log) as session,
        Client(build(session), client_info=info) as client,
    ):
        shown = emit(session.prepared.document)
        await client.call_tool("run_sandboxed", {"command": "true"}, meta=meta)
        tier = session.tier
    (policy,) = records(machine, "policy")
    (start,) = records(machine, "call.start")
    digest = hashlib.sha256(shown.encode()).hexdigest()
    assert (policy.data["sha256"], policy.data["tier"]) == (digest, tier)
    assert policy.data["best_effort"] is False
    assert (start.data["policy_sha256"], start.data["tier"]) == (digest, tier)
    assert start.data["client"] == "evil\x1b[2J 1"
    told = start.data["meta"]
    assert isinstance(told, dict)
    assert (told["claudecode/toolUseId"], told["half"]) == ("toolu_1", "0.5")
    assert "a" * 36 not in str(told)


@pytest.mark.claim("audit.calls-recorded")
@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("run_sandboxed", {"command": "true", "commmand": "x"}),
        ("run_sandboxed", {"command": "true", "timeout_s": 1e9}),
        ("no_such_tool", {}),
    ],
)
async def test_what_never_got_as_far_as_running_is_recorded_as_refused(
    machine: Machine, audit_log: Log, tool: str, arguments: dict[str, object]
) -> None:
    async with (
        Session.open(machine.request(), tier=TIER, log=audit_log) as session,
        Client(build(session)) as client,
    ):
        with contextlib.suppress(MCPError):
            assert (await client.call_tool(tool, arguments)).is_error
    start, end = records(machine, "call")
    assert (start.data["tool"], start.data["decision"]) == (tool, "deny")
    assert end.data["outcome"] == "refused"
    assert start.data["rule"]


@pytest.mark.claim("guard.put-right")
@pytest.mark.claim("guard.beneath")
async def test_what_was_put_right_is_told_and_recorded(machine: Machine, audit_log: Log) -> None:
    (machine.workspace / ".git").mkdir()
    async with (
        Session.open(machine.request(), tier=TIER, log=audit_log) as session,
        Client(build(session)) as client,
    ):
        command = "echo x > .envrc; echo x > .git/commondir; mkdir .claude d; echo x > d/.npmrc"
        answer = await client.call_tool("run_sandboxed", {"command": command})
    names = [".claude", ".envrc", ".git/commondir", "d/.npmrc"]
    paths = [f"{machine.workspace}/{name}" for name in names]
    assert sorted(path.name for path in machine.workspace.rglob("*")) == [".git", "d"]
    assert answer.meta is not None
    data = answer.meta["nono-mcp/call"]
    assert sorted(one["path"] for one in data["guarded"]) == paths
    found = records(machine, "guard")
    assert sorted(str(one.data["path"]) for one in found) == paths
    assert {(one.data["action"], one.data["call"]) for one in found} == {("removed", data["id"])}
    (content,) = answer.content
    assert isinstance(content, TextContent)
    assert f"[nono] taken away again: {paths[1]}" in content.text
    assert "--bypass PATH" in content.text
