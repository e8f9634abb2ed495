"""A snapshot is what the workspace is: whatever hides a change, and however it was looked for."""
# mypy: disable-error-code="func-returns-value"

import mmap
import os
import shutil
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nono_mcp.snapshots import database
from nono_mcp.snapshots import place as place_of
from nono_mcp.snapshots.descent import OPEN_MAX
from nono_mcp.snapshots.errors import (
    AmbiguousIdError,
    BroadWorkspaceError,
    NoSuchSnapshotError,
    SnapshotError,
    StoreError,
    WorkspaceReplacedError,
)
from nono_mcp.snapshots.patterns import PatternError
from nono_mcp.snapshots.snapshots import Snapshots
from nono_mcp.snapshots.values import Change, Dirty, Unprotected
from tests.snapshots.state import Place, seen


def changes(snapshots: Snapshots, *paths: str) -> list[tuple[bytes, str]]:
    """Return what the newest snapshot changed."""
    after, before = snapshots.list(limit=2)
    found = snapshots.diff(before.id, after.id, paths=paths)
    return [(change.path, change.kind) for change in found.changes]


def test_nothing_changed_nothing_differs_and_nothing_was_touched(place: Place) -> None:
    place.write("a/b/c.txt")
    (place.workspace / "empty").mkdir()
    before = seen(place.workspace)
    with place.open() as snapshots:
        first, second = snapshots.take("auto"), snapshots.take("auto")
        third = snapshots.take("auto", dirty=Dirty())
        assert first.root == second.root == third.root
        assert snapshots.diff(first.id, third.id).nothing
        assert len({first.id, second.id, third.id}) == 3
        assert (first.files_count, first.bytes_total) == (1, 8)
    assert seen(place.workspace) == before


def test_what_changed_is_listed_with_how_and_how_much(place: Place) -> None:
    for name in ("gone", "mode", "same", "text", "time"):
        place.write(name)
    (place.workspace / "kind").symlink_to("text")
    with place.open() as snapshots:
        snapshots.take("auto")
        (place.workspace / "gone").unlink()
        (place.workspace / "mode").chmod(0o600)
        (place.workspace / "text").write_text("longer than before\n")
        os.utime(place.workspace / "time", (1, 1))
        (place.workspace / "kind").unlink()
        place.write("kind/new")
        before, after = snapshots.list()[0], snapshots.take("auto")
        found = snapshots.diff(before.id, after.id)
        assert found.changes == (
            Change(b"gone", "deleted", frozenset({"content"}), "file", 8, 0),
            Change(b"kind", "modified", found.changes[1].what, "directory", 4, 0),
            Change(b"kind/new", "added", frozenset({"content"}), "file", 0, 8),
            Change(b"mode", "modified", frozenset({"mode"}), "file", 8, 8),
            Change(b"text", "modified", frozenset({"content", "time"}), "file", 8, 19),
            Change(b"time", "touched", frozenset({"time"}), "file", 8, 8),
        )
        assert "type" in found.changes[1].what
        assert (found.added, found.modified, found.deleted, found.touched) == (1, 3, 1, 1)
        assert (found.bytes_added, found.bytes_removed) == (8 + 19, 8 + 8 + 4)
        assert snapshots.diff(before.id, after.id, limit=2).cut
        assert snapshots.diff(before.id, after.id, limit=2).modified == 3
        assert changes(snapshots, "kind") == [(b"kind", "modified"), (b"kind/new", "added")]
        assert changes(snapshots, "*.c", "/t*t") == [(b"text", "modified")]


def test_a_rewrite_of_the_same_size_with_its_time_put_back_shows(place: Place) -> None:
    path = place.write("a", b"one")
    with place.open() as snapshots:
        snapshots.take("auto")
        status = path.stat()
        path.write_bytes(b"two")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        snapshots.take("auto")
        assert changes(snapshots) == [(b"a", "modified")]


def test_writes_right_after_a_look_show(place: Place) -> None:
    # In the same tick of the clock a file's times don't change: each round would be missed alone.
    path = place.write("a", b"%04d" % 0)
    with place.open() as snapshots:
        roots = set()
        for number in range(100):
            path.write_bytes(b"%04d" % number)
            roots.add(snapshots.take("auto").root)
        assert len(roots) == 100


