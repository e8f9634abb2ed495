"""Putting a workspace back: what the tool does, whom it asks, and what it refuses."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

import anyio
import pytest
from mcp import Client
from mcp.client.session import ClientRequestContext
from mcp_types import ElicitRequestParams, ElicitResult

from nono_mcp.audit.reading import Filters, tail
from nono_mcp.audit.session import Session as Log
from nono_mcp.policy.document import Document, FilesystemSection, SnapshotsSection
from nono_mcp.running import Live
from nono_mcp.server.app import build
from nono_mcp.server.results import META_KEY
from nono_mcp.session import Command
from nono_mcp.snapshots.applying import Applier
from nono_mcp.snapshots.errors import RestoreInterruptedError
from nono_mcp.snapshots.restore_lock import RestoreLock
from nono_mcp.undo.values import CallsRunError, Wanted
from tests.server.conftest import DEADLINE_S, ERAS, Agent, Machine, Marked, text_of
from tests.server.test_undo import STATE, only_with_namespaces, opened, serving, sh, wanting

pytestmark = [pytest.mark.anyio, pytest.mark.linux]

ALLOWED = wanting(SnapshotsSection(rollback="allow"))
HARM = "rm -r src; echo changed > README; echo new > planted; chmod 700 .; mkdir empty"


def furnish(machine: Machine) -> dict[str, str]:
    (machine.workspace / "src" / "deep").mkdir(parents=True)
    (machine.workspace / "src" / "deep" / "a.c").write_text("int a;")
    (machine.workspace / "README").write_text("read me")
    (machine.workspace / "link").symlink_to("/etc/passwd")
    return contents(machine.workspace)


def contents(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): f"{path.lstat().st_mode:o} {path.lstat().st_mtime_ns} "
        + (path.read_text() if path.is_file() and not path.is_symlink() else "")
        for path in sorted(root.rglob("*"))
    }


def id_in(text: str) -> str:
    """Return the id by which the last line says that it's undone."""
    return text.rstrip().rsplit(" ", 1)[1]


@pytest.mark.claim("undo.exact")
async def test_a_rollback_undoes_a_call_and_is_undone_itself(machine: Machine) -> None:
    before = furnish(machine)
    async with serving(machine, ALLOWED) as agent:
        text = await agent.run(HARM)
        harmed = contents(machine.workspace)
        assert harmed != before
        undone = text_of(await agent.call("rollback", snapshot=id_in(text)))
        assert contents(machine.workspace) == before
        again = text_of(await agent.call("rollback", snapshot=id_in(undone)))
        assert contents(machine.workspace) == harmed
    assert undone.splitlines()[0] == f"rolled back to {id_in(text)}, verified"
    assert "planted" in undone
    assert "src" in undone
    assert "verified" in again


async def test_a_dry_run_tells_and_does_nothing(machine: Machine) -> None:
    furnish(machine)
    async with serving(machine, ALLOWED) as agent:
        base = id_in(await agent.run(HARM))
        harmed = contents(machine.workspace)
        told = text_of(await agent.call("rollback", snapshot=base, dry_run=True))
        assert contents(machine.workspace) == harmed
    assert "planted" in told
    assert "README" in told


async def test_only_some_paths(machine: Machine) -> None:
    furnish(machine)
    async with serving(machine, ALLOWED) as agent:
        base = id_in(await agent.run(HARM))
        await agent.call("rollback", snapshot=base, paths=["src"])
        assert (machine.workspace / "src" / "deep" / "a.c").read_text() == "int a;"
        assert (machine.workspace / "README").read_text() == "changed\n"
        bad = await agent.refused("rollback", snapshot=base, paths=["src"], scope="agent")
    assert "not both" in bad


async def test_what_the_person_changed_since_is_kept(machine: Machine) -> None:
    furnish(machine)
    async with serving(machine, ALLOWED) as agent:
        base = id_in(await agent.run("echo agent > README; echo agent > mine; echo agent > theirs"))
        (machine.workspace / "theirs").write_text("a person's")
        (machine.workspace / "own").write_text("a person's own")
        text = text_of(await agent.call("rollback", snapshot=base, scope="agent"))
    assert (machine.workspace / "README").read_text() == "read me"
    assert not (machine.workspace / "mine").exists()
    assert (machine.workspace / "theirs").read_text() == "a person's"
    assert (machine.workspace / "own").read_text() == "a person's own"
    assert "theirs" in text


