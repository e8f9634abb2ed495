"""What a server does stands in the log, and what can't stand there isn't done."""

from collections.abc import Iterator

import pytest
from mcp import Client

from nono_mcp.audit.log import AuditLog
from nono_mcp.audit.reading import Filters, tail
from nono_mcp.audit.record import Record
from nono_mcp.audit.session import Session as Log
from nono_mcp.server.app import build
from nono_mcp.session import Session
from tests.server.conftest import Machine

pytestmark = [pytest.mark.anyio, pytest.mark.linux]


@pytest.fixture
def log(machine: Machine) -> Iterator[Log]:
    opened = AuditLog.open(str(machine.root / "state" / "nono"), None)
    session = opened.session({"pid": 1})
    yield session
    session.close()
    opened.close()


def records(machine: Machine, kind: str) -> list[Record]:
    page = tail(str(machine.root / "state" / "nono"), Filters(kind=kind), 100)
    return list(page.records)


@pytest.mark.claim("audit.calls-recorded")
async def test_the_intent_of_a_call_stands_before_its_outcome(machine: Machine, log: Log) -> None:
    async with (
        Session.open(machine.request(), log=log) as session,
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
    machine: Machine, log: Log, arguments: dict[str, object], outcome: str
) -> None:
    async with (
        Session.open(machine.request(), log=log) as session,
        Client(build(session)) as client,
    ):
        await client.call_tool("run_sandboxed", arguments)
    assert [record.data["outcome"] for record in records(machine, "call.end")] == [outcome]


@pytest.mark.claim("audit.calls-recorded")
async def test_what_cannot_be_recorded_is_not_run(machine: Machine, log: Log) -> None:
    async with (
        Session.open(machine.request(), log=log) as session,
        Client(build(session)) as client,
    ):
        log.close()
        answer = await client.call_tool("run_sandboxed", {"command": "touch ran"})
    assert answer.is_error
    assert not (machine.workspace / "ran").exists()


async def test_a_client_reads_and_verifies_the_log(machine: Machine, log: Log) -> None:
    async with (
        Session.open(machine.request(), log=log) as session,
        Client(build(session)) as client,
    ):
        await client.call_tool("run_sandboxed", {"command": "echo \x1b[31mred"})
        shown = await client.call_tool("audit_tail", {"kind": "call"})
        verified = await client.call_tool("audit_verify", {})
    text = shown.content[0].model_dump()["text"]
    assert "\x1b" not in text
    assert "outcome=exit" in text
    assert "integrity:    ok" in verified.content[0].model_dump()["text"]
