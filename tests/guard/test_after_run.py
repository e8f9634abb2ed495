"""What a program planted that nobody looked before is told by the times that no program sets."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nono_mcp.guard import after_run, directory_identity, directory_listings, judging_run, times
from tests.guard.conftest import git, seen
from tests.guard.runs import APART_NS, SETTLED_NS, Runs
from tests.guard.test_names import INNER
from tests.guard.test_subtree_guard import BARE, EVERYDAY, EVIL, INIT
from tests.guard.test_subtree_guard import PLANTED as BENEATH

PLANTED = BENEATH | INNER

pytestmark = [pytest.mark.linux, pytest.mark.claim("guard.after-run")]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setattr(after_run, "LOOK_S", 600.0)
    (tmp_path / "work").mkdir()
    return Runs(tmp_path)


def test_what_is_planted_is_taken_away(runs: Runs) -> None:
    runs.outside("".join(f"mkdir -p {n}/d; " for n in range(len(PLANTED))))
    script = "".join(f"(cd {n} && {one}); " for n, one in enumerate(PLANTED.values()))
    expected = sorted(f"removed {n}/{path}" for n, path in enumerate(PLANTED))
    assert runs.run(script) == expected
    assert all(os.path.lexists(one.kept_in) for one in runs.actions)
    assert not [n for n, p in enumerate(PLANTED) if os.path.lexists(runs.work / f"{n}/{p}")]


BEFORE = f"""
    mkdir -p hooked/.git d code/vscode payload/git/hooks payload/bare/hooks more
    {INIT}
    echo evil > payload/hook
    echo evil > payload/git/hooks/post-checkout
    {EVIL} > payload/git/config
    echo ref: refs/heads/main > payload/git/HEAD
    mkdir payload/git/objects payload/git/refs payload/git/info
    cp -r payload/git/. payload/bare
    rm -r payload/bare/objects payload/bare/refs payload/git/HEAD
    echo evil > code/vscode/tasks.json
    rm -rf more/.git; git init -q more; rm -r more/.git/hooks
    cp -r payload/git/hooks payload/hooks
