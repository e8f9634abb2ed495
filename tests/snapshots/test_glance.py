"""A look at what is known already sees what a look by somebody who knows nothing sees."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nono_mcp.snapshots import comparing, glance, helping, mounts, statuses, visits
from nono_mcp.snapshots.snapshots import Snapshots
from nono_mcp.snapshots.values import Dirty
from tests.snapshots.deeds import DEEDS, populate
from tests.snapshots.state import Place


def anew(place: Place, tmp_path: Path) -> str:
    """Return the root of what is there, as a store has it that knows nothing of it."""
    state = tmp_path / f"state-{len(list(tmp_path.iterdir()))}"
    with Snapshots.open(str(state), str(place.workspace)) as snapshots:
        return snapshots.take("auto").root


def settle(place: Place) -> None:
    """Wait until a look takes what is there for settled, so that nothing of it is read again."""
    probe = place.base / "probe"
    probe.touch()
    while visits.racy(probe.stat(), time.time_ns()):
        time.sleep(0.005)
    probe.unlink()


ABOUT_NAMES = (
    "chmod", "chmod 000 all over", "close the root", "create", "create in new directories",
    "directory for file", "exchange with directory", "file for directory", "remove empty",
    "remove everything", "remove tree", "rename", "rename directory", "rename over",
    "same size, time put back", "set default acl", "swap", "symlink for directory",
)  # fmt: skip


@pytest.mark.claim("undo.complete")
@pytest.mark.parametrize("name", ABOUT_NAMES)
def test_whatever_was_done_shows(place: Place, tmp_path: Path, name: str) -> None:
    populate(place.workspace)
    for path in place.workspace.rglob("*"):
        # Whatever is in a directory with one of those is looked at anyway.
        if not path.is_dir() and path.lstat().st_nlink > 1:
            path.unlink()
    settle(place)
    with place.open() as snapshots:
        before = snapshots.take("auto")
        DEEDS[name](place.workspace)
        settle(place)
        after = snapshots.take("auto")
        assert after.root == anew(place, tmp_path) != before.root
        assert after.root == snapshots.take("auto").root


@pytest.mark.claim("undo.complete")
@pytest.mark.parametrize("told", ["a/known", "a/new", "a/sub/x"])
def test_a_name_that_nobody_told_of_shows_later(place: Place, tmp_path: Path, told: str) -> None:
    for each in ("a/known", "a/sub/x"):
        place.write(each)
    with place.open() as snapshots:
        settle(place)
        snapshots.take("auto")
        for each in (told, "a/missed"):
            place.write(each, "more")
        settle(place)
        dirty = Dirty(rehash=frozenset({told.encode()}))
        missing = snapshots.take("auto", dirty=dirty)
        whole = snapshots.take("auto")
        assert missing.root != whole.root == anew(place, tmp_path)


def unlisted(snapshots: Snapshots, directory: Path, seen: int) -> None:
    """Have the row of *directory* say what a look saw of it that listed nothing there."""
    status = directory.stat()
    packed = comparing.SEEN.pack(
        status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_mode | seen,
        status.st_uid, status.st_gid,
    )  # fmt: skip
    db = snapshots._workspace.store.db  # noqa: SLF001 - as another program would
    done = db.execute("UPDATE dirs SET seen = ? WHERE name = ?", (packed, directory.name.encode()))
    assert done.rowcount == 1


def test_a_row_of_an_earlier_version_says_nothing_of_names(place: Place, tmp_path: Path) -> None:
    place.write("a/known")
    with place.open() as snapshots:
        settle(place)
        before = snapshots.take("auto")
        place.write("a/missed")
        settle(place)
        unlisted(snapshots, place.workspace / "a", 0)
        assert snapshots.take("auto").root == anew(place, tmp_path) != before.root


@pytest.mark.exact_times
def test_where_times_may_not_tell_of_names_they_are_listed(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write("a/known")
    with place.open() as snapshots:
        settle(place)
        before = snapshots.take("auto")
        place.write("a/missed")
        settle(place)
        unlisted(snapshots, place.workspace / "a", comparing.LISTED)
        assert snapshots.take("auto").root == before.root
        monkeypatch.setattr(mounts, "LOCAL", frozenset())
        assert snapshots.take("auto").root == anew(place, tmp_path) != before.root


@pytest.fixture
def wide(place: Place) -> Place:
    for number in range(30):
        place.write(f"top/{number}/below/{number}")
    return place


@pytest.mark.parametrize("who", ["nobody", "nowhere", "helper", "both"])
def test_whoever_compares_finds_it(
    wide: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    monkeypatch.setattr(helping, "FILES_MIN", 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with wide.open() as snapshots:
        settle(wide)
        snapshots.take("auto")
        for number in (0, 29):
            wide.write(f"top/{number}/below/{number}", "changed")
        wide.write("top/new/file")
        (wide.workspace / "top/7/below/7").unlink()
        if who != "both":
            # All pieces are somebody else's, who does them, or was killed before.
            monkeypatch.setattr(helping.Helper, "numbers", lambda _: iter(()))
        if who == "nobody":
            monkeypatch.setattr(sys, "executable", "/bin/false")
        if who == "nowhere":
            monkeypatch.setattr(sys, "executable", str(tmp_path / "isn't there"))
        if who == "helper":
            monkeypatch.setattr(comparing.Comparer, "differing", unexpected)
        assert snapshots.take("auto").root == anew(wide, tmp_path)


def unexpected(*_: object) -> Iterator[object]:
    raise AssertionError("the helper was to do it")


def test_a_helper_that_is_killed_leaves_its_piece_to_others(
    wide: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = helping.Helper.numbers

    def all_but_one(self: helping.Helper) -> Iterator[int]:
        left = numbers(self)
        next(left)
        yield from left

    monkeypatch.setattr(helping.Helper, "numbers", all_but_one)
    with wide.open() as snapshots:
        settle(wide)
        snapshots.take("auto")
        wide.write("in the root, which is the first")
        assert snapshots.take("auto").root == anew(wide, tmp_path)


def test_where_much_differs_everything_is_looked_at(
    wide: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with wide.open() as snapshots:
        settle(wide)
        snapshots.take("auto")
        for number in range(30):
            wide.write(f"top/{number}/below/more")
        monkeypatch.setattr(glance, "DIFFERING_MAX", 10)
        assert snapshots.take("auto").root == anew(wide, tmp_path)


def test_a_directory_that_nobody_can_enter_any_more_is_said(place: Place, tmp_path: Path) -> None:
    """As its owner can: it's kept, and as closed as it was."""
    place.write("a/b/c")
    closed = place.workspace / "a/b"
    with place.open() as snapshots:
        before = snapshots.take("auto")
        closed.chmod(0)
        after = snapshots.take("auto")
        assert after.root == anew(place, tmp_path) != before.root
        assert closed.stat().st_mode & 0o7777 == 0
        closed.chmod(0o755)
        assert snapshots.take("auto").files_count == 1


def test_what_is_doubted_has_the_same_inode(place: Place) -> None:
    packed = statuses.pack_seen(place.workspace.stat())
    assert statuses.doubted(packed) != packed
    assert statuses.seen_ino(statuses.doubted(packed)) == place.workspace.stat().st_ino