@pytest.mark.claim("undo.one-id")
async def test_one_id_leads_from_a_call_to_its_snapshots_and_its_records(
    machine: Machine, audit_log: Log
) -> None:
    before = furnish(machine)
    async with (
        opened(machine, ALLOWED, audit_log) as session,
        Client(build(session), mode="auto") as client,
    ):
        agent = Agent(client)
        answer = await agent.call("run_sandboxed", command=HARM)
        assert answer.meta is not None
        call, snapshot = str(answer.meta[META_KEY]["id"]), id_in(text_of(answer))
        await agent.run("echo later > more")
        for one in (call, call[:8], snapshot):
            records = text_of(await agent.call("audit_tail", call=one))
            assert f"call={call}" in records
            assert "exit_status=0" in records
            assert "more" not in records
        # Of a call, what that call changed; of a snapshot, what has changed since.
        changed = text_of(await agent.call("diff", base=call[:8]))
        assert "added planted" in changed
        assert "more" not in changed
        assert "more" in text_of(await agent.call("diff", base=snapshot))
        assert "+changed" in text_of(await agent.call("diff", base=call, path="README"))
        for wrong in ("0123456789abcdef", "nowhere", "abc"):
            assert "no snapshot" in await agent.refused("rollback", snapshot=wrong)
        await agent.call("rollback", snapshot=call)
        assert contents(machine.workspace) == before


async def test_nothing_to_do_is_an_error(machine: Machine) -> None:
    furnish(machine)
    async with serving(machine, ALLOWED) as agent:
        await agent.call("snapshot", name="now")
        assert await agent.refused("rollback", snapshot="now")
        assert "no" in await agent.refused("rollback", snapshot="nowhere")


@pytest.mark.claim("undo.no-live-worker")
async def test_a_rollback_is_refused_while_a_call_runs(machine: Machine, marked: Marked) -> None:
    async with opened(machine) as session, anyio.create_task_group() as group:
        assert session.undo is not None
        first = await session.run(sh("echo 1 > f"))
        assert first.changed is not None
        group.start_soon(session.run, sh(marked.sleeper))
        await marked.appear()
        wanted = Wanted(first.changed.before.id)
        with pytest.raises(CallsRunError, match="a call runs"):
            await session.undo.roll_back(wanted)
        assert (machine.workspace / "f").exists()
        # One that only reads runs as well.
        group.cancel_scope.cancel()
    await marked.disappear()


@pytest.mark.claim("undo.no-live-worker")
async def test_two_servers_of_a_workspace_keep_out_of_each_others_way(
    machine: Machine, marked: Marked
) -> None:
    async with opened(machine) as one, opened(machine) as other:
        assert other.undo is not None
        first = await one.run(sh("echo 1 > f"))
        assert first.changed is not None
        wanted = Wanted(first.changed.before.id)
        async with anyio.create_task_group() as group:
            group.start_soon(one.run, sh(marked.sleeper))
            await marked.appear()
            with pytest.raises(CallsRunError, match="another server"):
                await other.undo.roll_back(wanted)
            group.cancel_scope.cancel()
        outcome = await other.undo.roll_back(wanted)
        assert outcome.verified
        # The first one's next call knows of it.
        again = await one.run(sh("ls"))
        assert b"f\n" not in again.output.ends()[0]