"""
OLDER = {
    "removed sub/.git/hooks/post-checkout": "mv payload/hook sub/.git/hooks/post-checkout",
    "removed d/.envrc": "ln payload/hook d/.envrc",
    "removed sub/.git/hooks/pre-push": "cp -p payload/hook sub/.git/hooks/pre-push",
    "removed payload/bare/HEAD": "mkdir payload/bare/objects payload/bare/refs",
    "removed d/.vscode": "mv code/vscode d/.vscode",
    "left more/.git/hooks/post-checkout": "mv payload/hooks more/.git/hooks",
    "left hooked/.git/config,left hooked/.git/hooks/post-checkout": (
        "rmdir hooked/.git && mv payload/git hooked/.git && echo x > hooked/.git/HEAD"
    ),
}


@pytest.mark.parametrize(("expected", "script"), OLDER.items(), ids=OLDER.values())
def test_what_is_older_and_moved_there_is_taken_away_or_told(
    runs: Runs, expected: str, script: str
) -> None:
    """Where an older run had prepared it, under names by which nothing is guarded."""
    runs.outside(BEFORE)
    runs.settle(SETTLED_NS)
    assert runs.run("true") == []
    assert runs.run(script, looked=True) == expected.split(",")


def test_a_directory_moved_there_in_the_first_run_is_told(runs: Runs) -> None:
    runs.outside(BEFORE)
    assert runs.run("mv code/vscode d/.vscode") == ["left d/.vscode"]
    assert (runs.work / "d" / ".vscode" / "tasks.json").exists()
    # By what was kept of that, it has been there.
    assert runs.run("touch d/file d/.vscode/new") == ["removed d/.vscode/new"]


CHANGED = {
    "left d/.npmrc": "echo evil > d/.npmrc",
    "left d/.vscode": "echo evil > d/.vscode/tasks.json",
    "removed d/.vscode/new": "echo evil > d/.vscode/new; mkdir d/x",
    "removed d/.vscode/tasks.json": "echo evil > d/t && mv d/t d/.vscode/tasks.json",
    "left sub/.git/config": "git -C sub config core.fsmonitor evil",
    "left sub/.git/hooks/post-commit": "chmod +x sub/.git/hooks/post-commit",
    "left bare.git/config": f"{EVIL} >> bare.git/config",
    "removed bare.git/hooks/update": "echo evil > bare.git/hooks/update",
    "removed sub/.git/config.worktree": f"{EVIL} > sub/.git/config.worktree",
}


@pytest.mark.parametrize("known", [False, True], ids=["first", "second"])
def test_of_what_was_there_only_what_is_new_goes(runs: Runs, known: object) -> None:
    runs.outside(f"mkdir -p d/.vscode; {INIT}; git init -q --bare bare.git")
    runs.outside("cd d; echo mine > .npmrc; echo mine > .vscode/tasks.json")
    runs.outside("git -C sub config alias.x '!mine'; echo mine > sub/.git/hooks/post-commit")
    if known:
        assert runs.run("true") == []
    for expected, script in CHANGED.items():
        assert (script, runs.run(script)) == (script, [expected])
        runs.outside("rm -rf d/x d/t; echo mine > d/.vscode/tasks.json")
    assert (runs.work / "d" / ".npmrc").read_text() == "evil\n"
    assert "mine" in (runs.work / "sub" / ".git" / "config").read_text()


def test_what_is_the_persons_stays_and_nothing_is_said(runs: Runs) -> None:
    runs.outside(f"mkdir -p d/.vscode; {INIT}; {BARE}; git init -q --bare bare.git; mkdir shut")
    runs.outside("cd d; echo mine > .npmrc; echo mine > .vscode/tasks.json")
    for name in ("sub/.git", "bare.git"):
        runs.outside(f"{EVIL} >> {name}/config; echo mine > {name}/hooks/post-commit")
    runs.outside("echo mine > shut/.envrc; chmod 0 shut")
    before = seen(runs.work / "d"), seen(runs.work / "sub" / ".git" / "hooks")
    for script in (
        "true",
        "touch d/file sub/file bare.git/x; rm d/file",
        EVERYDAY,
        "rm -r d/.npmrc",
    ):
        if "rm -r " not in script:
            assert (seen(runs.work / "d"), seen(runs.work / "sub" / ".git" / "hooks")) == before
        assert (script, runs.run(script)) == (script, [])
    assert (runs.work / "shut").stat().st_mode & 0o777 == 0
    (runs.work / "shut").chmod(0o700)
    assert git(runs.work / "of-bare", "log", "-1", "--format=%s") == "more\n"


def test_what_was_shut_before_is_looked_into_if_a_program_could_be(runs: Runs) -> None:
    runs.outside("mkdir -p shut/d half/d; chmod 0 shut; chmod 0300 half")
    assert runs.run(
        "mkdir -p ro/d/e; echo a > ro/d/e/.npmrc; echo b > ro/.envrc; chmod 0400 ro"
    ) == [
        "removed ro/.envrc",
        "removed ro/d/e/.npmrc",
    ]
    assert runs.run("echo evil > half/d/.envrc") == ["removed half/d/.envrc"]
    script = "chmod 700 shut; echo evil > shut/d/.npmrc; chmod 0 shut"
    assert runs.run(script) == ["removed shut/d/.npmrc"]


def test_a_copy_of_what_is_the_persons_stays(runs: Runs) -> None:
    runs.outside("mkdir -p a/.vscode; echo mine > a/.vscode/tasks.json; echo top > .npmrc")
    assert runs.run("cp -r a b; mv a c; mkdir d; cp .npmrc d") == []
    assert runs.run("echo evil >> b/.vscode/more") == ["removed b/.vscode/more"]


def test_what_is_given_up_may_be_made(runs: Runs) -> None:
    given_up = (f"{runs.work}/d/.envrc",)
    assert runs.run("mkdir d; echo x > d/.envrc; echo x > d/.npmrc", given_up) == [
        "removed d/.npmrc"
    ]


def test_packages_are_told_of(runs: Runs) -> None:
    runs.outside("mkdir -p node_modules/old; echo old > node_modules/old/.npmrc")
    assert runs.run("mkdir -p node_modules/p; echo new > node_modules/p/.npmrc") == [
        "left node_modules"
    ]
    assert "1 of them" in runs.actions[0].what


def test_where_nothing_changed_nothing_is_listed(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.outside("mkdir -p a/b/c d; echo mine > d/.npmrc")
    runs.settle(directory_listings.SETTLED_NS)
    assert runs.run("true") == []

    def never(*_: object) -> bool:
        raise AssertionError

    monkeypatch.setattr(directory_listings.Listing, "renew", never)
    assert runs.run("true") == []
    # What stands there is looked at all the same.
    assert runs.run("echo evil > d/.npmrc") == ["left d/.npmrc"]
    with pytest.raises(AssertionError):
        runs.run("echo evil > a/b/c/.envrc")
    monkeypatch.undo()
    assert runs.run("echo more > a/b/c/.npmrc") == ["removed a/b/c/.npmrc"]


def test_what_was_changed_just_before_it_was_listed_is_listed_again(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be changed once more in the same tick of the clock that files have."""
    runs.outside("mkdir a")

    def known() -> set[bool]:
        kept = directory_listings.Listing(str(runs.work.parent / "state"), str(runs.work))
        return {one.changed_ns != 0 for one in kept.before.values()}

    for settled_ns in (10**13, -(10**13)):
        monkeypatch.setattr(directory_listings, "SETTLED_NS", settled_ns)
        assert runs.run("touch a/file") == []
        assert known() == {settled_ns < 0}


