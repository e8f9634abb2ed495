"""A moved repository gets its name back, and nothing else does that has its number by then."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_mcp.guard import guard
from tests.guard.conftest import git

if TYPE_CHECKING:
    from tests.guard.conftest import Bench

pytestmark = [pytest.mark.linux, pytest.mark.claim("guard.put-right")]
MANY = 1100


@pytest.fixture
def watched(tmp_path: Path) -> guard.Guard:
    """Return a guard of a workspace, `work`, with a repository in it."""
    git(_made(tmp_path / "work"), "init", "-q")
    found = guard.Guard(str(tmp_path / "state"))
    found.settle([(str(tmp_path / "work"), None)], ())
    found.begin()
    return found


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_repository_made_anew_stays_and_so_do_the_directories_beside_it(bench: Bench) -> None:
    work = bench.workspace
    git(work, "init", "-q")
    anew = "rm -rf .git; mkdir a b c d; for i in a b c d; do echo $i > $i/f; done; git init -q"
    assert bench.run(f"{anew}; git commit -q --allow-empty -m new") == []
    assert [(work / name / "f").read_text() for name in "abcd"] == ["a\n", "b\n", "c\n", "d\n"]
    assert git(work, "log", "--format=%s") == "new\n"


@pytest.mark.parametrize("name", [".git", ".git/hooks"])
def test_who_has_the_number_of_what_was_removed_keeps_its_name(
    tmp_path: Path, watched: guard.Guard, name: str
) -> None:
    path = tmp_path / "work" / name
    number = path.stat().st_ino
    shutil.rmtree(path)
    others = [_made(path.parent / f"other{index}") for index in range(8)]
    assert number not in [each.stat().st_ino for each in others]
    _made(path)
    assert watched.end() == ()
    assert all(each.is_dir() for each in others)


def test_a_directory_that_is_no_repository_any_more_stays(
    tmp_path: Path, watched: guard.Guard
) -> None:
    work = tmp_path / "work"
    (work / ".git").rename(work / "src")
    for each in list((work / "src").iterdir()):
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    (work / "src" / "main.c").write_text("mine")
    git(work, "init", "-q")
    assert watched.end() == ()
    assert (work / "src" / "main.c").read_text() == "mine"


def test_a_repository_that_was_moved_gets_its_name_back(
    tmp_path: Path, watched: guard.Guard
) -> None:
    work = tmp_path / "work"
    number = (work / ".git").stat().st_ino
    (work / ".git").rename(work / "g")
    git(work, "init", "-q")
    assert [one.action for one in watched.end()] == ["restored"]
    assert (work / ".git").stat().st_ino == number
    assert not (work / "g").exists()


def test_hooks_that_are_more_than_is_looked_through_go_and_it_is_told(
    tmp_path: Path, watched: guard.Guard
) -> None:
    hooks = tmp_path / "work" / ".git" / "hooks"
    for index in range(MANY):
        (hooks / f"x{index}").touch()
    (action,) = watched.end()
    assert (action.action, len(list(Path(action.kept_in).iterdir())) >= MANY) == ("removed", True)


def test_who_looks_no_longer_holds_nothing(tmp_path: Path, watched: guard.Guard) -> None:
    def held() -> list[str]:
        links = [os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()]
        return [link for link in links if link.startswith(f"{tmp_path}/work")]

    assert held()
    watched.end()
    watched.close()
    assert held() == []
