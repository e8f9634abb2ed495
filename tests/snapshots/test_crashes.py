"""Killed at any point, what comes next completes it or undoes it: never a mix, never litter.

A child does the work with every call that changes a file or the index counted, and kills itself at
the Nth. All N are tried, from 1 until the child gets to its end.
"""

import os
import signal
import sqlite3
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from nono_mcp.snapshots import database, restoring, staging
from nono_mcp.snapshots.errors import StoreError, UnrecoveredError
from nono_mcp.snapshots.values import Plan, Snapshot
from tests.snapshots.state import Place, seen

COUNTED = (
    "chmod", "chown", "fchmod", "fchown", "fsync", "ftruncate", "link", "mkdir", "mkfifo", "open",
    "pwrite", "removexattr", "rename", "rmdir", "setxattr", "symlink", "unlink", "utime", "write",
)  # fmt: skip
POINTS_MAX = 2000


class Killer:
    """Kills its own process at the Nth change."""

    def __init__(self, at: int) -> None:
        self._left = at

    def count(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, act: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **named: object) -> object:
            self.count()
            return act(*args, **named)

        return counted

    def arm(self) -> None:
        """Count from here on, in this process alone."""
        for name in COUNTED:
            setattr(os, name, self.wrap(getattr(os, name)))

    def trace(self, db: sqlite3.Connection) -> None:
        """Count the index's transactions."""

        def traced(statement: str) -> None:
            if statement.startswith(("COMMIT", "BEGIN")):
                self.count()

        db.set_trace_callback(traced)


def killed(at: int, act: Callable[[Killer], object]) -> bool:
    """Do *act* in a child that dies at its change number *at*; tell whether it did."""
    with warnings.catch_warnings():
        # Python 3.12 on: whoever runs the tests in parallel has a thread for that.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            killer = Killer(at)
            killer.arm()
            act(killer)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed by itself"
    return os.WIFSIGNALED(status)


@pytest.fixture(autouse=True)
def _unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is killed loses nothing that was written; waiting for the disk is against a power cut."""
    for module in (staging, restoring):
        monkeypatch.setattr(module, "syncfs", lambda _fd: None)


def before_state(w: Path) -> None:
    (w / "changed").write_text("before")
    (w / "gone/below").mkdir(parents=True)
    (w / "gone/below/file").write_text("gone")
    (w / "kind").write_text("a file")
    (w / "linked").write_text("x")
    (w / "other").hardlink_to(w / "linked")
    (w / "mode").write_text("m")
    (w / "link").symlink_to("changed")
    if sys.platform == "linux":
        os.setxattr(w / "mode", "user.note", b"1")
    os.mkfifo(w / "fifo")
    (w / "gone").chmod(0o750)


def act(w: Path) -> None:
    (w / "changed").write_text("after")
    (w / "gone/below/file").unlink()
    (w / "gone/below").rmdir()
    (w / "gone").rmdir()
    (w / "kind").unlink()
    (w / "kind/of").mkdir(parents=True)
    (w / "kind/of/new").write_text("new")
    (w / "linked").unlink()
    (w / "mode").chmod(0o600)
    os.removexattr(w / "mode", "user.note")
    (w / "link").unlink()
    (w / "fifo").unlink()


def reset(place: Place) -> None:
    for path in sorted(place.workspace.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
    before_state(place.workspace)


def points(act: Callable[[int], bool]) -> int:
    """Try every point; return how many there were."""
    at = 1
    while act(at):
        at += 1
        assert at < POINTS_MAX
    return at - 1


def litter(place: Place) -> list[str]:
    """Return what is there and shouldn't be."""
    found = [p.name for p in (*place.base.iterdir(), *place.workspace.iterdir())]
    found += [p.name for p in (place.state / "snapshots").iterdir() if p.name.startswith("modes")]
    return [name for name in found if "restore" in name or "modes" in name]