def test_a_store_to_a_mapped_page_shows_when_its_name_is_told(place: Place) -> None:
    path = place.write("a", bytes(4096))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 4096) as mapped, place.open() as s:
        mapped[0] = 1
        first = s.take("auto")
        mapped[1] = 1
        assert s.take("auto", dirty=Dirty(rehash=frozenset({b"a"}))).root != first.root


def test_a_write_through_a_name_outside_shows_though_nothing_is_told(
    place: Place, tmp_path: Path
) -> None:
    path = place.write("deep/a", b"one")
    other = tmp_path / "outside"
    other.hardlink_to(path)
    with place.open() as snapshots:
        snapshots.take("auto")
        status = other.stat()
        other.write_bytes(b"two")
        os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
        snapshots.take("auto", dirty=Dirty())
        assert changes(snapshots) == [(b"deep/a", "modified")]


def test_what_is_told_counts_and_what_is_new_is_walked_in_full(place: Place) -> None:
    place.write("a/b/old")
    place.write("other/file")
    with place.open() as snapshots:
        snapshots.take("auto")
        place.write("a/b/new/er/file")
        place.write("a/b/old", "changed")
        (place.workspace / "other/file").unlink()
        told = Dirty(relist=frozenset({b"a/b", b"not/there"}), rescan=frozenset({b"other"}))
        third = snapshots.take("auto", dirty=told)
        assert changes(snapshots) == [
            (b"a/b/new", "added"),
            (b"a/b/new/er", "added"),
            (b"a/b/new/er/file", "added"),
            (b"a/b/old", "modified"),
            (b"other/file", "deleted"),
        ]
        assert snapshots.take("auto").root == third.root


def test_a_told_directory_that_became_something_else_is_that(place: Place) -> None:
    place.write("a/b/c/file")
    with place.open() as snapshots:
        snapshots.take("auto")
        (place.workspace / "a/b/c/file").unlink()
        (place.workspace / "a/b/c").rmdir()
        (place.workspace / "a/b/c").symlink_to("/")
        told = snapshots.take("auto", dirty=Dirty(relist=frozenset({b"a/b/c/d"})))
        assert snapshots.take("auto").root == told.root
        assert (b"a/b/c", "modified") in changes(snapshots) or told.files_count == 1


