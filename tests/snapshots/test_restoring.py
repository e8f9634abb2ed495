"""What a restore touches, and what it leaves alone or refuses."""

import errno
import os
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from nono_mcp.snapshots import applying, staging, trees, upkeep
from nono_mcp.snapshots.errors import (
    DamagedStoreError,
    NothingToRestoreError,
    StagingError,
    StalePlanError,
)
from nono_mcp.snapshots.snapshots import Snapshots
from nono_mcp.snapshots.store import Store
from nono_mcp.snapshots.values import Conflict, Dirty, Snapshot
from nono_sandbox import opath
from tests.snapshots.state import Place, seen


def call(snapshots: Snapshots, name: str, act: object) -> tuple[Snapshot, Snapshot]:
    """Take the snapshots around a call that does *act*."""
    before = snapshots.take("before-call", call=name)
    assert callable(act)
    act()
    return before, snapshots.take("after-call", call=name)


def test_only_the_given_paths_are_restored(place: Place) -> None:
    for name in ("a/one", "a/two", "b/one", "top"):
        place.write(name)
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        subprocess.run(["rm", "-rf", str(place.workspace / "a")], check=True)
        place.write("b/one", "changed")
        place.write("top", "changed")
        place.write("new", "new")
        plan = snapshots.plan(taken.id, scope="paths", paths=["a/one", "b"])
        outcome = snapshots.restore(plan)
        assert outcome.verified, outcome.conflicts
        assert sorted(outcome.restored) == [b"a", b"a/one", b"b/one"]
        assert outcome.removed == ()
        found = {os.fsdecode(path) for path in seen(place.workspace)}
        assert found == {".", "a", "a/one", "b", "b/one", "top", "new"}
        assert (place.workspace / "top").read_text() == "changed"
        with pytest.raises(NothingToRestoreError):
            snapshots.restore(snapshots.plan(taken.id, scope="paths", paths=["nowhere/*.c"]))


def test_a_path_whose_directory_is_a_file_now_is_kept_from(place: Place) -> None:
    place.write("a/one")
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        (place.workspace / "a/one").unlink()
        (place.workspace / "a").rmdir()
        place.write("a", "the person's own")
        plan = snapshots.plan(taken.id, scope="paths", paths=["a/one"])
        assert plan.kept == (Conflict(b"a/one", "something else is where its directory was"),)
        with pytest.raises(NothingToRestoreError) as caught:
            snapshots.restore(plan)
        assert caught.value.kept == plan.kept
        assert (place.workspace / "a").read_text() == "the person's own"


def test_what_calls_changed_is_undone_and_the_persons_own_edits_stay(place: Place) -> None:
    for name in ("both", "agent", "person", "gone", "twice"):
        place.write(name)
    w = place.workspace
    with place.open() as snapshots:
        start = snapshots.take("auto")

        def first() -> None:
            place.write("both", "agent's")
            place.write("agent", "agent's")
            place.write("twice", "agent's first")
            (w / "gone").unlink()
            place.write("made/by/agent")

        call(snapshots, "1", first)
        place.write("person", "person's")
        place.write("both", "agent's, then person's")
        place.write("made/by/person")
        call(snapshots, "2", lambda: place.write("twice", "agent's second"))
        plan = snapshots.plan(start.id, scope="agent")
        reasons = {conflict.path: conflict.why for conflict in plan.kept}
        assert reasons == {
            b"both": "changed by somebody else too",
            b"made": "holds what isn't part of this",
            b"made/by": "holds what isn't part of this",
        }
        outcome = snapshots.restore(plan)
        assert outcome.verified, outcome.conflicts
        assert outcome.kept == plan.kept
        contents = {
            os.fsdecode(path): (w / os.fsdecode(path)).read_text()
            for path, (mode, *_) in seen(w).items()
            if isinstance(mode, int) and mode & 0o170000 == 0o100000
        }
        assert contents == {
            "agent": "content\n",
            "both": "agent's, then person's",
            "gone": "content\n",
            "made/by/person": "content\n",
            "person": "person's",
            "twice": "content\n",
        }
        with pytest.raises(NothingToRestoreError):
            snapshots.restore(snapshots.plan(start.id, scope="agent"))


def test_a_call_without_an_end_is_said(place: Place) -> None:
    with place.open() as snapshots:
        before = snapshots.take("before-call", call="lost")
        place.write("a")
        snapshots.take("auto")
        plan = snapshots.plan(before.id, scope="agent")
        assert plan.nothing
        assert "call lost has no snapshot after it" in plan.kept[0].why


