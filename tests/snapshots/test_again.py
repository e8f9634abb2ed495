"""A snapshot without a look: only where nothing can have changed, and never by waiting."""

import os
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from nono_mcp.snapshots import upkeep
from nono_mcp.snapshots.errors import StoreError
from nono_mcp.snapshots.place import DIRECTORY
from nono_mcp.snapshots.snapshots import Snapshots
from nono_mcp.snapshots.values import Snapshot
from nono_mcp.snapshots.watch import Watcher
from tests.snapshots.state import Place

pytestmark = pytest.mark.linux


@pytest.fixture
def watcher(place: Place) -> Iterator[Watcher]:
    watcher = Watcher(str(place.workspace))
    (place.workspace / "d").mkdir()
    (place.workspace / "d" / "f").write_text("1")
    watcher.take()
    assert watcher.still() is not None, watcher.reason
    yield watcher
    watcher.close()


def sh(script: str) -> Callable[[Path], object]:
    return lambda directory: subprocess.run(["/bin/sh", "-ec", script], cwd=directory, check=True)


CHANGES = {
    "a write": sh("echo 22 > d/f"),
    "an empty file": sh(": > d/g"),
    "a mode": sh("chmod 700 d/f"),
    "the root's mode": sh("chmod 700 ."),
    "a time": sh("touch -d 2001-01-01 d/f"),
    "a name": sh("mv d/f d/g"),
    "a directory": sh("mkdir e"),
    "a directory's name": sh("mv d e"),
    "gone": sh("rm d/f"),
    "there and back": sh("mv d e; mv e d"),
    "another in its place": sh('mkdir "../$$"; mv ../workspace ../old; mv "../$$" ../workspace'),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_changes_is_not_still(
    watcher: Watcher, place: Place, change: Callable[[Path], object]
) -> None:
    before = watcher.still()
    assert watcher.still() == before
    (place.workspace / "d" / "f").read_text()
    assert watcher.still() == before
    assert watcher.since == before
    change(place.workspace)
    assert watcher.still() != before
    watcher.take()
    assert watcher.since != before


def test_what_cannot_be_watched_is_not_known_to_be_still(place: Place) -> None:
    (place.workspace / "d").mkdir()
    few = Watcher(str(place.workspace), watches_max=1)
    few.take()
    assert few.still() is None
    assert Watcher(str(place.workspace)).still() is None


def test_more_events_than_are_kept_leave_nothing_known(watcher: Watcher, place: Place) -> None:
    before = watcher.still()
    with watcher._mutex:  # noqa: SLF001 - keeps the thread from taking any in
        events_max = int(Path("/proc/sys/fs/inotify/max_queued_events").read_bytes())
        for _ in range(events_max // 2 + 1):
            (place.workspace / "d" / "f").chmod(0o600)
            (place.workspace / "d").chmod(0o700)
    assert watcher.still() is None
    watcher.take()
    assert watcher.still() != before


def test_it_is_a_snapshot_like_any_other(place: Place) -> None:
    place.write("a", "1")
    with place.open() as snapshots:
        first = snapshots.take("auto")
        again = snapshots.again(first, "before-call", "c1")
        assert again is not None
        found = snapshots.get(again.id)
        assert replace(found, seq=first.seq) == again
        assert found.seq > first.seq
        assert (again.root, again.call, again.reason) == (first.root, "c1", "before-call")
        place.write("a", "2")
        snapshots.restore(snapshots.plan(again.id))
    assert (place.workspace / "a").read_text() == "1"


def test_a_file_with_another_name_wants_a_look(place: Place) -> None:
    place.write("a", "1")
    os.link(place.workspace / "a", place.workspace.parent / "outside")
    with place.open() as snapshots:
        assert snapshots.again(snapshots.take("auto"), "before-call", "c1") is None


def test_what_was_thinned_away_is_not_said_again(place: Place) -> None:
    with place.open() as snapshots:
        first = snapshots.take("auto")
        upkeep.delete(str(place.state), first.id)
        assert snapshots.again(first, "before-call", "c1") is None


def test_an_interrupted_restore_wants_to_be_recovered_first(place: Place) -> None:
    with place.open() as snapshots:
        first = snapshots.take("auto")
        with index_of(place) as db:
            (number,) = db.execute("SELECT workspace FROM snapshots").fetchone()
            db.execute("INSERT INTO restores VALUES (?, x'', x'', '', '', '')", (number,))
        db.close()
        assert snapshots.again(first, "before-call", "c1") is None


def test_nobody_is_waited_for(place: Place) -> None:
    with place.open() as snapshots:
        first = snapshots.take("auto")
        db = index_of(place)
        db.execute("BEGIN IMMEDIATE")
        # What waits here does so for a minute.
        assert snapshots.again(first, "before-call", "c1") is None
        db.execute("ROLLBACK")
        db.close()
        assert snapshots.again(first, "before-call", "c1") is not None


def index_of(place: Place) -> sqlite3.Connection:
    return sqlite3.connect(place.state / DIRECTORY / "index.db", isolation_level=None)


def rows(place: Place) -> list[tuple[str, str]]:
    db = index_of(place)
    try:
        return db.execute("SELECT reason, call FROM snapshots ORDER BY seq").fetchall()
    finally:
        db.close()


TAKEN = [("auto", None), ("before-call", "c1")]
LATER = ("after-call", "c1")


def left_for_later(snapshots: Snapshots) -> Snapshot:
    first = snapshots.take("auto")
    assert snapshots.again(first, "before-call", "c1") is not None
    later = snapshots.again(first, "after-call", "c1", later=True)
    assert later is not None
    return later


def test_what_is_left_for_later_is_written_when_it_is_said_and_by_the_end(place: Place) -> None:
    with place.open() as snapshots:
        left_for_later(snapshots)
        assert rows(place) == TAKEN
        assert snapshots.write()
        assert rows(place) == [*TAKEN, LATER]
        assert snapshots.write()
    assert rows(place) == [*TAKEN, LATER]
    with place.open() as snapshots:
        left_for_later(snapshots)
    assert rows(place)[3:] == [*TAKEN, LATER]


def test_who_asks_here_finds_it_written(place: Place) -> None:
    with place.open() as snapshots:
        later = left_for_later(snapshots)
        (found, *_) = snapshots.list()
        assert (found.id, found.root, found.time_ns) == (later.id, later.root, later.time_ns)
        assert snapshots.diff(later.id, later.id).nothing


def test_what_follows_is_written_after_it(place: Place) -> None:
    with place.open() as snapshots:
        later = left_for_later(snapshots)
        assert snapshots.again(later, "before-call", "c2") is not None
        snapshots.commit()
        assert rows(place) == [*TAKEN, LATER, ("before-call", "c2")]


def test_nobody_else_writes_until_it_is_committed(place: Place) -> None:
    with place.open() as snapshots:
        assert snapshots.again(snapshots.take("auto"), "before-call", "c1") is not None
        db = index_of(place)
        db.execute("PRAGMA busy_timeout = 0")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            db.execute("BEGIN IMMEDIATE")
        assert rows(place) == TAKEN[:1]
        snapshots.commit()
        assert rows(place) == TAKEN
        db.execute("BEGIN IMMEDIATE")
        db.close()


@pytest.mark.parametrize("ask", ["list", "write", "is_interrupted"])
def test_whoever_asks_next_commits_it(place: Place, ask: str) -> None:
    with place.open() as snapshots:
        assert snapshots.again(snapshots.take("auto"), "before-call", "c1") is not None
        getattr(snapshots, ask)()
        assert rows(place) == TAKEN


@contextmanager
def full(place: Place) -> Iterator[None]:
    """Have the store's log grow no more, as where the disk is full."""
    log = place.state / DIRECTORY / "index.db-wal"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_what_could_not_be_committed_is_written_later(place: Place) -> None:
    with place.open() as snapshots:
        assert snapshots.again(snapshots.take("auto"), "before-call", "c1") is not None
        with full(place):
            snapshots.commit()
            assert not snapshots.write()
            assert rows(place) == TAKEN[:1]
        assert snapshots.write()
        assert rows(place) == TAKEN


def test_what_the_index_refused_is_written_later(place: Place) -> None:
    """Nor is anything kept from others meanwhile: SQLite undoes the statement, and no more."""
    with place.open() as snapshots:
        left_for_later(snapshots)
        db = snapshots._store.db  # noqa: SLF001 - what refuses is this connection's alone
        db.execute(
            "CREATE TEMP TRIGGER refusing BEFORE INSERT ON snapshots"
            " BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
        assert not snapshots.write()
        assert not db.in_transaction
        db.execute("DROP TRIGGER refusing")
        assert snapshots.write()
        assert rows(place) == [*TAKEN, LATER]


def test_who_could_not_ask_the_index_keeps_it_from_nobody(place: Place) -> None:
    with place.open() as snapshots:
        first = snapshots.take("auto")
        db = snapshots._store.db  # noqa: SLF001 - what refuses is this connection's alone
        db.set_authorizer(
            lambda act, *_: sqlite3.SQLITE_DENY if act == sqlite3.SQLITE_READ else sqlite3.SQLITE_OK
        )
        assert snapshots.again(first, "before-call", "c1") is None
        assert not db.in_transaction


def test_what_says_more_of_what_could_not_be_committed_is_of_the_same_tree(place: Place) -> None:
    with place.open() as snapshots:
        before = snapshots.again(snapshots.take("auto"), "before-call", "c1")
        assert before is not None
        with full(place):
            snapshots.commit()
            snapshots.again(before, "after-call", "c1", later=True)
        # Who has its number by now.
        other = place.state.parent / "other"
        other.mkdir()
        (other / "theirs").write_text("1")
        with Snapshots.open(str(place.state), str(other)) as others:
            others.take("auto")
            others.take("auto")
        again = snapshots.again(before, "before-call", "c2")
        assert again is not None
        found = [(one.reason, one.call) for one in snapshots.list()]
        assert found == [("before-call", "c2"), LATER, *reversed(TAKEN)]
        assert {one.root for one in snapshots.list()} == {before.root}
        assert snapshots.get(again.id).root == before.root


def test_a_full_disk_is_told_as_what_it_is(place: Place) -> None:
    with place.open() as snapshots:
        snapshots.take("auto")
        with full(place), pytest.raises(StoreError, match="nothing is lost"):
            snapshots.take("auto")
        snapshots.take("auto")


def test_a_store_that_was_removed_is_told_of(place: Place) -> None:
    with place.open() as snapshots:
        first = snapshots.take("auto")
        shutil.rmtree(place.state / DIRECTORY)
        assert snapshots.again(first, "before-call", "c1") is None
        with pytest.raises(StoreError, match="removed"):
            snapshots.take("auto")


def test_a_restore_that_was_interrupted_meanwhile_keeps_back_what_follows_alone(
    place: Place,
) -> None:
    with place.open() as snapshots:
        later = left_for_later(snapshots)
        db = index_of(place)
        db.execute(
            "INSERT INTO restores SELECT workspace, x'', x'', '', '', '' FROM snapshots LIMIT 1"
        )
        db.close()
        assert snapshots.again(later, "before-call", "c2") is None
        assert rows(place) == [*TAKEN, LATER]


def test_it_waits_for_nobody_and_is_not_forgotten(place: Place) -> None:
    with place.open() as snapshots:
        later = left_for_later(snapshots)
        db = index_of(place)
        db.execute("BEGIN IMMEDIATE")
        assert not snapshots.write()
        assert snapshots.again(later, "before-call", "c2") is None
        db.execute("ROLLBACK")
        db.close()
        assert snapshots.write()
        assert rows(place) == [*TAKEN, LATER]


def test_who_closes_it_twice_is_not_kept_waiting(place: Place) -> None:
    snapshots = place.open()
    first = snapshots.take("auto")
    snapshots.again(first, "before-call", "c1")
    snapshots.close()
    assert rows(place) == TAKEN
    snapshots.commit()
    assert snapshots.write()
    snapshots.close()