def test_no_symlink_is_followed(place: Place, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("x" * 1000)
    (place.workspace / "link").symlink_to(secret)
    (place.workspace / "file").symlink_to(secret / "key")
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        assert taken.bytes_total == 0
        assert taken.files_count == 2


def test_exclusions_and_what_cannot_be_kept_are_said(place: Place) -> None:
    place.write("node_modules/a")
    place.write("sub/node_modules/b")
    place.write("build/c")
    place.write("sub/build/d")
    with socket.socket(socket.AF_UNIX) as listener, place.open("node_modules", "/build") as s:
        cwd = Path.cwd()
        os.chdir(place.workspace)  # the path of a socket has to be short
        try:
            listener.bind("socket")
        finally:
            os.chdir(cwd)
        taken = s.take("auto")
        assert taken.unprotected == (
            Unprotected(b"build", "excluded"),
            Unprotected(b"node_modules", "excluded"),
            Unprotected(b"socket", "socket"),
            Unprotected(b"sub/node_modules", "excluded"),
        )
        assert taken.unprotected_count == 4
        assert taken.files_count == 2  # sub/build/d, and the socket that is there
    with place.open() as snapshots:
        assert snapshots.take("auto", dirty=Dirty()).unprotected_count == 1


@pytest.mark.parametrize("pattern", ["", "/", "..", "a/../b", "a\0"])
def test_a_pattern_that_means_nothing_is_refused(place: Place, pattern: str) -> None:
    with pytest.raises(PatternError):
        place.open(pattern)


def test_closed_files_and_directories_are_kept_and_stay_closed(place: Place) -> None:
    place.write("shut/inside/file", "hidden")
    place.write("listed/file", "hidden")
    place.write("file", "hidden")
    for name, mode in (("shut/inside", 0), ("shut", 0o100), ("listed", 0o400), ("file", 0)):
        (place.workspace / name).chmod(mode)
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        assert (taken.unprotected, taken.files_count) == ((), 3)
        assert taken.bytes_total == 18
        assert snapshots.take("auto").root == taken.root
    modes = [
        (place.workspace / name).stat().st_mode & 0o7777 for name in ("shut", "listed", "file")
    ]
    assert modes == [0o100, 0o400, 0]
    assert not list((place.state / "snapshots").glob("modes-*"))
    (place.workspace / "shut").chmod(0o700)
    assert (place.workspace / "shut/inside").stat().st_mode & 0o7777 == 0


@pytest.mark.parametrize(
    "name",
    [
        # macOS has no names that aren't UTF-8.
        pytest.param(b"\xff\xfe", marks=pytest.mark.linux),
        *(b"new\nline", b"-rf", b" ", b"n" * 255, b"*[?]"),
    ],
)
def test_any_name_is_a_name(place: Place, name: bytes) -> None:
    directory = os.path.join(os.fsencode(place.workspace), name)
    os.mkdir(directory)
    with place.open() as snapshots:
        snapshots.take("auto")
        os.close(os.open(os.path.join(directory, name), os.O_CREAT | os.O_WRONLY))
        snapshots.take("auto", dirty=Dirty(relist=frozenset({name})))
        assert changes(snapshots) == [(name + b"/" + name, "added")]


@pytest.mark.parametrize("depth", [1500, pytest.param(6000, marks=pytest.mark.slow)])
def test_however_deep_a_chain_is(place: Place, depth: int) -> None:
    fd = os.open(place.workspace, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d" * 20, dir_fd=fd)
        below = os.open("d" * 20, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    with place.open() as snapshots:
        first = snapshots.take("auto")
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        second = snapshots.take("auto")
        [change] = snapshots.diff(first.id, second.id).changes
        assert change.path == b"/".join([b"d" * 20] * depth + [b"file"])
        told = Dirty(relist=frozenset({b"/".join([b"d" * 20] * depth)}))
        os.unlink("file", dir_fd=fd)
        assert snapshots.take("auto", dirty=told).files_count == 0
    os.close(fd)
    from nono_sandbox import scratch  # noqa: PLC0415 - pytest's own removal recurses

    scratch.remove(str(place.workspace))


def test_a_workspace_that_was_replaced_is_refused(place: Place) -> None:
    place.write("a")
    with place.open() as snapshots:
        snapshots.take("auto")
        place.workspace.rename(place.base / "elsewhere")
        with pytest.raises(WorkspaceReplacedError):
            snapshots.take("auto")
        place.workspace.symlink_to(place.base / "elsewhere")
        with pytest.raises(WorkspaceReplacedError):
            snapshots.take("auto")
        place.workspace.unlink()
        place.workspace.mkdir()
        with pytest.raises(WorkspaceReplacedError):
            snapshots.take("auto")
    # Whoever opens it anew sees what is there now, and the snapshots of before.
    with place.open() as snapshots:
        assert snapshots.take("auto", dirty=Dirty()).files_count == 0
        assert len(snapshots.list()) == 2


def test_all_files_at_once_need_an_explicit_yes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(place.workspace))
    with pytest.raises(BroadWorkspaceError):
        place.open()
    place.state = place.workspace / ".local/state"
    with Snapshots.open(str(place.state), str(place.workspace), broad=True) as snapshots:
        place.write("a")
        taken = snapshots.take("auto")
        assert taken.unprotected == (Unprotected(b".local/state", "excluded"),)
        assert snapshots.take("auto").root == taken.root


@pytest.mark.parametrize("what", ["open", "symlink"])
def test_a_store_that_is_not_ours_alone_is_refused(place: Place, what: str) -> None:
    place.state.mkdir(mode=0o700)
    if what == "open":
        (place.state / "snapshots").mkdir()
        (place.state / "snapshots").chmod(0o750)
    else:
        (place.base / "other").mkdir(mode=0o700)
        (place.state / "snapshots").symlink_to(place.base / "other")
    with pytest.raises(StoreError):
        place.open()


def test_a_store_is_closed_to_others(place: Place) -> None:
    place.write("a")
    with place.open() as snapshots:
        snapshots.take("auto")
    store = place.state / "snapshots"
    paths = [store, *store.rglob("*")]
    assert len(paths) > 5
    assert {path.stat().st_mode & 0o077 for path in paths} == {0}


def test_snapshots_are_found_by_what_identifies_them(place: Place) -> None:
    with place.open() as snapshots:
        first = snapshots.take("named", name="before")
        last = snapshots.take("after-call", call="c1")
        assert snapshots.get("before") == snapshots.get(first.id[:15]) == snapshots.get(first.id)
        assert snapshots.get("latest") == last
        assert snapshots.list() == (last, first)
        assert snapshots.list(limit=1) == (last,)
        for unknown in ("abc", "0123456789abcdef", "", "*", "%"):
            with pytest.raises(NoSuchSnapshotError):
                snapshots.get(unknown)
        ids = {snapshots.take("auto", dirty=Dirty()).id[:4] for _ in range(700)}
        taken = [each.id for each in snapshots.list()]
        doubled = next((i for i in ids if sum(t.startswith(i) for t in taken) > 1), None)
        if doubled is not None:
            with pytest.raises(AmbiguousIdError):
                snapshots.get(doubled)


def test_text_is_compared_as_text_and_the_rest_is_only_named(place: Place) -> None:
    place.write("text", "one\r\ntwo\n\xff")
    place.write("binary", b"\0a")
    with place.open() as snapshots:
        first = snapshots.take("auto")
        place.write("text", b"one\ntwo\n\xfe")
        place.write("binary", b"\0ab")
        second = snapshots.take("auto")
        text = snapshots.text_diff(first.id, second.id, b"text")
        assert "-one\\r\n+one\n two\n" in text.text
        assert "+\\xfe" in text.text
        assert not text.binary
        assert snapshots.text_diff(first.id, second.id, b"text", bytes_max=20).cut
        binary = snapshots.text_diff(first.id, second.id, b"binary")
        assert (binary.binary, binary.text) == (True, "binary files differ (2 -> 3 bytes)\n")
        with pytest.raises(FileNotFoundError):
            snapshots.text_diff(first.id, second.id, b"text/more")


def test_two_with_one_workspace_take_turns(place: Place) -> None:
    for number in range(200):
        place.write(f"{number}/file", str(number))
    taken: list[str] = []

    def work() -> None:
        with place.open() as snapshots:
            taken.extend(snapshots.take("auto").root for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 15
    assert len(set(taken)) == 1


def test_many_who_are_the_first_make_one_store(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}" / place_of.DIRECTORY).mkdir(parents=True)
        start = threading.Barrier(8)

        def connect(state: str = f"{tmp_path}/{number}", start: threading.Barrier = start) -> None:
            start.wait()
            database.connect(state).close()

        with ThreadPoolExecutor(8) as threads:
            for each in [threads.submit(connect) for _ in range(8)]:
                each.result()


@pytest.mark.linux  # macOS has no names that aren't UTF-8
def test_a_name_is_text_and_an_exclusion_may_be_bytes(place: Place) -> None:
    place.write("a")
    (place.workspace / os.fsdecode(b"\xff\xfe")).write_text("left out")
    with place.open(os.fsdecode(b"\xff\xfe")) as snapshots:
        taken = snapshots.take("auto")
        assert [each.path for each in taken.unprotected] == [b"\xff\xfe"]
        with pytest.raises(SnapshotError, match="text"):
            snapshots.take("named", name="\udcff")
        with pytest.raises(NoSuchSnapshotError):
            snapshots.get("\udcff")


NAMED: dict[str, Callable[[Path], object]] = {
    "write": lambda d: (d / "a").write_text("other and longer"),
    "create": lambda d: (d / "new").write_text("new"),
    "remove": lambda d: (d / "a").unlink(),
    "rename": lambda d: (d / "a").rename(d / "new"),
    "rename over": lambda d: (d / "a").rename(d / "b"),
    "chmod": lambda d: (d / "a").chmod(0o600),
    "touch": lambda d: os.utime(d / "a", (1, 1)),
    "a link": lambda d: ((d / "a").unlink(), (d / "a").symlink_to("b")),
    "a FIFO": lambda d: ((d / "a").unlink(), os.mkfifo(d / "a")),
    "a directory": lambda d: ((d / "a").unlink(), (d / "a/x").mkdir(parents=True)),
    "a file for a directory": lambda d: ((d / "sub").rmdir(), (d / "sub").write_text("file")),
    "no directory": lambda d: (d / "sub").rmdir(),
    "a socket": lambda d: ((d / "a").unlink(), bound(d / "a")),
    "another name": lambda d: (d / "new").hardlink_to(d / "a"),
    "closed": lambda d: (d / "a").chmod(0),
    "everything": lambda d: [p.unlink() for p in d.iterdir() if p.is_file()],
}


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        # A socket's path may be shorter than where tests are.
        os.chdir(path.parent)
        made.bind(path.name)


@pytest.mark.claim("undo.complete")
@pytest.mark.parametrize("name", NAMED)
def test_files_that_are_named_are_looked_at_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(place.workspace)
    for each in ("d/a", "d/b", "other/c", "top"):
        place.write(each)
    (place.workspace / "d/sub").mkdir()
    with place.open() as snapshots:
        before = snapshots.take("auto")
        NAMED[name](place.workspace / "d")
        names = {b"d/a", b"d/b", b"d/new", b"d/sub"}
        told = snapshots.take("auto", dirty=Dirty(rehash=frozenset(names)))
        whole = snapshots.take("auto")
        assert told.root == whole.root != before.root
        assert (told.files_count, told.bytes_total) == (whole.files_count, whole.bytes_total)
        assert told.unprotected == whole.unprotected
        # And from there as well.
        place.write("d/b", "once more")
        (place.workspace / "d/later").write_text("later")
        told = snapshots.take("auto", dirty=Dirty(rehash=frozenset({b"d/b", b"d/later"})))
        assert told.root == snapshots.take("auto").root != whole.root


def test_no_file_is_looked_at_but_those_that_are_named(place: Place) -> None:
    for each in ("d/a", "d/b"):
        place.write(each)
    with place.open() as snapshots:
        snapshots.take("auto")
        place.write("d/a", "changed")
        place.write("d/b", "changed and not told")
        snapshots.take("auto", dirty=Dirty(rehash=frozenset({b"d/a"})))
        assert changes(snapshots) == [(b"d/a", "modified")]


@pytest.mark.claim("undo.complete")
@pytest.mark.parametrize("kind", ["file", "fifo", "symlink"])
def test_another_name_is_found_at_both_though_one_alone_is_told(place: Place, kind: str) -> None:
    first, second = place.workspace / "one" / "first", place.workspace / "two" / "second"
    first.parent.mkdir()
    second.parent.mkdir()
    if kind == "file":
        first.write_text("before")
    elif kind == "fifo":
        os.mkfifo(first)
    else:
        first.symlink_to("nowhere")
    with place.open() as snapshots:
        snapshots.take("auto")
        os.link(first, second, follow_symlinks=False)
        # An event tells of the new name alone.
        told = snapshots.take("auto", dirty=Dirty(rehash=frozenset({b"two/second"})))
        assert told.root == snapshots.take("auto").root
        if kind == "file":
            second.write_text("through the other name")
        else:
            os.utime(second, (1, 1), follow_symlinks=False)
        told = snapshots.take("auto", dirty=Dirty(rehash=frozenset({b"two/second"})))
        assert told.root == snapshots.take("auto").root
        before = seen(place.workspace)
        first.unlink()
        second.unlink()
        assert snapshots.restore(snapshots.plan(told.id)).verified
        assert seen(place.workspace) == before
        assert first.lstat().st_ino == second.lstat().st_ino
        # Of what has a name outside, all names are never known: that is settled by one look.
        os.link(first, place.base / "outside", follow_symlinks=False)
        told = snapshots.take("auto", dirty=Dirty())
        assert told.root == snapshots.take("auto").root


def test_deep_down_there_may_be_many_directories_beside_each_other(place: Place) -> None:
    deep = place.workspace.joinpath(*["d"] * (OPEN_MAX + 6))
    for name in ("a/b/c", "d/e/f", "g/h"):
        (deep / name).mkdir(parents=True)
        (deep / name / "file").write_text(name)
        (deep.parent.parent / name).mkdir(parents=True)
    before = seen(place.workspace)
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        assert taken.files_count == 3
        shutil.rmtree(place.workspace / "d")
        assert snapshots.restore(snapshots.plan(taken.id)).verified
        assert seen(place.workspace) == before