def test_a_change_between_two_calls_is_a_conflict_of_both(place: Place) -> None:
    place.write("a", "0")
    with place.open() as snapshots:
        before, _ = call(snapshots, "1", lambda: place.write("a", "1"))
        place.write("a", "person's")
        call(snapshots, "2", lambda: place.write("a", "2"))
        plan = snapshots.plan(before.id, scope="agent")
        assert plan.kept == (Conflict(b"a", "changed by somebody else too"),)


def test_what_is_excluded_is_never_touched(place: Place) -> None:
    place.write("src/a")
    place.write("node_modules/x", "as it was")
    with place.open("node_modules") as snapshots:
        taken = snapshots.take("auto")
        place.write("node_modules/x", "as it is")
        place.write("new/node_modules/y", "in what is removed")
        place.write("new/z")
        (place.workspace / "src/a").unlink()
        plan = snapshots.plan(taken.id)
        assert plan.kept == (Conflict(b"new", "holds what isn't protected"),)
        outcome = snapshots.restore(plan)
        assert outcome.verified, outcome.conflicts
        assert {each.path for each in outcome.unprotected} == {b"node_modules", b"new/node_modules"}
        assert (place.workspace / "node_modules/x").read_text() == "as it is"
        assert (place.workspace / "new/node_modules/y").read_text() == "in what is removed"
        assert not (place.workspace / "new/z").exists()
    # What was excluded then isn't removed for not having been kept, nor is what is excluded now.
    with place.open("src") as snapshots:
        place.write("src/a", "kept")
        place.write("other")
        outcome = snapshots.restore(snapshots.plan(taken.id))
        assert outcome.verified, outcome.conflicts
        assert (place.workspace / "src/a").read_text() == "kept"
        assert (place.workspace / "node_modules/x").read_text() == "as it is"


def test_a_plan_for_another_state_is_refused(place: Place) -> None:
    place.write("a", "1")
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        place.write("a", "2")
        plan = snapshots.plan(taken.id)
        place.write("a", "3")
        before, count = seen(place.workspace), len(snapshots.list())
        with pytest.raises(StalePlanError):
            snapshots.restore(plan)
        assert seen(place.workspace) == before
        assert len(snapshots.list()) == count


def test_with_what_a_watcher_tells_no_more_than_that_is_looked_at(place: Place) -> None:
    for number in range(30):
        place.write(f"{number}/file")
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        place.write("7/file", "changed")
        told = Dirty(relist=frozenset({b"7"}))
        plan = snapshots.plan(taken.id, dirty=told)
        outcome = snapshots.restore(plan, dirty=Dirty)
        assert outcome.verified, outcome.conflicts
        assert outcome.root == taken.root == snapshots.take("auto").root


def test_sockets_that_calls_left_go_with_their_directories(place: Place) -> None:
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        (place.workspace / "run").mkdir()
        with socket.socket(socket.AF_UNIX) as listener:
            cwd = Path.cwd()
            os.chdir(place.workspace / "run")
            try:
                listener.bind("s")
            finally:
                os.chdir(cwd)
        outcome = snapshots.restore(snapshots.plan(taken.id))
        assert outcome.verified, outcome.conflicts
        assert list(place.workspace.iterdir()) == []


def marked(letter: str, path: Path) -> bool:
    """Have nobody change what is at *path*; tell whether that's ours to say, and is said there."""
    done = subprocess.run(["chattr", f"+{letter}", str(path)], check=False, capture_output=True)
    return done.returncode == 0


