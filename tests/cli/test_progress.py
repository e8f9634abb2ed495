"""Long work at a terminal: a bar while it lasts, and a key that ends it, with nothing half done."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import NONO, Person, Terminal
from tests.test_frame_imports import imports_of

pytestmark = pytest.mark.linux

Open = Callable[..., Terminal]
FILES_COUNT = 1100
"""Enough for each phase to say how far it is."""
SHOWN_AT_ONCE = """
import sys
from nono_mcp.cli import main, progress
progress.AFTER_S = progress._EVERY_S = 0.0
raise SystemExit(main(sys.argv[1:]))
"""
STOPPING = """
import sys, time
from nono_mcp.cli import main, progress
at, hear = sys.argv.pop(1), progress.Shown.__call__
def stop(self, told):
    hear(self, told)
    while told.phase == at:
        print("it's at", at, flush=True)
        time.sleep(1000)
progress.Shown.__call__ = stop
raise SystemExit(main(sys.argv[1:]))
"""
COLOURED = {"TERM": "xterm-256color", "COLUMNS": "100"}
ERASED = "\x1b[1A\x1b[2K"
KEY = "\x03"


@pytest.fixture
def full(person: Person) -> Person:
    """Return somebody with two named snapshots, an empty one and one of many files."""
    assert person.nono("snapshot", "create", "empty").returncode == 0
    for number in range(FILES_COUNT):
        (person.workspace / str(number)).write_bytes(b"%d" % number)
    assert person.nono("snapshot", "create", "full").returncode == 0
    return person


def names(person: Person) -> set[str]:
    assert {each.name for each in person.workspace.parent.iterdir()} == {"home", "work"}
    return {each.name for each in person.workspace.iterdir()}


@pytest.mark.claim("undo.shown")
@pytest.mark.usefixtures("full")
def test_long_work_is_shown_at_a_terminal_and_leaves_no_trace_there(terminal: Open) -> None:
    for words, told in (
        (("rollback", "empty", "--yes"), ("looking", "putting back", "verifying")),
        (("rollback", "full", "--yes"), ("preparing", "putting back")),
        (("snapshot", "verify"), ("verifying",)),
        (("snapshot", "prune"), ()),
    ):
        window = terminal(sys.executable, "-c", SHOWN_AT_ONCE, *words, **COLOURED)
        assert window.status() == 0, window.shown
        for each in told:
            assert re.search(rf"{each}\x1b?[^\n]*━", window.shown), (words, window.shown)
        # The line is taken away, and the cursor is there again.
        assert not told or window.shown.rfind(ERASED) > window.shown.rfind("━")
        assert window.shown.rfind("\x1b[?25h") >= window.shown.rfind("\x1b[?25l")


@pytest.mark.claim("undo.shown")
def test_elsewhere_and_of_short_work_nothing_is_shown_or_imported(
    terminal: Open, full: Person
) -> None:
    piped = full.nono("rollback", "empty", "--yes", environment=COLOURED)
    assert piped.returncode == 0
    assert piped.stderr == ""
    assert "━" not in piped.stdout
    answer = full.nono("snapshot", "create", "--json", environment=COLOURED)
    assert json.loads(answer.stdout)["ok"]
    assert answer.stderr == ""
    window = terminal(str(NONO), "snapshot", "list", **COLOURED)
    assert window.status() == 0
    assert "\x1b" not in window.shown


def test_what_shows_it_is_imported_by_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "work").mkdir()
    found = imports_of("snapshot", "create", "--json", cwd=tmp_path / "work")
    assert "nono_mcp.cli.progress" in found
    assert not {name for name in found if name.partition(".")[0] == "rich"}


@pytest.mark.claim("undo.shown")
def test_a_key_ends_it_and_nothing_is_left_half_done(terminal: Open, full: Person) -> None:
    for words, phase, is_done in (
        (("snapshot", "create", "more"), "scan", False),
        (("snapshot", "verify"), "verify", False),
        (("rollback", "empty", "--yes"), "scan", False),
        (("rollback", "empty", "--yes"), "apply", True),
        (("rollback", "full", "--yes"), "stage", False),
        (("rollback", "full", "--yes"), "apply", True),
        (("rollback", "empty", "--yes"), "verify", True),
    ):
        before = names(full)
        window = terminal(sys.executable, "-c", STOPPING, phase, *words)
        window.expect(f"it's at {phase}")
        window.type(KEY)
        assert window.status() == 130, window.shown
        if is_done:
            assert names(full) == ({str(n) for n in range(FILES_COUNT)} - before)
            assert re.search(r"is completed; .*undo by nono rollback \w+", window.shown)
        else:
            assert names(full) == before
            assert "is completed" not in window.shown
            assert ("nothing was put back" in window.shown) == (words[0] == "rollback")
    records = json.loads(full.nono("audit", "tail", "--json").stdout)["records"]
    ends = [one["data"] for one in records if one["kind"] == "rollback"]
    assert [one.get("reason") for one in ends] == [None, "KeyboardInterrupt"] * 4
    # And whatever comes next works.
    assert full.nono("snapshot", "verify").returncode == 0
    again = full.nono("rollback", "full", "--yes")
    assert again.returncode == 0, again.stderr
    assert again.stderr == "", "nothing was left to be completed"