@pytest.mark.claim("undo.whole")
@pytest.mark.parametrize("inside", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_restore_killed_at_any_point_is_completed_or_undone(
    place: Place, monkeypatch: pytest.MonkeyPatch, *, inside: bool
) -> None:
    outcomes = []
    if inside:
        # Each descriptor is on another mount, so that it's prepared in the workspace.
        monkeypatch.setattr(staging, "_mount", lambda fd: fd)

    def once(at: int) -> bool:
        reset(place)
        before = seen(place.workspace)
        with place.open() as snapshots:
            taken = snapshots.take("auto")
        act(place.workspace)
        after = seen(place.workspace)

        def restore(killer: Killer) -> None:
            with place.open() as snapshots:
                killer.trace(snapshots._store.db)  # noqa: SLF001 - its commits are counted
                snapshots.restore(snapshots.plan(taken.id))

        died = killed(at, restore)
        with place.open() as snapshots:
            outcome = snapshots.recover()
            now = seen(place.workspace)
            assert now in (before, after)
            if outcome is not None:
                assert now == before
                assert outcome.verified, outcome.conflicts
            outcomes.append((now == before, outcome is not None))
            assert litter(place) == []
            assert snapshots.recover() is None
            # The store holds: what was undone can be done, and what was done be undone.
            wanted = taken if now == after else snapshots.list()[0]
            if now == after:
                assert snapshots.restore(snapshots.plan(wanted.id)).verified
                assert seen(place.workspace) == before
            else:
                assert snapshots.plan(taken.id).nothing
        return died

    count = points(once)
    assert count > 60
    assert {(False, False), (True, True), (True, False)} == set(outcomes)


def test_a_snapshot_killed_at_any_point_leaves_a_store_that_holds(place: Place) -> None:
    def once(at: int) -> bool:
        reset(place)
        (place.workspace / "gone/below").chmod(0)
        (place.workspace / "changed").write_bytes(os.urandom(2000))
        below = (place.workspace / "gone/below").stat().st_mode

        def take(killer: Killer) -> None:
            with place.open() as snapshots:
                killer.trace(snapshots._store.db)  # noqa: SLF001 - its commits are counted
                snapshots.take("auto")

        died = killed(at, take)
        with place.open() as snapshots:
            taken = snapshots.take("auto")
            assert (place.workspace / "gone/below").stat().st_mode == below
            assert litter(place) == []
            (place.workspace / "gone/below").chmod(0o755)
            content = (place.workspace / "changed").read_bytes()
            act(place.workspace)
            assert snapshots.restore(snapshots.plan(taken.id)).verified
            assert (place.workspace / "changed").read_bytes() == content
            assert (place.workspace / "gone/below").stat().st_mode == below
            (place.workspace / "gone/below").chmod(0o755)
        return died

    assert points(once) > 15


@pytest.mark.slow
def test_a_recovery_killed_at_any_point_is_recovered(place: Place) -> None:
    """The second crash, in the middle of completing what the first one left."""

    def once(at: int) -> bool:
        reset(place)
        before = seen(place.workspace)
        with place.open() as snapshots:
            taken = snapshots.take("auto")
            act(place.workspace)
            plan = snapshots.plan(taken.id)

        def restore(_: Killer) -> None:
            renames = 0
            rename = os.rename

            def dying(*args: object, **named: object) -> None:
                nonlocal renames
                renames += 1
                if renames == 3:
                    os.kill(os.getpid(), signal.SIGKILL)
                rename(*args, **named)  # type: ignore[arg-type]  # as it was called

            os.rename = dying
            with place.open() as snapshots:
                snapshots.restore(plan)

        assert killed(1 << 40, restore)

        def recover(killer: Killer) -> None:
            with place.open() as snapshots:
                killer.trace(snapshots._store.db)  # noqa: SLF001 - its commits are counted
                snapshots.recover()

        died = killed(at, recover)
        with place.open() as snapshots:
            snapshots.recover()
            assert seen(place.workspace) == before
            assert litter(place) == []
        return died

    assert points(once) > 40


def interrupted(place: Place) -> tuple[Snapshot, Plan]:
    """Leave a restore that died at its first rename; return what it was to put back, and how."""
    before_state(place.workspace)
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        act(place.workspace)
        plan = snapshots.plan(taken.id)

    def restore(_: Killer) -> None:
        os.rename = lambda *_a, **_n: os.kill(os.getpid(), signal.SIGKILL)
        with place.open() as snapshots:
            snapshots.restore(plan)

    assert killed(1 << 40, restore)
    return taken, plan


def test_nothing_is_taken_or_planned_before_recovery(place: Place) -> None:
    taken, plan = interrupted(place)
    with place.open() as snapshots:
        for forbidden in (
            lambda: snapshots.take("auto"),
            lambda: snapshots.plan(taken.id),
            lambda: snapshots.restore(plan),
        ):
            with pytest.raises(UnrecoveredError):
                forbidden()
        outcome = snapshots.recover()
        assert outcome is not None
        assert outcome.verified
        assert snapshots.take("auto").root == taken.root


def test_what_a_person_did_after_a_crash_is_in_a_snapshot_before_it_goes(place: Place) -> None:
    taken, _ = interrupted(place)
    place.write("changed", "by a person, after the crash")
    with place.open() as snapshots:
        assert snapshots.recover() is not None
        newest = snapshots.list()[0]
        assert newest.reason == "safety"
        assert b"by a person" in snapshots.text_diff(newest.id, taken.id, b"changed").text.encode()


def test_the_index_is_whole_or_refused(place: Place) -> None:
    place.write("a")
    with place.open() as snapshots:
        snapshots.take("auto")
    path = place.state / "snapshots" / database.NAME
    path.write_bytes(b"not a database" * 1000)
    for extra in ("-wal", "-shm"):
        path.with_name(path.name + extra).unlink(missing_ok=True)
    with pytest.raises(StoreError):
        place.open()
