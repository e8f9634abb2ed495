"""What was put away stays where it is told to be: it may be the person's own."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_mcp.guard import finding, judging_subtree, quarantine
from nono_mcp.guard.guard import Guard
from nono_mcp.guard.subtree_guard import SubtreeGuard

if TYPE_CHECKING:
    from nono_mcp.guard.action import Action

pytestmark = [pytest.mark.linux, pytest.mark.claim("guard.put-right")]
MANY = judging_subtree.ACTIONS_MAX + 100
WEEK_S = quarantine.AGE_MIN_S


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / "state" / "quarantine"
    path.mkdir(parents=True)
    return path


def put_right(work: Path, names: tuple[str, ...] = (".envrc",)) -> tuple[Action, ...]:
    """Return what a guard does that begins, and ends when files of those names are there."""
    guard = Guard(str(work.parent / "state"))
    guard.settle([(str(work), None)], ())
    guard.begin()
    for name in names:
        (work / name).write_text(name)
    actions = guard.end()
    guard.close()
    return actions


def test_of_what_is_more_than_is_told_all_is_kept(work: Path, kept: Path) -> None:
    below = SubtreeGuard(str(kept.parent))
    below.settle(str(work), ())
    below.begin(None)
    for index in range(MANY):
        (work / f"p{index}").mkdir()
        (work / f"p{index}" / ".envrc").write_text(f"only copy {index}")
    *told, more = below.end()
    below.close()
    assert len(told) == judging_subtree.ACTIONS_MAX
    assert (more.action, more.what) == ("removed", "100 more of what is guarded")
    (entry,) = kept.iterdir()
    assert more.kept_in == str(entry)
    found = {path.read_text() for path in entry.rglob(".envrc")}
    assert found == {f"only copy {index}" for index in range(MANY)}
    assert list(work.rglob(".envrc")) == []


def test_one_look_makes_one_entry(work: Path, kept: Path) -> None:
    first = put_right(work, (".envrc", ".npmrc", ".mcp.json"))
    second = put_right(work)
    assert len(list(kept.iterdir())) == len((first, second))
    assert all(Path(one.kept_in).read_text() for one in (*first, *second))


def test_each_look_of_one_guard_makes_its_own(work: Path, kept: Path) -> None:
    """That of a call's end, and that of the next one's begin, which puts right others' doing."""
    state = str(kept.parent)
    ours, others = Guard(state), Guard(state)
    for guard in (ours, others):
        guard.settle([(str(work), None)], ())
    actions: list[Action] = []
    others.begin()
    for name in (".envrc", ".npmrc", ".mcp.json", ".gdbinit"):
        (work / name).write_text(name)
        actions += ours.begin()
        (work / name).write_text(f"{name} again")
        actions += ours.end()
    others.end()
    for guard in (ours, others):
        guard.close()
    assert len({Path(one.kept_in).parts[-3] for one in actions}) == len(actions)
    assert sorted(path.name for path in kept.iterdir()) == [
        Path(one.kept_in).parts[-3] for one in actions
    ]


def test_only_what_is_old_goes_and_only_when_there_is_much(work: Path, kept: Path) -> None:
    count = quarantine.ENTRIES_MAX + 10
    for index in range(count):
        entry = kept / f"{time.time_ns():020d}-{index:08x}"
        entry.mkdir()
        # The first 5 are old, and so are all that are among the last.
        if index < 5 or index > count - 5:
            old = time.time() - WEEK_S - 60
            os.utime(entry, (old, old))
    before = sorted(kept.iterdir())
    (action,) = put_right(work)
    assert Path(action.kept_in).exists()
    assert sorted(kept.iterdir())[:-1] == before[5:]


def test_what_is_put_away_after_the_clock_was_set_back_comes_last(work: Path, kept: Path) -> None:
    ahead = time.time_ns() + 10**18
    old = time.time() - WEEK_S - 60
    for index in range(quarantine.ENTRIES_MAX + 10):
        entry = kept / f"{ahead + index:020d}-00000000"
        entry.mkdir()
        os.utime(entry, (old, old))
    actions = [*put_right(work), *put_right(work), *put_right(work)]
    last = [entry.name for entry in sorted(kept.iterdir())[-3:]]
    assert last == [Path(one.kept_in).parts[-3] for one in actions]
    assert len(list(kept.iterdir())) == quarantine.ENTRIES_MAX


def test_an_entry_that_cannot_go_keeps_nothing_from_being_put_away(work: Path, kept: Path) -> None:
    for index in range(quarantine.ENTRIES_MAX):
        (kept / f"{index:020d}-x").write_text("a file, which nobody put here")
        os.utime(kept / f"{index:020d}-x", (0, 0))
    (action,) = put_right(work)
    assert action.action == "removed"


def test_what_is_put_right_leaves_room_to_tell_what_is_left(work: Path, kept: Path) -> None:
    below = SubtreeGuard(str(kept.parent))
    below.settle(str(work), ())
    below.begin(None)
    for index in range(MANY):
        (work / f"p{index}").mkdir()
        (work / f"p{index}" / ".envrc").write_text("")
    deep = work / "/".join("d" * (finding.DEPTH_MAX + 1))
    deep.mkdir(parents=True)
    actions = below.end()
    below.close()
    assert [one.path for one in actions if one.action == "left"] == [str(deep)]
