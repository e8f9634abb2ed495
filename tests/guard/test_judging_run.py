"""What nobody knows of is judged by how it surely came, and what can't be looked at is told."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from nono_mcp.guard import after_run, arrivals, finding, tree
from nono_mcp.guard.directory_listings import Listing
from nono_mcp.guard.guard import Guard
from tests.guard.runs import SETTLED_NS, Runs, with_statuses

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.linux, pytest.mark.claim("guard.after-run")]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setattr(after_run, "LOOK_S", 600.0)
    (tmp_path / "work").mkdir()
    return Runs(tmp_path)


def test_a_directory_that_is_too_deep_is_told(runs: Runs) -> None:
    path = "/".join("d" * (finding.DEPTH_MAX + 1))
    assert runs.run(f"mkdir -p {path}/e; echo evil > {path}/e/.envrc") == [f"left {path}"]


FIRST = {
    "a repository around an older HEAD": (
        "mkdir p; echo ref: refs/heads/main > p/HEAD",
        "mkdir p/objects p/refs p/hooks; echo evil > p/hooks/update",
        ["removed p/HEAD"],
    ),
    "older content in a directory that is new": (
        "echo evil > notes",
        "mkdir p; mv notes p/.envrc",
        ["removed p/.envrc"],
    ),
    "older settings in a repository that is new": (
        "printf '[core]\\n\\tfsmonitor = evil\\n' > notes",
        "git init -q p; mv notes p/.git/config",
        ["removed p/.git/config"],
    ),
    "a name within an older directory": (
        "mkdir -p p/.vscode/sub; echo mine > p/.vscode/sub/tasks.json",
        "echo evil > p/.vscode/sub/new",
        ["removed p/.vscode/sub/new"],
    ),
    "a name beside an older directory": (
        "mkdir -p p/.vscode/sub; echo mine > p/.vscode/sub/tasks.json",
        "echo evil > p/.vscode/new",
        ["removed p/.vscode/new"],
    ),
    "a name beside hooks that are older": (
        "git init -q p; echo mine > p/.git/hooks/pre-push",
        "echo x > p/.git/description",
        [],
    ),
    "a repository at the top": (
        "true",
        "echo ref: refs/heads/main > HEAD; mkdir objects refs hooks; echo evil > hooks/update",
        ["removed HEAD"],
    ),
    "nothing that an older symlink leads to": (
        "mkdir -p p/w; ln -s /elsewhere p/foo; echo gitdir: ../foo/modules/m > p/w/.git",
        "touch p/w/file",
        [],
    ),
    "a name that was moved deeper than is compared": (
        f"mkdir -p p/.vscode/{'/'.join('d' * tree.DEPTH_MAX)}/e",
        f"echo evil > p/.vscode/{'/'.join('d' * tree.DEPTH_MAX)}/e/new",
        ["left p/.vscode"],
    ),
}


@pytest.mark.parametrize(("before", "script", "expected"), FIRST.values(), ids=FIRST)
def test_in_a_first_run_what_surely_came_goes(
    runs: Runs, before: str, script: str, expected: list[str]
) -> None:
    runs.outside(before)
    assert runs.run(script) == expected


def test_what_can_not_be_looked_at_is_told(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.outside("mkdir p; echo mine > p/.envrc")

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(arrivals, "_changed_ns", fail)
    assert runs.run("chmod go-w p/.envrc") == ["left p/.envrc"]
    assert "Input/output error" in runs.actions[0].why


def test_a_look_that_fails_is_told(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Listing, "renew", fail)
    assert runs.run("mkdir p") == ["left "]


NESTED = {
    "a name that another run saw gone": (
        "mkdir p; echo mine > p/.envrc",
        "mv p/.envrc notes",
        "mv notes p/.envrc",
        ["left p/.envrc"],
    ),
    "a repository that another run saw moved": (
        "mkdir p store; git init -q store/r; echo evil > store/r/.git/hooks/pre-push",
        "mv store/r/.git p",
        "true",
        ["left p/.git/hooks/pre-push"],
    ),
}


@pytest.mark.parametrize(("before", "first", "script", "expected"), NESTED.values(), ids=NESTED)
def test_what_another_run_saw_since_is_nothing_to_go_by(
    runs: Runs, before: str, first: str, script: str, expected: list[str]
) -> None:
    runs.outside(before)
    runs.settle(SETTLED_NS)
    assert runs.run("true") == []
    runs.settle()
    guard, settled = Guard(runs.state), [(str(runs.work), None)]
    guard.settle(settled, (), (), "", ())
    guard.begin()
    # Of a run that began later what was done by then may be the person's.
    runs.outside(first)
    runs.settle(SETTLED_NS)
    runs.run("true")
    runs.settle()
    looking = runs.looking(guard)
    while looking.pause_ms is not None:
        looking.step()
    runs.outside(script)
    guard.end()
    guard.close()
    assert runs.told(looking.look()) == expected


def test_a_repository_that_changes_places_without_a_new_time_is_told(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on XFS: there what is renamed to each other's name keeps its times."""
    runs.outside("git init -q p; cp -r p/.git notes; echo evil > notes/hooks/pre-push")
    runs.settle(SETTLED_NS)
    assert runs.run("true") == []
    kept = {
        path.lstat().st_ino: path.lstat() for path in (runs.work / "p/.git", runs.work / "notes")
    }
    kept |= {path.lstat().st_ino: path.lstat() for path in (runs.work / "notes").rglob("*")}

    def told(status: os.stat_result) -> dict[str, int]:
        old = kept.get(status.st_ino)
        return {} if old is None else {"st_ctime_ns": old.st_ctime_ns}

    with_statuses(monkeypatch, told)
    swapped = "mv p/.git other; mv notes p/.git; mv other notes"
    assert runs.run(swapped) == ["left p/.git/hooks/pre-push"]


def test_what_the_person_has_change_places_between_runs_is_theirs(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.outside("mkdir p; echo mine > p/.envrc; echo too > p/notes")
    runs.settle(SETTLED_NS)
    assert runs.run("true") == []
    kept = {
        (runs.work / name).lstat().st_ino: (runs.work / name).lstat()
        for name in ("p/.envrc", "p/notes")
    }
    runs.outside("mv p/.envrc p/x; mv p/notes p/.envrc; mv p/x p/notes")

    def told(status: os.stat_result) -> dict[str, int]:
        old = kept.get(status.st_ino)
        return {} if old is None else {"st_ctime_ns": old.st_ctime_ns}

    with_statuses(monkeypatch, told)
    assert runs.run("true") == []
