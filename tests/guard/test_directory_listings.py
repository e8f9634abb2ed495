"""What is kept of directories between runs counts where it's sure, and is looked at in bounds."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

import pytest

from nono_mcp.guard import after_run, baseline, directory_listings, during_run, times
from nono_mcp.guard.directory_listings import Listing
from tests.guard.runs import SETTLED_NS, Runs, with_statuses

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.linux, pytest.mark.claim("guard.after-run")]

APART_NS = 10**7


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setattr(after_run, "LOOK_S", 600.0)
    (tmp_path / "work").mkdir()
    return Runs(tmp_path)


@pytest.fixture
def overlaid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a file system that keeps no birth, and of which nothing is kept beside a program."""
    monkeypatch.setattr(times, "file_system", lambda _: times.OVERLAYFS)


def listed(runs: Runs, script: str) -> None:
    """Do what *script* says before a run that finds nothing, and lists it."""
    runs.outside(script)
    runs.settle(SETTLED_NS + APART_NS)
    assert runs.run("true") == []
    runs.settle(APART_NS)


@pytest.mark.usefixtures("overlaid")
@pytest.mark.parametrize("where", ["here", "mounted", "in whole ticks"])
def test_what_comes_to_a_directory_that_has_its_time_still_goes_where_that_is_sure(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    if where == "in whole ticks":
        monkeypatch.setattr(times, "apart_ns", lambda *_: APART_NS)
    listed(runs, "mkdir p")
    if where == "mounted":
        inode = (runs.work / "p").stat().st_ino
        with_statuses(monkeypatch, lambda one: {"st_dev": 1} if one.st_ino == inode else {})
    expected = "removed" if where == "here" else "left"
    assert runs.run("echo evil > p/.envrc", looked=True) == [f"{expected} p/.envrc"]


def test_a_listing_is_of_one_directory_at_one_path(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_listings, "SLOTS_COUNT", 1)
    listed(runs, "mkdir p; echo mine > p/.envrc")
    assert Listing(runs.state, str(runs.work)).before
    elsewhere = runs.work.with_name("elsewhere")
    runs.work.rename(elsewhere)
    assert not Listing(runs.state, str(elsewhere)).before
    runs.work.mkdir()
    assert not Listing(runs.state, str(runs.work)).before


def test_what_was_changed_in_the_tick_of_its_listing_is_listed_again(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory_listings, "SETTLED_NS", -(10**13))
    for apart_ns in (1, 10**14):
        monkeypatch.setattr(times, "apart_ns", lambda *_, apart_ns=apart_ns: apart_ns)
        assert runs.run(f"mkdir -p p; touch p/{apart_ns}") == []
        kept = Listing(runs.state, str(runs.work)).before
        assert {one.changed_ns != 0 for one in kept.values()} == {apart_ns == 1}


def test_what_comes_in_the_tick_in_which_its_directory_was_listed_beside_a_program_goes(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: dict[int, int] = {}

    def told(status: os.stat_result) -> dict[str, int]:
        return {"st_ctime_ns": first.setdefault(status.st_ino, status.st_ctime_ns)}

    (runs.work / "p").mkdir()
    runs.settle()
    monkeypatch.setattr(directory_listings, "SETTLED_NS", 10**13)
    with_statuses(monkeypatch, told)
    assert runs.run("echo evil > p/.envrc", looked=True) == ["removed p/.envrc"]


def test_what_could_not_be_written_is_not_left(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    renamed = os.rename

    def fail(old: str, new: str, **more: int) -> None:
        if directory_listings.FOLDER in new:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        renamed(old, new, **more)

    monkeypatch.setattr("posix.rename", fail)
    assert runs.run("mkdir p") == []
    assert not list((runs.work.parent / "state" / directory_listings.FOLDER).iterdir())


def test_where_times_are_whole_ticks_what_came_in_the_tick_of_the_beginning_is_seen(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    tick_ns = 10**9
    monkeypatch.setattr(times, "apart_ns", lambda *_: tick_ns)
    (runs.work / "p").mkdir()
    with_statuses(monkeypatch, lambda one: {"st_ctime_ns": one.st_ctime_ns // tick_ns * tick_ns})
    assert runs.run("echo evil > p/.envrc") == ["removed p/.envrc"]


def test_the_clocks_are_compared_by_who_was_let_run(monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter([0, 10**9, 5, 15])
    monkeypatch.setattr(time, "clock_gettime_ns", lambda _: next(told))
    monkeypatch.setattr(time, "time_ns", lambda: 100)
    assert times._ahead_ns() == (85, 95)  # noqa: SLF001


def test_beside_a_program_no_more_is_listed_than_there_is_time_for(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.outside("mkdir -p a/b/c d/e")
    monkeypatch.setattr(after_run, "LOOK_S", -1.0)
    settled = [(str(runs.work), None)], (), (), "", ()
    looking = after_run.AfterRun(runs.state, settled, str(runs.work), times.Began())
    looking.step()
    assert looking.pause_ms is None


KEPT = {
    "as it was": ("true", "echo more > p/.envrc", ["restored p/.envrc"]),
    "changed within": (
        "echo evil > d/.vscode/tasks.json",
        "echo more > d/.vscode/tasks.json",
        ["left d/.vscode"],
    ),
    "less than there was": (
        "rm d/.vscode/a",
        "echo evil > d/.vscode/tasks.json",
        ["left d/.vscode"],
    ),
    "moved with all above it": ("mv store e", "echo more > e/f/.envrc", ["left e/f/.envrc"]),
}


@pytest.fixture
def furnished(runs: Runs) -> Runs:
    runs.outside("mkdir -p p d/.vscode store/f; echo mine > p/.envrc; echo evil > store/f/.envrc")
    runs.outside("for it in a tasks.json; do echo mine > d/.vscode/$it; done")
    return runs


@pytest.mark.parametrize(("first", "script", "expected"), KEPT.values(), ids=KEPT)
def test_what_a_program_was_quicker_at_is_not_kept(
    furnished: Runs, first: str, script: str, expected: list[str]
) -> None:
    assert furnished.run(script, looked=True, first=first) == expected


@pytest.mark.parametrize("bound", ["full", "mounted"])
def test_what_can_not_be_kept_is_told(
    furnished: Runs, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    if bound == "full":
        monkeypatch.setattr(baseline, "SPOTS_MAX", 0)
    else:
        inode = (furnished.work / "p/.envrc").stat().st_ino
        with_statuses(monkeypatch, lambda one: {"st_dev": 1} if one.st_ino == inode else {})
    assert furnished.run("echo more > p/.envrc", looked=True) == ["left p/.envrc"]


def test_a_directory_is_not_another_of_its_parents(runs: Runs) -> None:
    runs.outside("mkdir a b")
    runs.settle()
    keeping = during_run.DuringRun(str(runs.work), times.Began())
    fds = [os.open(runs.work / name, os.O_RDONLY) for name in ("a", "b")]
    try:
        stood = [keeping._has_stood((name,), fds[1]) for name in ("a", "b")]  # noqa: SLF001
    finally:
        for fd in fds:
            os.close(fd)
        keeping.close()
    assert stood == [False, True]


def test_what_is_shut_is_not_opened_up_beside_a_program(runs: Runs) -> None:
    runs.outside("mkdir shut; echo mine > shut/.envrc")
    assert runs.run("true") == []
    runs.outside("chmod 0 shut")
    assert runs.run("true", looked=True) == []
    assert (runs.work / "shut").stat().st_mode & 0o777 == 0
    (runs.work / "shut").chmod(0o700)