@pytest.mark.linux
@pytest.mark.parametrize(
    ("letter", "name", "changed", "is_refused"),
    [
        ("i", "a/one", "a/one", True),
        ("a", "a/one", "a/one", True),
        ("i", "a", "a/one", True),
        ("a", "a", "a/one", True),
        ("i", ".", "top", True),
        ("i", "a/two", "a/one", False),
        ("i", "a", "top", False),
        ("i", "a/new", "a/new", True),
    ],
)
def test_what_nobody_can_change_is_found_before_anything_is(
    place: Place, letter: str, name: str, changed: str, *, is_refused: bool
) -> None:
    for each in ("a/one", "a/two", "top"):
        place.write(each)
    path = place.workspace / name
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        place.write("0 first", "new")
        place.write(changed, "changed")
        before = seen(place.workspace)
        # Of an ordinary user, or where a file system knows no such thing, nothing is refused.
        is_fixed = marked(letter, path)
        try:
            plan = snapshots.plan(taken.id, scope="paths", paths=["0 first", changed])
            if is_fixed and is_refused:
                with pytest.raises(StagingError, match=r"can't be changed by anybody: chattr"):
                    snapshots.restore(plan)
                assert seen(place.workspace) == before
                subprocess.run(["chattr", f"-{letter}", str(path)], check=True)
                plan = snapshots.plan(taken.id, scope="paths", paths=["0 first", changed])
            outcome = snapshots.restore(plan)
            assert outcome.verified, outcome.conflicts
        finally:
            if is_fixed:
                subprocess.run(["chattr", f"-{letter}", str(path)], check=False)


