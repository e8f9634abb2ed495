"""What is kept around a call, what the answer says of it, and what is in no call's reach."""

import shutil
import stat
import threading
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from mcp import Client

from nono_mcp.audit.reading import Filters, tail
from nono_mcp.audit.record import Record
from nono_mcp.audit.session import Session as Log
from nono_mcp.policy.document import Document, FilesystemSection, SnapshotsSection
from nono_mcp.policy.errors import RefusedError
from nono_mcp.running import Live
from nono_mcp.server import progress
from nono_mcp.server.app import build
from nono_mcp.server.results import META_KEY
from nono_mcp.session import Command, Session
from nono_mcp.snapshots import upkeep
from nono_mcp.snapshots.snapshots import Snapshots
from nono_mcp.snapshots.values import Progress, Reason, Retention, Snapshot
from nono_mcp.undo import thinning
from nono_mcp.undo.keeping import Keeping
from nono_mcp.undo.values import Kept, Wanted
from nono_sandbox.confinement import WRITE
from tests.server.conftest import DEADLINE_S, TIER, Agent, Machine, Marked, text_of

pytestmark = [pytest.mark.anyio, pytest.mark.linux]

STATE = Path("state") / "nono"


def opened(
    machine: Machine, changes: Mapping[str, object] | None = None, log: Log | None = None
) -> AbstractAsyncContextManager[Session]:
    return Session.open(machine.request(**(changes or {})), tier=TIER, log=log)


@asynccontextmanager
async def serving(
    machine: Machine, changes: Mapping[str, object] | None = None, log: Log | None = None
) -> AsyncIterator[Agent]:
    async with opened(machine, changes, log) as session, Client(build(session)) as client:
        yield Agent(client)


def wanting(wanted: SnapshotsSection) -> dict[str, object]:
    return {"flags": Document(snapshots=wanted)}


@asynccontextmanager
async def only_with_namespaces(
    opening: AbstractAsyncContextManager[Session],
) -> AsyncIterator[Session]:
    """Open a session whose grant lies around what is closed; elsewhere that is refused."""
    async with AsyncExitStack() as stack:
        try:
            session = await stack.enter_async_context(opening)
        except RefusedError as error:
            if "without namespaces" not in str(error):
                raise
            pytest.xfail("refused, as it should be")
        yield session


def sh(command: str, writes: tuple[str, ...] | None = None) -> Command:
    return Command(argv=("/bin/sh", "-c", command), writes=writes)


async def kept(session: Session) -> list[Snapshot]:
    """Return the snapshots, the oldest first."""
    assert session.undo is not None
    return list(reversed(await session.undo.look(lambda store: store.list())))


def snapshots_told(records: Iterable[Record]) -> list[Any]:
    """Return what records say of snapshots, each in a record of its own or in its call's."""
    return [
        one.data if one.kind == "snapshot" else one.data["snapshot"]
        for one in records
        if one.kind == "snapshot" or "snapshot" in one.data
    ]


@pytest.mark.claim("undo.told")
async def test_the_answer_says_what_changed_and_how_to_undo_it(machine: Machine) -> None:
    (machine.workspace / "old").write_text("12345")
    (machine.workspace / "gone").write_text("1")
    async with serving(machine) as agent:
        answer = await agent.call(
            "run_sandboxed", command="echo 1 > new; mkdir d; echo 1 >> old; rm gone; echo done"
        )
    *_, printed, line = text_of(answer).splitlines()
    assert printed == "done"
    assert answer.meta is not None
    changes = answer.meta[META_KEY]["changes"]
    assert line == (
        "[nono] changed: 2 added, 1 modified, 1 deleted (+9 bytes -6 bytes): "
        f"d, gone, new, old; undo: rollback {changes['before'][:8]}"
    )
    assert (changes["added"], changes["modified"], changes["deleted"]) == (2, 1, 1)
    assert changes["paths"] == ["d", "gone", "new", "old"]
    assert changes["before_root"] != changes["after_root"]


