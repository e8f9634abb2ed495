"""What was there before a program is kept while that runs, unless it was changed by then."""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import TYPE_CHECKING

import pytest

from nono_mcp.guard import after_run, during_run, judging_spots, times
from nono_mcp.guard.finding import NAME, Found
from tests.guard.runs import Runs
from tests.guard.test_subtree_guard import EVIL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nono_mcp.guard.spots import Spot
    from nono_mcp.guard.tree import Kept, Print

pytestmark = [
    pytest.mark.linux,
    pytest.mark.exact_times,
    pytest.mark.claim("guard.after-run"),
]

RENAME_EXCHANGE = 2
ATTEMPTS = 5
LIBC = ctypes.CDLL(None, use_errno=True)
MINE = """
    mkdir -p d/.vscode e/f/.vscode d/.github/hooks node_modules/p
    for it in sub/.git bare.git
    do
        mkdir -p $it/objects $it/refs $it/hooks $it/info
        echo ref: refs/heads/main > $it/HEAD
        printf '[alias]\n\tx = !mine\n' > $it/config
    done
    for it in d/.npmrc d/.vscode/tasks.json d/.github/hooks/x.json e/f/.vscode/tasks.json \
        e/.envrc sub/.git/hooks/post-commit sub/.git/info/attributes node_modules/p/.npmrc
    do
        echo mine > $it
    done
    chmod 750 sub/.git/hooks/post-commit
"""
CHANGED = {
    "d/.npmrc": "echo evil > d/.npmrc",
    "d/.vscode": "echo evil > d/.vscode/tasks.json",
    "d/.github/hooks": "echo evil >> d/.github/hooks/x.json",
    "sub/.git/config": f"{EVIL} > new; mv new sub/.git/config",
    "sub/.git/hooks/post-commit": "truncate -s 0 sub/.git/hooks/post-commit",
    "sub/.git/info/attributes": "ln -f e/.envrc d/x; echo evil > sub/.git/info/attributes",
    "bare.git/config": f"{EVIL} >> bare.git/config",
    "e/.envrc": "ln e/.envrc link; echo evil > link",
    "e/f/.vscode": "rm -r e/f/.vscode; mkdir e/f/.vscode; echo evil > e/f/.vscode/tasks.json",
}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setattr(after_run, "LOOK_S", 600.0)
    (tmp_path / "work").mkdir()
    return Runs(tmp_path)


def contents(top: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(one.relative_to(top)): (one.read_bytes(), one.stat().st_mode)
        for one in top.rglob("*")
        if one.is_file() and one.name not in ("x", "link")
    }


@pytest.mark.parametrize("known", [False, True], ids=["first", "second"])
def test_what_is_changed_later_is_put_back(runs: Runs, known: object) -> None:
    runs.outside(MINE)
    before = contents(runs.work)
    if known:
        assert runs.run("true") == []
    script = "; ".join(CHANGED.values())
    assert runs.run(script, looked=True) == sorted(f"restored {path}" for path in CHANGED)
    assert all(os.path.lexists(one.kept_in) for one in runs.actions)
    assert contents(runs.work) == before


@pytest.mark.parametrize("known", [False, True], ids=["first", "second"])
def test_what_was_changed_by_then_is_told_and_nothing_else_is_lost(
    runs: Runs, known: object
) -> None:
    runs.outside(MINE)
    if known:
        assert runs.run("true") == []
    done = runs.run(
        f"echo worse > d/.npmrc; echo evil > e/.envrc; {EVIL} >> sub/.git/config",
        first=f"echo evil > d/.npmrc; {EVIL} >> sub/.git/config",
        looked=True,
    )
    assert done == ["left d/.npmrc", "left sub/.git/config", "restored e/.envrc"]
    assert (runs.work / "d" / ".npmrc").read_text() == "worse\n"
    assert "mine" in (runs.work / "sub" / ".git" / "config").read_text()


MOVED = {
    "d/.npmrc": ("mv e/old d/.npmrc", "echo evil >> d/.npmrc"),
    "e/f/.vscode": ("mv e/f g; mv e/p e/f", "echo evil >> e/f/.vscode/tasks.json"),
    "sub/.git/config": ("mv sub h; mv e/s sub", f"{EVIL} >> sub/.git/config"),
    "sub/.git/hooks/post-commit": (
        "mv sub/.git/hooks h; mv e/s/.git/hooks sub/.git/hooks",
        "echo evil >> sub/.git/hooks/post-commit",
    ),
}


@pytest.mark.parametrize(("path", "scripts"), MOVED.items(), ids=MOVED)
def test_what_was_moved_there_by_then_isnt_taken_for_the_persons(
    runs: Runs, path: str, scripts: tuple[str, str]
) -> None:
    runs.outside(f"{MINE}\ncp -r sub e/s; mkdir -p e/p/.vscode; echo theirs > e/old")
    runs.outside("cp e/old e/p/.vscode/tasks.json; cp e/old e/s/.git/hooks/post-commit")
    first, later = scripts
    done = runs.run(later, first=first, looked=True)
    assert f"restored {path}" not in done
    assert {f"left {path}", f"removed {path}"} & set(done)


def test_a_change_that_wouldnt_be_undone_isnt_told(runs: Runs) -> None:
    runs.outside(MINE)
    script = "printf '[remote \"origin\"]\\n\\turl = https://example.com/x\\n' >> sub/.git/config"
    assert runs.run(script, looked=True) == []
    assert "example.com" in (runs.work / "sub" / ".git" / "config").read_text()