def test_a_file_that_its_owner_may_not_read_is_set_in_its_place(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []

    def reopened(fd: int, flags: int) -> int:
        # Root may read it in any case.
        modes.append(stat.S_IMODE(os.fstat(fd).st_mode))
        return opath.reopen(fd, flags)

    monkeypatch.setattr(applying, "reopen", reopened)
    place.write("a")
    before = seen(place.workspace)
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        (place.workspace / "a").chmod(0)
        assert snapshots.restore(snapshots.plan(taken.id)).verified
    assert seen(place.workspace) == before
    assert modes == [0o600]


def damage(place: Place) -> None:
    for pack in (place.state / "snapshots/packs").iterdir():
        data = bytearray(pack.read_bytes())
        data[:] = bytes(byte ^ 0xFF for byte in data)
        pack.write_bytes(data)


def test_a_damaged_store_refuses_and_names_the_files(place: Place) -> None:
    place.write("a/one", os.urandom(100_000))
    with place.open() as snapshots:
        taken = snapshots.take("auto")
    healthy = {p: p.read_bytes() for p in (place.state / "snapshots/packs").iterdir()}
    place.write("a/one", "changed")
    place.write("new")
    before = seen(place.workspace)
    with place.open() as snapshots:
        plan = snapshots.plan(taken.id)
        [(pack, data)] = healthy.items()
        # The first frame holds the content; the last byte of it is enough.
        pack.write_bytes(data[:50_000] + bytes([data[50_000] ^ 1]) + pack.read_bytes()[50_001:])
        with pytest.raises(DamagedStoreError, match="a/one") as caught:
            snapshots.restore(plan)
        assert caught.value.damage[0].paths == ("a/one",)
        assert seen(place.workspace) == before
        assert [p.name for p in place.base.iterdir() if "restore" in p.name] == []
        damage(place)
        with pytest.raises(DamagedStoreError):
            snapshots.plan(taken.id)
        assert seen(place.workspace) == before


def lose_tree(place: Place, taken: Snapshot, name: bytes) -> None:
    """Have the store know nothing any more of what was in the directory *name*."""
    with Store(str(place.state)) as store:
        top = store.objects.root(bytes.fromhex(taken.root)).entry
        entry = trees.decode_tree(store.objects.tree(top.target))[name]
        store.db.execute("DELETE FROM objects WHERE id = ?", (entry.target,))


def test_a_directory_that_is_lost_is_named_and_all_else_can_be_restored(place: Place) -> None:
    for name in ("lost/deep/file", "other/file", "top"):
        place.write(name, name)
    with place.open() as snapshots:
        taken = snapshots.take("auto")
    lose_tree(place, taken, b"lost")
    for name in ("lost/deep/file", "other/file", "top"):
        place.write(name, "changed")
    before = seen(place.workspace)
    with place.open() as snapshots:
        for wanted in ([], ["lost", "top"]):
            with pytest.raises(DamagedStoreError, match=r"\(lost\); what lies elsewhere") as caught:
                snapshots.plan(taken.id, scope="paths" if wanted else "everything", paths=wanted)
            assert caught.value.damage[0].paths == ("lost",)
        assert seen(place.workspace) == before
        plan = snapshots.plan(taken.id, scope="paths", paths=["other", "top"])
        outcome = snapshots.restore(plan)
        assert outcome.verified, outcome.conflicts
        assert [conflict.path for conflict in outcome.kept] == [b"lost"]
    texts = [
        (place.workspace / name).read_text() for name in ("lost/deep/file", "other/file", "top")
    ]
    assert texts == ["changed", "other/file", "top"]
    named = {path for each in upkeep.verify(str(place.state)).damage for path in each.paths}
    assert named == {f"{taken.id}:lost"}


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_while_it_is_prepared_leaves_all_as_it_was(
    place: Place, monkeypatch: pytest.MonkeyPatch, number: int, *, inside: bool
) -> None:
    for name in ("a", "b", "c"):
        place.write(name)
    pwrite, count = os.pwrite, 0

    def full(fd: int, data: bytes, offset: int) -> int:
        nonlocal count
        count += 1
        if count == 2:
            raise OSError(number, os.strerror(number))
        return pwrite(fd, data, offset)

    with place.open() as snapshots:
        taken = snapshots.take("auto")
        for name in ("a", "b", "c"):
            place.write(name, "changed")
        os.utime(place.workspace, (1, 1))
        before = seen(place.workspace)
        plan = snapshots.plan(taken.id)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            if inside:
                patch.setattr(staging, "_mount", os.fstat)
            with pytest.raises(StagingError):
                _without_store_writes(snapshots, plan, patch)
        assert count == 2
        assert seen(place.workspace) == before
        assert len(list(place.base.iterdir())) == 2
        assert snapshots.restore(snapshots.plan(taken.id)).verified


def test_a_restore_that_would_fill_the_disk_is_not_begun(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write("a", "x" * 5000)
    fstatvfs = os.fstatvfs

    def nearly_full(fd: int) -> object:
        free = list(fstatvfs(fd))
        free[1], free[4] = 1, 4999  # f_frsize and f_bavail
        return os.statvfs_result(free)

    with place.open() as snapshots:
        taken = snapshots.take("auto")
        place.write("a", "changed")
        before = seen(place.workspace)
        plan = snapshots.plan(taken.id)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fstatvfs", nearly_full)
            with pytest.raises(StagingError, match="needs 5000 bytes, and 4999 are free"):
                snapshots.restore(plan)
        assert seen(place.workspace) == before


def _without_store_writes(snapshots: Snapshots, plan: object, patch: pytest.MonkeyPatch) -> None:
    from nono_mcp.snapshots import place as store_place  # noqa: PLC0415
    from nono_mcp.snapshots.values import Plan  # noqa: PLC0415

    assert isinstance(plan, Plan)

    def whole(fd: int, data: bytes, offset: int) -> None:
        os.lseek(fd, offset, os.SEEK_SET)
        os.write(fd, data)

    patch.setattr(store_place, "write_whole", whole)
    patch.setattr("nono_mcp.snapshots.packs.place.write_whole", whole)
    snapshots.restore(plan)


@pytest.mark.parametrize("mode", [0o755, 0o500])
def test_where_nothing_can_be_put_beside_it_is_prepared_inside(
    place: Place, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    place.write("a")
    place.write("b/c")
    place.workspace.chmod(mode)
    before = seen(place.workspace)
    # Each descriptor is on another mount.
    monkeypatch.setattr(staging, "_mount", lambda fd: fd)
    insides = []
    sync = staging.Staging.sync

    def prepared(self: staging.Staging) -> None:
        insides.append(self.inside)
        sync(self)

    monkeypatch.setattr(staging.Staging, "sync", prepared)
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        place.workspace.chmod(0o755)
        place.write("a", "changed")
        place.write("b/new")
        outcome = snapshots.restore(snapshots.plan(taken.id))
        assert outcome.verified, outcome.conflicts
    assert seen(place.workspace) == before
    assert insides == [True]


def test_what_changes_while_it_is_applied_is_left_alone_and_said(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        place.write(name)
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        place.write("b", "changed by the agent")
        (place.workspace / "c").unlink()
        place.write("d", "new")
        plan = snapshots.plan(taken.id)
        sync = staging.Staging.sync

        def meanwhile(self: staging.Staging) -> None:
            sync(self)
            place.write("b", "changed while it was restored")
            place.write("c", "appeared while it was restored")

        monkeypatch.setattr(staging.Staging, "sync", meanwhile)
        outcome = snapshots.restore(plan)
        assert not outcome.verified
        assert {c.path: c.why for c in outcome.conflicts} == {
            b"b": "was changed meanwhile",
            b"c": "appeared meanwhile",
        }
        assert (place.workspace / "b").read_text() == "changed while it was restored"
        assert (place.workspace / "c").read_text() == "appeared while it was restored"
        assert not (place.workspace / "d").exists()
