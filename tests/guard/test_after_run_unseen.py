"""What a program brings to a guarded name though it has no new time there is told all the same."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from nono_mcp.guard import after_run
from nono_mcp.guard.looking import Changed
from nono_mcp.guard.subtree_guard import SubtreeGuard
from tests.guard.conftest import git
from tests.guard.runs import SETTLED_NS, Runs

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.linux, pytest.mark.claim("guard.after-run")]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setattr(after_run, "LOOK_S", 600.0)
    (tmp_path / "work").mkdir()
    return Runs(tmp_path)


def test_what_a_look_did_not_come_to_is_looked_at_by_the_next(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.outside("mkdir -p a/b")
    runs.settle(SETTLED_NS)
    monkeypatch.setattr(after_run, "LOOK_S", 0.0)
    assert runs.run("true") == ["left "]
    monkeypatch.setattr(after_run, "LOOK_S", 600.0)
    assert runs.run("echo evil > a/b/.envrc") == ["removed a/b/.envrc"]


def test_a_slow_look_keeps_the_next_from_nothing(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.outside("mkdir -p a/b c")
    runs.settle(SETTLED_NS)
    assert runs.run("true") == []
    monkeypatch.setattr(after_run, "LOOK_S", 0.0)
    assert runs.run("rm -r a; sleep 0.2") == ["left "]
    monkeypatch.setattr(after_run, "LOOK_S", 600.0)
    assert runs.run("echo evil > c/.envrc") == ["removed c/.envrc"]


def test_a_repository_that_is_moved_into_one_is_told(runs: Runs) -> None:
    git(runs.work, "init", "-q", "p")
    runs.outside("cd p/.git && mkdir -p modules/m && cp -r HEAD config objects refs modules/m")
    made = "mkdir p/x; printf '[core]\\n\\tfsmonitor = evil\\n' > p/x/config; mkdir p/x/hooks"
    assert runs.run(f"{made}; echo evil > p/x/hooks/pre-commit") == []
    inner = "p/.git/modules/m/sub"
    found = runs.run(f"mv p/x {inner}; echo 'ref: refs/heads/main' > {inner}/HEAD")
    assert found == [f"left {inner}/config", f"left {inner}/hooks/pre-commit"]


def test_a_git_file_that_leads_elsewhere_by_now_is_told(runs: Runs) -> None:
    assert runs.run("mkdir -p p/w; echo 'gitdir: ../foo/modules/m' > p/w/.git") == []
    assert runs.run("ln -s /elsewhere p/foo") == ["left p/w/.git"]


def test_nothing_is_the_persons_that_is_in_a_package(runs: Runs) -> None:
    runs.outside("mkdir -p vendor/p; echo evil > vendor/p/.envrc; mkdir p q")
    runs.settle(SETTLED_NS)
    assert runs.run("true") == []
    assert runs.run("cp vendor/p/.envrc p") == ["removed p/.envrc"]
    assert runs.run("mv vendor/p q/p") == ["left q/p/.envrc"]


def test_a_directory_that_is_moved_into_a_guarded_one_is_told(runs: Runs) -> None:
    runs.outside("mkdir -p p/.devcontainer")
    assert runs.run("mkdir p/x; echo evil > p/x/devcontainer.json") == []
    assert runs.run("mv p/x p/.devcontainer/x") == ["left p/.devcontainer"]


def test_what_changes_places_without_a_new_time_is_told(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on XFS: there the status of neither is another."""
    runs.outside("mkdir p; echo mine > p/.envrc; echo evil > p/notes")
    runs.settle(SETTLED_NS)
    assert runs.run("true") == []
    evil, mine = os.lstat(runs.work / "p/notes"), str(runs.work / "p/.envrc")
    lstat, stat = os.lstat, os.stat

    def lstat_as_there(path: str, **more: int | None) -> os.stat_result:
        return evil if str(path) == mine else lstat(path, **more)

    def stat_as_there(path: str, **more: int | None) -> os.stat_result:
        return evil if path == ".envrc" else stat(path, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("posix.lstat", lstat_as_there)
    monkeypatch.setattr("posix.stat", stat_as_there)
    assert runs.run("cp p/.envrc p/other; cat p/notes > p/other") == ["left p/.envrc"]


def test_what_is_installed_between_calls_is_nothing_of_the_persons(tmp_path: Path) -> None:
    root = tmp_path / "work"
    (root / "src").mkdir(parents=True)
    below = SubtreeGuard(str(tmp_path / "state"))
    below.settle(str(root), ())
    below.begin(None)
    below.rest()
    (root / "node_modules/p/.vscode").mkdir(parents=True)
    (root / "node_modules/p/.vscode/tasks.json").write_text("evil")
    below.begin(Changed(frozenset(), frozenset({"node_modules/p"})))
    shutil.copytree(root / "node_modules/p/.vscode", root / "src/.vscode")
    actions = below.put_right(Changed(frozenset(), frozenset({"src/.vscode"})))
    below.close()
    assert [one.action for one in actions] == ["removed"]


def test_nothing_of_the_persons_is_put_away_by_a_change_in_its_place(runs: Runs) -> None:
    git(runs.work, "init", "-q", "p")
    runs.outside("mkdir p/q; for f in p/.envrc p/q/.npmrc p/.git/hooks/a; do echo mine > $f; done")
    expected = ["left p/.envrc", "left p/.git/hooks/a", "left p/q/.npmrc"]
    assert runs.run("chmod -R go-w .") == expected
    runs.settle(SETTLED_NS)
    runs.outside("mkdir p/late; echo mine > p/late/.envrc")
    assert runs.run("chmod -R go-w .") == sorted((*expected, "left p/late/.envrc"))
    runs.outside("echo mine > p/q/.envrc")
    assert "left p/q/.envrc" in runs.run("chmod -R go-w .")