@pytest.mark.parametrize("tool", ["snapshot", "diff", "rollback"])
async def test_progress_is_told_of_long_work(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    monkeypatch.setattr(progress, "PROGRESS_S", 0.005)
    heard: list[tuple[float, str | None]] = []
    is_heard = threading.Event()
    take_in = progress.Told.hear

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        assert total is None
        heard.append((progress, message))
        is_heard.set()

    def long(told: progress.Told, how_far: Progress) -> None:
        take_in(told, how_far)
        assert is_heard.wait(60), "nobody is told while it goes on"

    async with serving(machine) as agent:
        text = text_of(await agent.call("snapshot", name="empty"))
        assert text.startswith("kept: ")
        for number in range(600):
            (machine.workspace / f"{number}").write_bytes(b"%d" % number * 100)
        monkeypatch.setattr(progress.Told, "hear", long)
        given: dict[str, dict[str, object]]
        given = {"snapshot": {}, "diff": {"base": "empty"}, "rollback": {"snapshot": "empty"}}
        await agent.client.call_tool(tool, given[tool], progress_callback=hear)
    assert [count for count, _ in heard] == sorted({count for count, _ in heard})
    assert (heard[0][1] or "").startswith("scan: ")


@pytest.mark.claim("undo.told")
async def test_a_file_tool_says_how_to_undo_it_and_one_id_tells_the_story(
    machine: Machine, audit_log: Log
) -> None:
    async with opened(machine, log=audit_log) as session, Client(build(session)) as client:
        agent = Agent(client)
        written = await agent.call("write_file", path="f", content="one\n")
        edits = [{"old": "one", "new": "two"}]
        edited = await agent.call("edit_file", path="f", edits=edits)
        planned = await agent.call(
            "edit_file", path="f", edits=[{"old": "two", "new": "3"}], dry_run=True
        )
        found = await kept(session)
        for answer, counts in (
            (written, "1 added (+4 bytes)"),
            (edited, "1 modified (+4 bytes -4 bytes)"),
        ):
            assert answer.meta is not None
            data = answer.meta[META_KEY]
            before = data["changes"]["before"]
            line = text_of(answer).splitlines()[-1]
            assert line == f"[nono] changed: {counts}: f; undo: rollback {before[:8]}"
            of_call = [one for one in found if one.call == data["id"]]
            assert [one.id for one in of_call] == [before, data["changes"]["after"]]
            records = tail(str(machine.root / STATE), Filters(call=data["id"]), 100).records
            assert [one["id"] for one in snapshots_told(records)] == [one.id for one in of_call]
            assert {one.kind for one in records} == {"call.start", "snapshot", "call.end"}
        assert "undo:" not in text_of(planned)
        assert edited.meta is not None
        await agent.call("rollback", snapshot=edited.meta[META_KEY]["changes"]["before"][:8])
        assert (machine.workspace / "f").read_text() == "one\n"
        rollback = tail(str(machine.root / STATE), Filters(kind="rollback"), 100).records
        assert [one.data["phase"] for one in rollback] == ["start", "end"]
        safety = (await kept(session))[-1]
        assert rollback[1].data["safety_root"] == safety.root


async def test_a_job_says_at_its_end_what_it_changed(machine: Machine) -> None:
    async with serving(machine) as agent:
        started = await agent.run("cat > f", yield_s=0.1, keep_stdin=True)
        job = started.partition("job ")[2].split(":")[0]
        text = text_of(await agent.call("send_input", job=job, text="1", end=True))
        with anyio.fail_after(DEADLINE_S):
            while "changed" not in text:
                text = text_of(await agent.call("read_output", job=job, wait_s=5))
        assert "[nono] changed: 1 added" in text
        assert "undo: rollback " in text


async def test_a_rollback_that_a_job_is_in_the_way_of_says_what_to_do(machine: Machine) -> None:
    async with serving(machine) as agent:
        told = await agent.run("cat", keep_stdin=True, yield_s=0.1)
        assert "stop_job" in await agent.refused("rollback", snapshot="latest")
        await agent.call("stop_job", job=told.split()[1].removesuffix(":"))
        dry = text_of(await agent.call("rollback", snapshot="latest", dry_run=True))
        assert dry.endswith("would change nothing")


async def test_nothing_changed_costs_no_word(machine: Machine) -> None:
    async with serving(machine) as agent:
        answer = await agent.call("run_sandboxed", command="echo done; touch $TMPDIR/x $HOME/y")
    assert text_of(answer).splitlines()[1:] == ["done"]
    assert answer.meta is not None
    assert answer.meta[META_KEY]["changes"]["added"] == 0


async def test_hostile_names_stay_on_the_line(machine: Machine) -> None:
    async with serving(machine) as agent:
        text = await agent.run("touch \"$(printf 'a\\n[nono] rollback\\033[2J')\" ./-rf")
    assert len(text.splitlines()) == 2
    assert "\x1b" not in text


@pytest.mark.claim("undo.kept-before")
async def test_a_call_is_kept_before_and_after(machine: Machine) -> None:
    (machine.workspace / "f").write_text("before")
    async with opened(machine) as session:
        result = await session.run(sh("printf after > f"))
        before, after = await kept(session)
        assert session.undo is not None
        text = await session.undo.look(lambda store: store.text_diff(before.id, after.id, b"f"))
    assert (before.reason, after.reason) == ("before-call", "after-call")
    assert before.call == after.call == result.id
    assert "-before" in text.text
    assert "+after" in text.text


async def test_one_look_does_for_all_the_calls_that_wait_for_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls_count = 8
    may_look = threading.Event()
    asked, looks = [0], [0]
    again, take = Keeping.again, Keeping.take

    def told(keeping: Keeping, reason: Reason, call: str, kept: Kept) -> Snapshot | None:
        asked[0] += 1
        return again(keeping, reason, call, kept)

    def slow(keeping: Keeping, reason: Reason, call: str | None, **more: Any) -> Snapshot:  # noqa: ANN401
        looks[0] += 1
        assert may_look.wait(60)
        return take(keeping, reason, call, **more)

    async with opened(machine) as session:
        await session.run(sh("true"))
        (machine.workspace / "f").write_text("somebody else's")
        monkeypatch.setattr(Keeping, "again", told)
        monkeypatch.setattr(Keeping, "take", slow)
        async with anyio.create_task_group() as group:
            for _ in range(calls_count):
                group.start_soon(session.run, sh("true"))
            with anyio.fail_after(60):
                # All have asked, and the one that looks has asked once more.
                while asked[0] <= calls_count:  # noqa: ASYNC110 - nothing tells
                    await anyio.sleep(0.01)
            may_look.set()
        assert session.undo is not None
        assert looks[0] == (1 if session.undo.rules.watched else 2 * calls_count)


@pytest.mark.parametrize("pause_s", [0.0, 3600.0])
async def test_old_snapshots_are_thinned_once_in_so_many_new_ones_and_not_all_the_time(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, pause_s: float
) -> None:
    pruned: list[str] = []
    monkeypatch.setattr(upkeep, "prune", lambda state_dir, _: pruned.append(state_dir))
    monkeypatch.setattr(thinning, "TAKES_A_PRUNE", 3)
    monkeypatch.setattr(thinning, "PAUSE_S_MIN", pause_s)
    monkeypatch.setattr(thinning, "PAUSE_TIMES", 0)
    async with opened(machine) as session:
        for _ in range(4):
            # Each takes two snapshots.
            await session.run(sh("true"))
            await session.run(sh("true"))
            for thread in threading.enumerate():
                if thread.name == "thin":
                    await anyio.to_thread.run_sync(thread.join)
    assert len(pruned) == (1 if pause_s else 4)


async def test_calls_that_write_nothing_take_no_snapshot(machine: Machine) -> None:
    async with opened(machine) as session:
        await session.run(sh("cat /dev/null", writes=()))
        assert await kept(session) == []
    async with opened(machine, {"profile": "read-only"}) as session:
        await session.run(sh("touch x"))
        assert await kept(session) == []


@pytest.mark.claim("undo.kept-before")
async def test_what_may_be_written_from_now_on_is_kept_from_now_on(machine: Machine) -> None:
    async with opened(machine, {"profile": "read-only"}) as session:
        await session.run(sh("touch x"))
        await session.grant(str(machine.workspace), WRITE)
        result = await session.run(sh("echo 1 > x"))
        assert result.changed is not None
        assert result.changed.difference is not None
        assert [change.path for change in result.changed.difference.changes] == [b"x"]


@pytest.mark.claim("undo.kept-before")
async def test_what_a_running_call_is_undone_by_is_thinned_out_by_nobody(
    machine: Machine, marked: Marked
) -> None:
    one = Retention(recent_count=1, hourly=0, daily=0, quota_bytes=0)
    state = str(machine.root / STATE)
    (machine.workspace / "f").write_text("the person's")
    async with opened(machine) as session, opened(machine) as other:
        assert other.undo is not None
        async with anyio.create_task_group() as group:
            group.start_soon(session.run, sh(f"echo 1 > f; {marked.sleeper}"))
            await marked.appear()
            before, *_ = await kept(session)
            for number in range(3):
                await other.run(sh(f"echo {number} > g"))
            await anyio.to_thread.run_sync(upkeep.prune, state, one)
            assert before in await kept(session)
            group.cancel_scope.cancel()
        outcome = await other.undo.roll_back(Wanted(before.id))
        assert outcome.verified
        assert (machine.workspace / "f").read_text() == "the person's"
        await anyio.to_thread.run_sync(upkeep.prune, state, one)
        assert before not in await kept(session)


@pytest.mark.claim("undo.kept-before")
async def test_a_call_that_is_cancelled_is_kept_after_it_all_the_same(
    machine: Machine, marked: Marked
) -> None:
    async with opened(machine) as session:
        async with anyio.create_task_group() as group:
            group.start_soon(session.run, sh(f"echo 1 > made; {marked.sleeper}"))
            await marked.appear()
            # The shell before it has the mark in its own words.
            with anyio.fail_after(DEADLINE_S):
                while not (machine.workspace / "made").exists():  # noqa: ASYNC110 - another process
                    await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        before, after = await kept(session)
        assert session.undo is not None
        found = await session.undo.look(lambda store: store.diff(before.id, after.id))
    assert after.reason == "after-call"
    assert [change.path for change in found.changes] == [b"made"]


async def test_calls_at_the_same_time_are_said_to_be(machine: Machine, marked: Marked) -> None:
    async with opened(machine) as session, anyio.create_task_group() as group:
        alone = await session.run(sh("echo 1 > alone"))
        group.start_soon(session.run, sh(f"{marked.sleeper}"))
        await marked.appear()
        other = await session.run(sh("echo 1 > other"))
        group.cancel_scope.cancel()
    assert alone.changed is not None
    assert other.changed is not None
    assert (alone.changed.overlapped, other.changed.overlapped) == (False, True)
    await marked.disappear()


@pytest.mark.claim("undo.kept-before")
async def test_what_cannot_be_kept_is_not_changed(machine: Machine) -> None:
    async with serving(machine) as agent:
        await agent.run("echo 1 > first")
        shutil.rmtree(machine.root / STATE / "snapshots")
        text = await agent.refused(command="echo 1 > second")
        assert not (machine.workspace / "second").exists()
        assert "snapshot" in text or "kept" in text
        # What writes nothing needs none.
        assert "exit status 0" in await agent.run("cat first", writes=[])


async def test_a_quota_holds_at_every_call_and_not_only_when_old_ones_go(machine: Machine) -> None:
    async with serving(machine, wanting(SnapshotsSection(quota=2 << 20))) as agent:
        text = await agent.run("head -c 3000000 /dev/urandom > large")
        assert (
            "what changed isn't known: what changed in the workspace is more than the store" in text
        )
        assert "quota" in await agent.refused(command="touch more")
        assert not (machine.workspace / "more").exists()
        store = machine.root / STATE / "snapshots"
        assert sum(path.stat().st_size for path in (store / "packs").iterdir()) <= 2 << 20
        (machine.workspace / "large").unlink()
        assert "1 added" in await agent.run("touch more")


async def test_without_snapshots_there_are_none_and_no_tools(machine: Machine) -> None:
    async with serving(machine, wanting(SnapshotsSection(enabled=False))) as agent:
        names = {tool.name for tool in (await agent.client.list_tools()).tools}
        text = await agent.run("echo 1 > f")
        assert "none, so nothing can be undone" in await agent.explain()
    assert names.isdisjoint({"snapshot", "list_snapshots", "diff", "rollback"})
    assert "changed" not in text
    assert not (machine.root / STATE / "snapshots").exists()


async def test_what_is_left_out_is_said_to_be_unprotected(machine: Machine) -> None:
    (machine.workspace / "node_modules").mkdir()
    async with serving(machine, wanting(SnapshotsSection(exclude=("node_modules",)))) as agent:
        assert "node_modules left out" in await agent.explain()
        assert "changed" not in await agent.run("echo 1 > node_modules/f")
        text = text_of(await agent.call("snapshot"))
    assert text.splitlines()[1] == "unprotected: node_modules"


@pytest.mark.claim("undo.recorded")
async def test_root_hashes_stand_in_the_log(machine: Machine, audit_log: Log) -> None:
    async with opened(machine, log=audit_log) as session:
        result = await session.run(sh("echo 1 > f"))
        found = await kept(session)
    page = tail(str(machine.root / STATE), Filters(), 100)
    told = [one for one in page.records if one.data.get("call") == result.id]
    assert [one.kind for one in told] == ["call.start", "snapshot", "snapshot", "call.end"]
    assert [one.data["root"] for one in told[1:3]] == [one.root for one in found]
    assert [one.data["id"] for one in told[1:3]] == [one.id for one in found]


@pytest.mark.claim("undo.recorded")
async def test_snapshots_without_a_look_stand_in_the_records_of_their_call(
    machine: Machine, audit_log: Log
) -> None:
    async with opened(machine, log=audit_log) as session:
        await session.run(sh("echo 1 > f"))
        result = await session.run(sh("true"))
        found = [one for one in await kept(session) if one.call == result.id]
        assert session.undo is not None
        watched = session.undo.rules.watched
    records = tail(str(machine.root / STATE), Filters(call=result.id), 100).records
    told = [(one["id"], one["root"]) for one in snapshots_told(records)]
    assert told == [(one.id, one.root) for one in found]
    assert len(told) == 2
    if watched:
        assert [one.kind for one in records] == ["call.start", "call.end"]


@pytest.mark.claim("undo.store-apart")
@pytest.mark.parametrize("where", ["beside", "within a grant", "within the workspace"])
async def test_the_store_is_in_no_calls_reach(machine: Machine, where: str) -> None:
    changes: dict[str, object] = {}
    if where == "within a grant":
        allow = FilesystemSection(allow=(str(machine.root),))
        changes = {"flags": Document(filesystem=allow), "broad_workspace": True}
    elif where == "within the workspace":
        broad = Document(snapshots=SnapshotsSection(broad=True))
        changes = {"workspace": str(machine.root), "broad_workspace": True, "flags": broad}
    store = machine.root / STATE / "snapshots"
    async with only_with_namespaces(opened(machine, changes)) as session:
        await session.run(sh("echo 1 > f"))
        assert stat.S_IMODE(store.stat().st_mode) == 0o700
        before = set(store.rglob("*"))
        script = "cd {0}; ls {0}; cat {0}/*; echo 1 > {0}/planted; rm -r {0}"
        result = await session.run(sh(script.format(store)))
        assert result.status != 0
        assert b"SQLite" not in b"".join(result.output.ends())
        assert not (store / "planted").exists()
        assert before <= set(store.rglob("*"))


async def test_a_whole_home_needs_a_yes_of_its_own(machine: Machine) -> None:
    broad = wanting(SnapshotsSection(broad=True))
    home: dict[str, object] = {"workspace": str(machine.home), "broad_workspace": True}
    with pytest.raises(RefusedError, match="broad = true"):
        async with only_with_namespaces(opened(machine, home)):
            pass
    async with only_with_namespaces(opened(machine, home | broad)) as session:
        assert session.undo is not None


@pytest.mark.claim("undo.complete")
async def test_what_events_told_comes_to_the_same_as_looking_at_everything(
    machine: Machine,
) -> None:
    script = (
        "mkdir -p a/b/c; echo {n} > a/b/c/{n}; ln -sf {n} l; ln -f a/b/c/{n} hard; echo x >> hard;"
        "mv a/b a/m{n}; mkdir -p a/b; chmod 7{n}0 a; touch -d 2001-01-0{n} a/m{n}; mkfifo p{n};"
        "truncate -s 9999 sparse; mv l a/; rm -f hard; echo 1 > '-rf'; setfattr -n user.x -v {n} a"
    )
    async with opened(machine) as session:
        assert session.undo is not None
        for number in range(1, 6):
            await session.run(sh(script.format(n=number) + " 2>/dev/null; :"))
            known = await session.undo.take("auto")
            with Snapshots.open(str(machine.root / STATE), str(machine.workspace)) as store:
                assert store.take("auto").root == known.root, number


async def test_a_name_and_a_page_of_the_list(machine: Machine) -> None:
    async with serving(machine) as agent:
        for number in range(3):
            await agent.run(f"echo {number} > f")
        named = text_of(await agent.call("snapshot", name="it works"))
        listed = text_of(await agent.call("list_snapshots", limit=3)).splitlines()
        rest = text_of(await agent.call("list_snapshots", skip=3)).splitlines()
        beyond = text_of(await agent.call("list_snapshots", skip=1 << 64))
    assert "named 'it works'" in named
    assert listed[0].split()[0] == named.split()[1]
    assert listed[-1] == "more: skip 3"
    assert len(rest) == 4
    assert "before-call" in rest[-1]
    assert beyond == "no snapshots"


@pytest.mark.claim("fs.denied-inside")
async def test_diff_tells_nothing_of_what_is_denied_but_that_it_changed(machine: Machine) -> None:
    shut = machine.workspace / "shut"
    shut.mkdir()
    (shut / "key").write_text("first secret")
    later = machine.workspace / "later"
    section = FilesystemSection(deny=(str(shut), str(later)))
    changes = {"flags": Document(filesystem=section)}
    async with (
        only_with_namespaces(opened(machine, changes)) as session,
        Client(build(session)) as client,
    ):
        agent = Agent(client)
        await agent.run("echo 1 > f")
        base = (await kept(session))[0].id
        (shut / "key").write_text("second secret")
        later.write_text("third secret")
        for path in (
            "later",
            "shut/key",
            "/shut/key",
            "shut//key",
            "./shut/key",
            "f/../shut/key",
        ):
            refusal = await agent.refused("diff", base=base, path=path)
            assert "secret" not in refusal
        assert "fs.denied: " in await agent.refused("diff", base=base, path="shut/key")
        told = text_of(await agent.call("diff", base=base))
    assert "modified shut/key" in told


async def test_diff_tells_of_two_states_and_of_one_file(machine: Machine) -> None:
    async with serving(machine) as agent:
        base = text_of(await agent.call("snapshot")).split()[1]
        await agent.run("seq 400 > lines; printf '\\000\\001' > binary; mkdir d")
        now = text_of(await agent.call("diff", base=base))
        text = text_of(await agent.call("diff", base=base, path="lines"))
        more = text_of(await agent.call("diff", base=base, path="lines", skip=300))
        binary = text_of(await agent.call("diff", base=base, path="binary"))
        same = text_of(await agent.call("diff", base="latest", target="latest"))
        assert "neither" in await agent.refused("diff", base=base, path="nowhere")
        assert "no" in await agent.refused("diff", base="ffffffff")
    assert now.splitlines()[0] == "3 added, 0 modified, 0 deleted"
    assert "added lines (+1492 bytes)" in now
    assert "added d/" in now
    assert text.splitlines()[-1].endswith("more lines: skip 150")
    assert "+400" in more.splitlines()
    assert "binary" in binary
    assert same == "no difference"


async def test_what_is_denied_no_longer_stays_once_the_job_of_then_has_ended(
    machine: Machine,
) -> None:
    profile = machine.root / "config" / "nono" / "profiles" / "mine.toml"
    profile.parent.mkdir(parents=True)
    paths = [machine.workspace / name for name in ("denied", "other")]
    profile.write_text(f"[filesystem]\ndeny = {[*map(str, paths)]}\n")
    async with only_with_namespaces(opened(machine, {"profile": "mine"})) as session:
        live = Live(takes_input=True, terminal=False)
        output = bytearray()
        async with anyio.create_task_group() as group:
            job = partial(session.run, sh("echo begun; read go"), live=live)
            group.start_soon(partial(job, on_output=output.extend))
            with anyio.fail_after(DEADLINE_S):
                while b"begun" not in output:  # noqa: ASYNC110 - no event tells of it
                    await anyio.sleep(0.01)
                profile.write_text(f"[filesystem]\ndeny = {[str(paths[1])]}\n")
                paths[1].touch()  # by which the policy is read anew
                for _ in range(2):  # the second where what was made is taken away again
                    await session.run(sh("true"))
                await live.write(b"go\n")
                live.close_input()
        await session.run(sh("echo allowed > denied"))
    assert paths[0].exists()


async def test_diff_shows_what_is_closed_to_writing_alone_once_it_is_gone(machine: Machine) -> None:
    rules = machine.workspace / "RULES"
    rules.write_text("may be read\n")
    changes = {"flags": Document(filesystem=FilesystemSection(deny_write=(str(rules),)))}
    async with (
        only_with_namespaces(opened(machine, changes)) as session,
        Client(build(session)) as client,
    ):
        agent = Agent(client)
        await agent.run("cat RULES; echo 1 > f")
        base = (await kept(session))[0].id
        rules.unlink()
        await agent.run("echo 2 > f")
        assert "-may be read" in text_of(await agent.call("diff", base=base, path="RULES"))


@pytest.mark.claim("guard.put-right")
async def test_what_a_job_made_is_taken_away_whatever_began_while_it_was_there(
    machine: Machine,
) -> None:
    denied = machine.workspace / "denied"
    section = FilesystemSection(deny=(str(denied),), allow=(str(machine.home),))
    request = {"flags": Document(filesystem=section), "broad_workspace": True}
    planted = (denied, machine.home / ".bash_login", machine.home / ".profile")
    make = f"for path in {' '.join(map(str, planted))}; do echo x > $path; done"
    async with only_with_namespaces(opened(machine, request)) as session:
        live = Live(takes_input=True, terminal=False)
        job = sh(f"{make}; echo made; read go")
        output = bytearray()
        async with anyio.create_task_group() as group:
            group.start_soon(partial(session.run, job, live=live, on_output=output.extend))
            with anyio.fail_after(DEADLINE_S):
                while b"made" not in output:  # noqa: ASYNC110 - no event tells of it
                    await anyio.sleep(0.01)
                # Judged anew, since what was awaited is there.
                await session.run(sh("true"))
                await live.write(b"go\n")
                live.close_input()
    assert not [path for path in planted if path.exists()]
