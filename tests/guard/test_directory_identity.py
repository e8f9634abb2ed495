"""What a session left, or does, in a directory counts for nothing in another one of its path."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import pytest

from nono_mcp.guard import directory_identity, presence
from nono_mcp.guard.guard import Guard
from nono_mcp.guard.subtree_guard import SubtreeGuard

if TYPE_CHECKING:
    from pathlib import Path

    from nono_mcp.guard.action import Action

pytestmark = [pytest.mark.linux, pytest.mark.claim("guard.shared")]

KILLED = """
    import os, signal, sys
    from nono_mcp.guard import directory_identity
    from nono_mcp.guard.subtree_guard import SubtreeGuard
    from nono_mcp.guard.guard import Guard

    state, work, born = sys.argv[1:]
    if born == "unborn":
        directory_identity.birth_ns = lambda fd: 0
    below, guard = SubtreeGuard(state), Guard(state)
    below.settle(work, ())
    guard.settle([(work, None)], ())
    below.begin(None)
    guard.begin()
    for path in (".git/hooks/pre-push", "sub/.npmrc"):
        open(f"{work}/{path}", "w").write("evil")
    os.kill(os.getpid(), signal.SIGKILL)
"""
PLANTED = (".git/hooks/pre-push", "sub/.npmrc")


def _project(work: Path, whose: str) -> None:
    for path in (".git/config", ".git/hooks/pre-commit", ".envrc", "sub/.envrc"):
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_text(f"[core]\n\tpager = {whose}\n")


def _files(work: Path) -> dict[str, str]:
    return {str(p.relative_to(work)): p.read_text() for p in work.rglob("*") if p.is_file()}


def _look(state: Path, work: Path) -> tuple[Action, ...]:
    below, guard = SubtreeGuard(str(state)), Guard(str(state))
    below.settle(str(work), ())
    guard.settle([(str(work), None)], ())
    begun = *below.begin(None), *guard.begin()
    actions = *begun, *guard.end(), *below.end()
    below.close()
    guard.close()
    return actions


@pytest.fixture(params=["born", "unborn"])
def born(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(presence, "GRACE_NS", 0)
    if request.param == "unborn":
        monkeypatch.setattr(directory_identity, "birth_ns", lambda _: 0)
    return str(request.param)


@pytest.fixture
def killed(tmp_path: Path, born: str) -> tuple[Path, Path]:
    """Return the state and the project of a session that was killed once it had planted."""
    state, work = tmp_path / "state", tmp_path / "work"
    _project(work, "old")
    words = [sys.executable, "-c", textwrap.dedent(KILLED), str(state), str(work), born]
    done = subprocess.run(words, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return state, work


def test_in_the_same_directory_it_is_put_right(killed: tuple[Path, Path]) -> None:
    _look(*killed)  # from when it is found it counts as running for some time
    state, work = killed
    assert not [path for path in PLANTED if (work / path).exists()]
    _look(state, work)
    assert [path.name for path in state.rglob("calls-*")] == []


def test_of_another_directory_nothing_is_put_into_the_new_one(killed: tuple[Path, Path]) -> None:
    state, work = killed
    work.rename(work.with_name("old"))
    _project(work, "new")
    before = _files(work)
    assert _look(state, work) == ()
    assert _files(work) == before
    # It is known again where it is found again.
    shutil.rmtree(work)
    work.with_name("old").rename(work)
    _look(state, work)
    assert not (work / PLANTED[1]).exists()


@pytest.mark.parametrize("born", ["unborn"], indirect=True)
def test_a_new_one_with_the_inode_of_the_old_is_told_of_and_left(
    killed: tuple[Path, Path],
) -> None:
    state, work = killed
    for each in work.iterdir():
        each.unlink() if each.is_file() else shutil.rmtree(each)
    _project(work, "new")
    before = _files(work)
    actions = _look(state, work)
    assert [one.action for one in actions] == ["left", "left"]
    assert "in another directory of this name" in actions[0].why
    assert _files(work) == before


def test_what_was_left_long_ago_is_told_and_not_acted_upon(killed: tuple[Path, Path]) -> None:
    state, work = killed
    for path in state.rglob("calls-*"):
        path.write_bytes(b"rr" + b"another boot".ljust(36) + path.read_bytes()[38:])
        then = time.time() - presence.OLD_S - 60
        os.utime(path, (then, then))
    before = _files(work)
    actions = _look(state, work)
    assert [one.action for one in actions] == ["left", "left"]
    assert "long ago" in actions[0].why
    assert _files(work) == before
    assert _look(state, work) == ()


def test_another_directorys_calls_that_run_dont_count(tmp_path: Path) -> None:
    state, work = tmp_path / "state", tmp_path / "work"
    _project(work, "old")
    one = Guard(str(state))
    status = work.stat()
    one.settle([(str(work), (status.st_dev, status.st_ino))], ())
    one.begin()
    work.rename(work.with_name("old"))
    _project(work, "new")
    before = _files(work)
    assert _look(state, work) == ()
    assert _files(work) == before
    assert [done.action for done in one.end()] == ["left"]
    one.close()