@pytest.mark.claim("undo.whole")
async def test_what_a_killed_server_left_half_put_back_the_next_call_of_another_completes(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = furnish(machine)
    async with opened(machine) as one, opened(machine) as other:
        assert one.undo is not None
        harmed = await one.run(sh(HARM))
        assert harmed.changed is not None
        wanted = Wanted(harmed.changed.before.id)
        with monkeypatch.context() as patched:
            patched.setattr(Applier, "run", broken_off)
            with pytest.raises(RestoreInterruptedError):
                await one.undo.roll_back(wanted)
        seen = await other.run(Command(("/bin/cat", "README")))
        assert seen.output.ends()[0] == b"read me"
        assert contents(machine.workspace) == before


def broken_off(*_: object) -> NoReturn:
    raise OSError("as if it had been killed")


@pytest.mark.claim("undo.no-live-worker")
async def test_a_call_waits_while_a_rollback_goes_on(machine: Machine) -> None:
    async with opened(machine) as session:
        elsewhere = RestoreLock(str(machine.root / STATE), str(machine.workspace.resolve()))
        assert elsewhere.be_alone()
        with anyio.move_on_after(0.3) as waiting:
            await session.run(sh("echo 1 > f"))
        assert waiting.cancelled_caught
        assert not (machine.workspace / "f").exists()
        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(session.run, sh("echo 1 > f"))
                elsewhere.let_in()
        assert (machine.workspace / "f").exists()
        elsewhere.close()


@pytest.mark.claim("undo.recorded")
async def test_a_rollback_stands_in_the_log(machine: Machine, audit_log: Log) -> None:
    async with opened(machine, log=audit_log) as session:
        result = await session.run(sh("echo 1 > f"))
        assert result.changed is not None
        assert session.undo is not None
        outcome = await session.undo.roll_back(Wanted(result.changed.before.id))
    page = tail(str(machine.root / STATE), Filters(kind="rollback"), 100)
    start, end = page.records
    assert (start.data["phase"], end.data["phase"]) == ("start", "end")
    assert start.data["root"] == end.data["root"] == result.changed.before.root == outcome.root
    assert (end.data["outcome"], end.data["removed"]) == ("verified", 1)


class Person:
    """Who is asked by a client that can ask."""

    def __init__(
        self,
        action: str,
        content: dict[str, bool] | None,
        meanwhile: Callable[[], object] = str,
    ) -> None:
        self._action = action
        self._content = content
        self._meanwhile = meanwhile
        self.asked: list[str] = []

    async def answer(
        self, context: ClientRequestContext, params: ElicitRequestParams
    ) -> ElicitResult:
        del context
        self.asked.append(params.message)
        schema = params.requested_schema  # type: ignore[union-attr]
        assert all(one["title"] for one in schema["properties"].values())
        self._meanwhile()
        return ElicitResult(action=self._action, content=self._content)  # type: ignore[arg-type]


@asynccontextmanager
async def asking(machine: Machine, era: str, person: Person, mode: str) -> AsyncIterator[Agent]:
    changes = wanting(SnapshotsSection(rollback=mode))
    async with opened(machine, changes) as session:
        protocol = "legacy" if era < "2026" else "auto"
        async with Client(
            build(session), mode=protocol, elicitation_callback=person.answer
        ) as client:
            assert client.protocol_version == era
            yield Agent(client)


@pytest.mark.claim("undo.asked")
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("mode", ["ask", "confirm"])
async def test_the_person_is_asked_where_the_client_can(
    machine: Machine, era: str, mode: str
) -> None:
    before = furnish(machine)
    no, yes = Person("decline", None), Person("accept", {"agreed": True})
    async with asking(machine, era, no, mode) as agent:
        base = id_in(await agent.run(HARM))
        harmed = contents(machine.workspace)
        assert "didn't agree" in await agent.refused("rollback", snapshot=base)
        assert contents(machine.workspace) == harmed
        assert "planted" in no.asked[0]
    async with asking(machine, era, yes, mode) as agent:
        await agent.call("rollback", snapshot=base)
        assert contents(machine.workspace) == before
    unticked = Person("accept", {"agreed": False})
    async with asking(machine, era, unticked, mode) as agent:
        base = id_in(await agent.run(HARM))
        assert "didn't agree" in await agent.refused("rollback", snapshot=base)


@pytest.mark.claim("undo.asked")
@pytest.mark.parametrize("era", ERAS)
async def test_a_yes_is_to_what_was_shown(machine: Machine, era: str) -> None:
    furnish(machine)
    late = machine.workspace / "late"
    person = Person("accept", {"agreed": True}, lambda: late.write_text(f"of {len(person.asked)}"))
    async with asking(machine, era, person, "ask") as agent:
        base = id_in(await agent.run(HARM))
        if era < "2026":
            assert "changed since the question" in await agent.refused("rollback", snapshot=base)
            assert late.exists()
        else:
            # The client of this era brings the answer back, and is asked again.
            with pytest.raises(Exception, match="rounds"):
                await agent.call("rollback", snapshot=base)
        assert (machine.workspace / "planted").exists()
    assert len(set(person.asked)) == len(person.asked)


@pytest.mark.claim("undo.asked")
async def test_a_policy_says_what_holds_where_nobody_can_be_asked(
    machine: Machine, audit_log: Log
) -> None:
    furnish(machine)
    async with serving(machine, wanting(SnapshotsSection(rollback="confirm"))) as agent:
        base = id_in(await agent.run(HARM))
        told = await agent.refused("rollback", snapshot=base)
        assert "can't ask" in told
        assert '[snapshots] rollback = "ask"' in told
        assert (machine.workspace / "planted").exists()
    async with serving(machine, wanting(SnapshotsSection(rollback="never"))) as agent:
        names = {tool.name for tool in (await agent.client.list_tools()).tools}
        assert "rollback" not in names
    async with serving(machine, log=audit_log) as agent:
        told = text_of(await agent.call("rollback", snapshot=base))
        assert not (machine.workspace / "planted").exists()
        assert "nobody was asked" in told
        assert '[snapshots] rollback = "confirm"' in told
        # And is undone as any is.
        safety = told.split("undo this: rollback ")[1].split("\n")[0]
        await agent.call("rollback", snapshot=safety)
        assert (machine.workspace / "planted").exists()
    records = tail(str(machine.root / "state" / "nono"), Filters(kind="approval"), 9).records
    assert [one.data["answer"] for one in records] == ["nobody was asked"] * 2
    async with serving(machine, wanting(SnapshotsSection(rollback="allow"))) as agent:
        assert "asked" not in text_of(await agent.call("rollback", snapshot=base))


@pytest.mark.claim("fs.denied-later")
async def test_what_a_rollback_replaces_stays_closed_to_the_call_that_waited_for_it(
    machine: Machine,
) -> None:
    shut = machine.workspace / "shut"
    shut.write_text("of before")
    flags = Document(filesystem=FilesystemSection(deny=(str(shut),)))
    async with only_with_namespaces(opened(machine, {"flags": flags})) as session:
        await session.run(sh("echo 1 > f"))
        replaced(shut, "of the person's")
        await session.run(sh("echo 2 > f"))
        elsewhere = RestoreLock(str(machine.root / STATE), str(machine.workspace.resolve()))
        assert elsewhere.be_alone()
        seen: list[bytes] = []

        async def look() -> None:
            seen.append((await session.run(sh(f"cat {shut}"))).output.ends()[0])

        with anyio.fail_after(DEADLINE_S):
            async with anyio.create_task_group() as group:
                group.start_soon(look)
                await anyio.sleep(0.1)  # it waits; no event tells that it does
                replaced(shut, "of before")
                elsewhere.let_in()
        elsewhere.close()
    (said,) = seen
    assert b"of before" not in said
    assert b"Permission denied" in said


def replaced(path: Path, text: str) -> None:
    """Put another file in its place, as editors and rollbacks do."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_text(text)
    beside.rename(path)


@pytest.mark.claim("guard.put-right")
@pytest.mark.parametrize("name", [".git/hooks/pre-commit", ".npmrc", ".vscode/tasks.json"])
async def test_an_agents_rollback_brings_back_nothing_planted_where_a_later_session_closes_it(
    machine: Machine, name: str
) -> None:
    planted = machine.workspace / name
    plant = f"mkdir -p $(dirname {name}); echo evil > {name}"
    async with opened(machine) as session:
        assert session.undo is not None
        live = Live(takes_input=True, terminal=False)
        output = bytearray()
        job = sh(f"git init -q; {plant}; echo made; read go")
        async with anyio.create_task_group() as group:
            group.start_soon(partial(session.run, job, live=live, on_output=output.extend))
            with anyio.fail_after(DEADLINE_S):
                while b"made" not in output:  # noqa: ASYNC110 - no event tells of it
                    await anyio.sleep(0.01)
                await session.undo.take("named", name="planted")
                await live.write(b"go\n")
                live.close_input()
    assert not planted.exists()
    planted.parent.mkdir(exist_ok=True)
    planted.write_text("the person's")
    async with serving(machine) as agent:
        told = text_of(await agent.call("rollback", snapshot="planted", dry_run=True))
        await agent.call("rollback", snapshot="planted")
    assert planted.read_text() == "the person's", told


@pytest.mark.claim("policy.read-only")
async def test_an_agents_rollback_leaves_what_is_protected_from_its_calls(machine: Machine) -> None:
    keys = machine.home / ".ssh" / "authorized_keys"
    (machine.home / "f").write_text("before")
    broad = Document(snapshots=SnapshotsSection(broad=True))
    changes = {"workspace": str(machine.home), "broad_workspace": True, "flags": broad}
    async with (
        only_with_namespaces(opened(machine, changes)) as session,
        Client(build(session)) as client,
    ):
        agent = Agent(client)
        snapshot = id_in(await agent.run("echo changed > f"))
        keys.write_text("the person's")
        await agent.call("rollback", snapshot=snapshot)
    assert keys.read_text() == "the person's"
    assert (machine.home / "f").read_text() == "before"


@pytest.mark.claim("fs.denied-inside")
async def test_an_agents_rollback_leaves_what_is_denied_to_its_calls(machine: Machine) -> None:
    denied = machine.workspace / "denied"
    rules = machine.workspace / "AGENTS.md"
    for path in (denied, rules, machine.workspace / "f"):
        path.write_text("before")
    inside = machine.workspace / "made" / "later"
    section = FilesystemSection(deny=(str(denied), str(inside)), deny_write=(str(rules),))
    changes = {"flags": Document(filesystem=section)}
    async with (
        only_with_namespaces(opened(machine, changes)) as session,
        Client(build(session)) as client,
    ):
        agent = Agent(client)
        snapshot = id_in(await agent.run("echo changed > f"))
        replaced(denied, "the person's")
        replaced(rules, "the person's")
        inside.parent.mkdir()
        inside.write_text("the person's")
        told = text_of(await agent.call("rollback", snapshot=snapshot))
    texts = [path.read_text() for path in (denied, rules, inside)]
    assert texts == ["the person's"] * 3
    assert (machine.workspace / "f").read_text() == "before"
    assert "closed to calls" in told