def test_what_takes_too_long_is_told_and_goes_further_the_next_time(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.outside("mkdir -p a/b/c d/e")
    with monkeypatch.context() as patched:
        patched.setattr(after_run, "LOOK_S", -1.0)
        runs.run("touch a/b/c/file")
    (action,) = runs.actions
    assert (action.path, action.why) == (str(runs.work), after_run.SLOW)
    assert runs.run("echo evil > d/e/.envrc") == ["removed d/e/.envrc"]


def test_where_no_listing_can_be_kept_all_is_looked_at(runs: Runs) -> None:
    (runs.work.parent / "state").mkdir()
    (runs.work.parent / "state" / directory_listings.FOLDER).write_text("in the way")
    for name in ("a", "b"):
        script = f"mkdir {name}; echo {name} > {name}/.envrc"
        assert runs.run(script) == [f"removed {name}/.envrc"]


def test_a_damaged_listing_counts_for_nothing(runs: Runs) -> None:
    assert runs.run("mkdir a") == []
    (file,) = (runs.work.parent / "state" / directory_listings.FOLDER).iterdir()
    data = file.read_bytes()
    for damaged in (b"", data[:-3], data[:40] + b"x" + data[41:]):
        file.write_bytes(damaged)
        runs.outside("rm -rf a; mkdir a")
        assert runs.run("echo evil > a/.envrc") == ["removed a/.envrc"]


def test_a_clock_that_was_set_back_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    began = times.Began()
    now_ns, since_ns = time.time_ns, began.since_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() - 10**10)
    assert began.since_ns() < since_ns - 9 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + 10**10)
    assert 0 <= began.since_ns() - since_ns + APART_NS <= 2 * APART_NS
    monkeypatch.undo()
    assert times.now_ns() - since_ns >= 0


def test_the_workspace_is_the_nearest_that_may_be_written() -> None:
    roots = [("/", None), ("/home/ann", None), ("/home/ann/work", None), ("/srv", None)]
    where = after_run._beneath  # noqa: SLF001
    assert where(roots, "/home/ann/work/sub", "/home/ann") == "/home/ann/work"
    assert where(roots, "/home/ann/worker", "/home/ann") == ""
    assert where(roots[1:], "/etc", "/home/ann") == ""
    assert where(roots, "/etc", "/home/ann") == "/"


def test_where_times_are_whole_seconds_what_came_in_the_same_second_is_told(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On ext4 with small inodes a file has no birth, and the time of the second it came in."""
    cut_ns = 10**9
    runs.outside("mkdir a")
    monkeypatch.setattr(times, "apart_ns", lambda _fd, _born_ns: cut_ns)
    monkeypatch.setattr(directory_identity, "birth_ns", lambda _fd: 0)
    began = times.Began()
    began.count(cut_ns)
    assert not began.since_ns() % cut_ns
    assert 0 <= times.now_ns() - began.since_ns() < 2 * cut_ns
    assert runs.run("echo evil > a/.envrc") == ["left a/.envrc"]


def test_small_inodes_are_told_by_the_births_that_they_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ext4, fat = 0xEF53, 0x4D44
    root = os.open(tmp_path, os.O_RDONLY)
    try:
        for kind, born_ns, apart_ns in ((ext4, 0, 10**9), (ext4, 1, 1), (fat, 1, 2 * 10**9)):
            monkeypatch.setattr(times, "file_system", lambda _fd, kind=kind: kind)
            assert times.apart_ns(root, born_ns) == apart_ns
    finally:
        os.close(root)


def test_a_directory_that_went_is_no_failure_of_the_look(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the one it was in has the same time still: it went in the same second."""
    runs.outside("mkdir -p a/b")
    assert runs.run("true") == []
    kept = directory_listings.Listing(str(runs.work.parent / "state"), str(runs.work))
    (runs.work / "a/b").rmdir()
    monkeypatch.setattr(kept.directories["a"], "changed_ns", os.lstat(runs.work / "a").st_ctime_ns)
    assert not kept.is_as_it_was()


@pytest.mark.parametrize("asked_max", [0, 2, 5, 7])
def test_what_nobody_waits_for_is_told_and_left_whole(runs: Runs, asked_max: int) -> None:
    runs.outside("mkdir 0 1 2 3")
    script = "for n in 0 1 2 3; do echo evil >$n/.envrc; done"
    done = runs.run(script, asked_max=asked_max)
    # Each is asked for once before it's looked at, and once before it's judged.
    removed_count = max(0, asked_max - 4)
    assert [one.split()[0] for one in done].count("removed") == removed_count
    assert sorted(one.split()[1] for one in done) == [f"{n}/.envrc" for n in range(4)]
    for one in runs.actions:
        where = one.kept_in or one.path
        assert Path(where).read_text() == "evil\n"
        assert one.kept_in or one.why == judging_run.CUT_SHORT
    # What was there by then is the person's, and stays even if it's changed.
    left = [one.path for one in runs.actions if not one.kept_in]
    assert runs.run("for n in */.envrc; do echo more >>$n; done") == sorted(
        f"left {path[len(f'{runs.work}/') :]}" for path in left
    )