def test_what_is_new_beside_it_goes_and_what_is_removed_stays_so(runs: Runs) -> None:
    runs.outside(MINE)
    script = "echo evil > sub/.git/hooks/pre-push; echo evil > d/.envrc; rm e/.envrc"
    assert runs.run(script, looked=True) == [
        "removed d/.envrc",
        "removed sub/.git/hooks/pre-push",
    ]
    assert not (runs.work / "e" / ".envrc").exists()


def store(path: Path) -> None:
    """Change a file through a map."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[:4] = b"evil"


def exchange(one: Path, other: Path) -> None:
    paths = os.fsencode(one), os.fsencode(other)
    assert LIBC.renameat2(-100, paths[0], -100, paths[1], RENAME_EXCHANGE) == 0


def link(one: Path, other: Path) -> None:
    one.unlink()
    one.hardlink_to(other)


ACTS: dict[str, Callable[[Path, Path], object]] = {
    "written": lambda it, _: it.write_text("evil\n"),
    "stored": lambda it, _: store(it),
    "replaced": lambda it, other: other.rename(it),
    "exchanged": exchange,
    "moved": lambda it, _: it.parent.rename(f"{it.parent}2"),
    "linked": link,
}


def test_what_is_being_truncated_isnt_kept(runs: Runs) -> None:
    """It is shorter a while before it has another time, and longer if it was large."""
    runs.outside("mkdir d")
    path, whole = runs.work / "d" / ".npmrc", b"mine" * (1 << 20)
    for _ in range(ATTEMPTS):
        path.write_bytes(whole)
        runs.settle()
        looking = during_run.DuringRun(str(runs.work), times.Began())
        pid = os.fork()
        if pid == 0:
            os.truncate(path, 1)
            os._exit(0)
        while path.stat().st_size > 1:
            os.sched_yield()
        looking.keep(Found(NAME, ("d",), ".npmrc"))
        os.waitpid(pid, 0)
        looking.close()
        assert looking.known.written()[1] == ()


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
@pytest.mark.parametrize("earlier", [True, False], ids=["before", "after"])
def test_what_is_changed_while_it_is_read_isnt_kept(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, act: Callable[..., object], *, earlier: bool
) -> None:
    """Between a first look at it and the reading, or between that and the look that decides."""
    runs.outside("mkdir d e; echo mine > d/.npmrc; echo theirs > e/x")
    runs.settle()
    read = judging_spots.kept
    root = runs.work

    def kept(spot: Spot, parent: int, found: Print) -> Kept | None:
        monkeypatch.undo()
        if earlier:
            act(root / "d" / ".npmrc", root / "e" / "x")
        value = read(spot, parent, found)
        if not earlier:
            act(root / "d" / ".npmrc", root / "e" / "x")
        return value

    began = times.Began()
    monkeypatch.setattr(judging_spots, "kept", kept)
    looking = during_run.DuringRun(str(root), began)
    looking.keep(Found(NAME, ("d",), ".npmrc"))
    looking.close()
    assert looking.known.written()[1] == ()


@pytest.mark.parametrize("kind", ["TELLING", "LOCKED"])
def test_where_what_is_changed_may_have_no_new_time_nothing_is_kept(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(times, kind, frozenset())
    runs.outside("mkdir d; echo mine > d/.npmrc")
    assert runs.run("echo evil > d/.npmrc", looked=True) == ["left d/.npmrc"]


@pytest.mark.parametrize("unsure", [True, False])
def test_an_empty_file_isnt_kept_where_it_may_be_becoming_one(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, *, unsure: bool
) -> None:
    runs.outside("mkdir d; : > d/.npmrc")
    fd = os.open(runs.work, os.O_RDONLY)
    monkeypatch.setattr(times, "BTRFS", times.file_system(fd) if unsure else 1)
    os.close(fd)
    done = "left" if unsure else "restored"
    assert runs.run("echo evil > d/.npmrc", looked=True) == [f"{done} d/.npmrc"]


def test_where_an_exchange_gives_none_what_could_be_of_one_isnt_kept(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(times, "MOVES_TELL", frozenset())
    runs.outside(MINE)
    done = runs.run("echo evil > d/.npmrc; echo evil > e/.envrc", first="touch d/n", looked=True)
    assert done == ["left d/.npmrc", "restored e/.envrc"]


def test_what_is_shut_isnt_opened_up(runs: Runs) -> None:
    runs.outside("mkdir -p s/t; echo mine > s/t/.npmrc")
    assert runs.run("true") == []
    runs.outside("chmod 0 s")
    try:
        assert runs.run("true", looked=True) == []
        assert (runs.work / "s").stat().st_mode & 0o777 == 0
    finally:
        (runs.work / "s").chmod(0o700)


def test_a_program_that_is_over_at_once_isnt_looked_beside(runs: Runs) -> None:
    """Where nothing is known to be guarded; what is, is kept at once, before a directory is."""
    state = str(runs.work.parent / "state")
    settled = [(str(runs.work), None)], (), (), "", ()
    began = times.Began()

    def pause_ms() -> float | None:
        return after_run.AfterRun(state, settled, str(runs.work), began).pause_ms

    assert pause_ms() == 0
    runs.outside("mkdir d")
    assert runs.run("true") == []
    assert pause_ms() == after_run.PAUSE_MS
    runs.outside("echo mine > d/.npmrc")
    assert runs.run("true") == []
    assert pause_ms() == 0
