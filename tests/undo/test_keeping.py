"""When a snapshot is taken without a look, and when a look is needed all the same."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from nono_mcp.audit.end import AuditWriteError
from nono_mcp.guard.subtree_guard import SubtreeGuard
from nono_mcp.policy import load
from nono_mcp.policy.document import SnapshotsSection
from nono_mcp.policy.request import Request
from nono_mcp.session import Command, Session
from nono_mcp.snapshots.errors import SnapshotError
from nono_mcp.snapshots.restore_lock import RestoreLock, runs
from nono_mcp.undo import keeping as module
from nono_mcp.undo.keeping import Keeping
from nono_mcp.undo.rules import Rules
from nono_mcp.undo.undo import Undo
from nono_mcp.undo.values import CallsRunError, Kept, Told, Wanted
from nono_sandbox.confinement import LANDLOCK, Call

pytestmark = pytest.mark.linux


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Keeping]:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "f").write_text("1")
    rules = Rules(
        workspace=str(tmp_path / "work"),
        state_dir=str(tmp_path / "state"),
        may_be_written=True,
        watched=True,
        section=SnapshotsSection(),
        is_broad=False,
        broad=False,
    )
    keeping = Keeping(rules, SubtreeGuard(rules.state_dir), lambda: False)
    yield keeping
    keeping.close()


def test_what_others_read_while_a_call_ran_wants_a_look_at_its_end(keeping: Keeping) -> None:
    kept = Kept()
    before = keeping.take("before-call", "call", kept=kept)
    after = keeping.again("after-call", "call", kept)
    assert after is not None
    assert after.root == before.root
    kept.unsure.add(b"f")
    assert keeping.again("after-call", "call", kept) is None
    kept.unsure.paths.clear()
    kept.unsure.is_full = True
    assert keeping.again("after-call", "call", kept) is None


def test_whoever_runs_is_told_what_was_read_meanwhile(keeping: Keeping, tmp_path: Path) -> None:
    runs, ends = Kept(), Kept()
    keeping.take("before-call", "1", kept=runs)
    keeping.take("before-call", "2", kept=ends)
    (tmp_path / "work" / "f").write_text("22")
    keeping.take("after-call", "2", kept=ends)
    assert (runs.unsure.paths, ends.unsure.paths) == ({b"f"}, set())
    keeping.end(ends)
    (tmp_path / "work" / "g").write_text("1")
    keeping.take("auto", None)
    assert (runs.unsure.paths, ends.unsure.paths) == ({b"f", b"g"}, set())


def test_what_could_not_be_kept_and_may_have_changed_unseen_wants_a_look_still(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept()
    keeping.take("before-call", "1", kept=kept)
    kept.unsure.add(b"f")

    def full(*_: object, **__: object) -> None:
        raise SnapshotError("full")

    with monkeypatch.context() as patched:
        patched.setattr(keeping.snapshots, "take", full)
        with pytest.raises(SnapshotError, match="full"):
            keeping.take("after-call", "1", kept=kept)
    keeping.end(kept)
    assert keeping.again("before-call", "2", Kept()) is None
    keeping.take("auto", None)
    assert keeping.again("before-call", "2", Kept()) is not None


def test_what_differs_of_what_is_guarded_wants_a_look(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping.take("auto", None)
    monkeypatch.setattr(keeping._beneath, "is_still", lambda: False)  # noqa: SLF001 - the guard's
    assert keeping.again("before-call", "1", Kept()) is None


def test_where_events_can_be_relied_on_no_more_all_is_looked_at(
    keeping: Keeping, tmp_path: Path
) -> None:
    """As after a grant by which what is written there is linked elsewhere."""
    keeping.take("auto", None)
    work = str(tmp_path / "work")
    assert keeping.still(work) is not None
    keeping.settle(replace(keeping._rules, watched=False))  # noqa: SLF001 - the fixture's own
    assert keeping.still(work) is None
    assert keeping.again("before-call", "1", Kept()) is None


def test_a_plan_goes_by_all_there_is_whatever_events_said(keeping: Keeping, tmp_path: Path) -> None:
    taken = keeping.take("auto", None)
    (tmp_path / "work" / "f").write_text("22")
    plan = keeping.plan(Wanted("latest"), None)
    assert plan.target_root == taken.root != plan.current_root


def test_a_workspace_that_is_back_is_kept_again(keeping: Keeping, tmp_path: Path) -> None:
    first = keeping.take("auto", None)
    (tmp_path / "work").rename(tmp_path / "elsewhere")
    for _ in range(2):
        with pytest.raises(SnapshotError, match="work"):
            keeping.take("auto", None)
    assert not keeping.snapshots.is_interrupted()
    (tmp_path / "elsewhere").rename(tmp_path / "work")
    assert keeping.take("auto", None).root == first.root


def test_a_row_that_waits_for_the_next_call_is_written_soon_without_one(
    keeping: Keeping, tmp_path: Path
) -> None:
    async def act() -> None:
        kept = Kept()
        keeping.take("before-call", "1", kept=kept)
        assert keeping.again("after-call", "1", kept) is not None
        index = tmp_path / "state" / "snapshots" / "index.db"
        with anyio.fail_after(60), closing(sqlite3.connect(index)) as db:
            asked = "SELECT COUNT(*) FROM snapshots WHERE reason = 'after-call'"
            assert db.execute(asked).fetchone() == (0,)
            keeping.write_soon()
            while db.execute(asked).fetchone() == (0,):  # noqa: ASYNC110 - as below
                await anyio.sleep(0.01)

    anyio.run(act)


def requested(tmp_path: Path, tier: str) -> Request:
    for name in ("work", "home"):
        (tmp_path / name).mkdir()
    return Request(
        workspace=str(tmp_path / "work"),
        tier=tier,
        environ={"PATH": "/usr/bin:/bin"},
        home=str(tmp_path / "home"),
        state_dir=str(tmp_path / "state"),
        config_dir=str(tmp_path / "config"),
    )


def test_what_another_server_left_of_a_rollback_is_completed_before_a_call_that_needs_no_look(
    tmp_path: Path,
) -> None:
    """The other one was killed when it had said that it would, and before it did."""
    request = requested(tmp_path, LANDLOCK)

    async def act() -> None:
        with anyio.fail_after(60):
            async with Session.open(request, tier=LANDLOCK) as session:
                before = (await session.run(Command(("/bin/true",)))).changed
                assert before is not None
                index = tmp_path / "state" / "snapshots" / "index.db"
                with closing(sqlite3.connect(index, isolation_level=None)) as db:
                    root = bytes.fromhex(before.before.root)
                    left = root, root, before.before.id, f".nono-restore-{'0' * 16}", "stage"
                    db.execute(
                        "INSERT INTO restores SELECT id, ?, ?, ?, ?, ? FROM workspaces", left
                    )
                    result = await session.run(Command(("/bin/true",)))
                    assert result.status == 0
                    assert db.execute("SELECT COUNT(*) FROM restores").fetchone() == (0,)
                last = await session.run(Command(("/bin/true",)))
                with closing(sqlite3.connect(index)) as db:
                    ended = "SELECT reason FROM snapshots WHERE call = ? ORDER BY seq DESC LIMIT 1"
                    # Nothing tells who only reads the index.
                    while db.execute(ended, (last.id,)).fetchone() != ("after-call",):  # noqa: ASYNC110
                        await anyio.sleep(0.01)

    anyio.run(act)


CALLS_MAX = 10


class FullLog:
    """A log that has no room for a call."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def append(self, kind: str, fields: Mapping[str, object]) -> None:
        if kind == "call.start":
            self.heard.append(fields.get("snapshot"))
            raise AuditWriteError("no room")


def test_a_call_that_is_not_begun_leaves_the_index_to_others(tmp_path: Path, tier: str) -> None:
    request = requested(tmp_path, tier)
    index = tmp_path / "state" / "snapshots" / "index.db"
    log = FullLog()

    async def refused() -> None:
        async with Session.open(request, tier=tier) as session:
            # Not every call goes without a look: it waits for nobody who has one.
            while len(log.heard) < CALLS_MAX and not any(log.heard):
                for _ in range(3):
                    await session.run(Command(("true",)))
                session._log = log  # type: ignore[assignment]  # noqa: SLF001 - full by now
                with pytest.raises(AuditWriteError):
                    await session.run(Command(("true",)))
                session._log = None  # noqa: SLF001
            with closing(sqlite3.connect(index, timeout=60)) as db:
                db.execute("BEGIN IMMEDIATE")

    anyio.run(refused)
    # In the second tier others may write here unseen, and each call has a look at it.
    assert any(log.heard) == (tier != LANDLOCK)


def test_a_program_finds_the_row_before_it_written(
    tmp_path: Path, tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No timer does it.
    monkeypatch.setattr(module, "_SOON_S", 60.0)
    request = requested(tmp_path, tier)
    index = tmp_path / "state" / "snapshots" / "index.db"
    found: list[str] = []

    def look(_: bytes) -> None:
        with closing(sqlite3.connect(index)) as db:
            newest = "SELECT call FROM snapshots ORDER BY seq DESC LIMIT 1"
            found.extend(call for (call,) in db.execute(newest))

    async def looked_at() -> None:
        async with Session.open(request, tier=tier) as session:
            for _ in range(3):
                await session.run(Command(("true",)))
            result = await session.run(Command(("sh", "-c", "echo")), on_output=look)
            assert found == [result.id]

    anyio.run(looked_at)


@pytest.mark.parametrize("others_run", [False, True])
def test_what_was_interrupted_is_completed_by_whoever_comes_while_no_call_runs(
    tmp_path: Path, *, others_run: bool
) -> None:
    request = requested(tmp_path, LANDLOCK)
    below = SubtreeGuard(request.state_dir)
    rules = Rules.of(request, load.prepare(request))
    with closing(Keeping(rules, below, lambda: False)) as keeping:
        taken = keeping.take("auto", None)
    index = sqlite3.connect(tmp_path / "state/snapshots/index.db", isolation_level=None)
    with closing(index) as db, closing(RestoreLock(rules.state_dir, rules.workspace)) as lock:
        root = bytes.fromhex(taken.root)
        left = root, root, taken.id, f".nono-restore-{'0' * 16}", "stage"
        db.execute("INSERT INTO restores SELECT id, ?, ?, ?, ?, ? FROM workspaces", left)
        if others_run:
            assert lock.enter()
        undo = Undo.opened(request, load.prepare(request), None, below)
        assert undo is not None
        undo.close()
        assert db.execute("SELECT COUNT(*) FROM restores").fetchone() == (int(others_run),)


def test_a_rollback_that_cannot_be_completed_keeps_those_who_follow_safe_from_another(
    keeping: Keeping, tmp_path: Path
) -> None:
    """A call that fails in its beginning ends once, and who rolls back sees the next."""
    state = str(tmp_path / "state")
    keeping.take("auto", None)
    with closing(RestoreLock(state, str(tmp_path / "work"))) as lock:
        undo = Undo(keeping, lock, keeping._rules, None)  # noqa: SLF001 - the fixture's own
        told = Told(lambda _: None, lambda _: None, lambda _: None)
        call = Call(("true",), (), "/")

        async def act() -> None:
            index = sqlite3.connect(tmp_path / "state/snapshots/index.db", isolation_level=None)
            with closing(index) as db:
                damaged = "SELECT id, x'00', x'00', '', '.nono-restore-0', 'stage' FROM workspaces"
                db.execute(f"INSERT INTO restores {damaged}")
                with pytest.raises(SnapshotError, match="missing"):
                    async with undo.around("1", call, told):
                        raise AssertionError
                db.execute("DELETE FROM restores")
            async with undo.around("2", call, told):
                assert runs(state, str(tmp_path / "work"))
                with pytest.raises(CallsRunError, match="a call runs"):
                    await undo.roll_back(Wanted("latest"))
            assert not runs(state, str(tmp_path / "work"))

        anyio.run(act)
