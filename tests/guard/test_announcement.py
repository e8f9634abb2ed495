"""Who begins without a turn, since nobody else is there, misses nobody who comes."""

from __future__ import annotations

import fcntl
import posix
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from nono_mcp.guard import announcement, presence
from nono_mcp.guard.announcement import Announcement
from nono_mcp.guard.guard import Guard
from nono_mcp.guard.register import Register
from nono_mcp.guard.subtree_guard import SubtreeGuard

if TYPE_CHECKING:
    from pathlib import Path

    from nono_mcp.guard.action import Action

pytestmark = [pytest.mark.linux, pytest.mark.claim("guard.shared")]


class Server:
    """One of several in a workspace, with either guard."""

    def __init__(self, root: Path, kind: str, *more: Path) -> None:
        self.work = root / "work"
        (self.work / "sub").mkdir(parents=True, exist_ok=True)
        self._guard = Guard(str(root / "state"))
        self._below = SubtreeGuard(str(root / "state"))
        self._kind = kind
        if kind == "top":
            self._guard.settle([(str(path), None) for path in (self.work, *more)], ())
        else:
            self._below.settle(str(self.work), ())

    @property
    def planted(self) -> Path:
        return self.work / (".npmrc" if self._kind == "top" else "sub/.npmrc")

    def begin(self) -> tuple[Action, ...]:
        if self._kind == "top":
            return self._guard.begin()
        return () if self._below.is_still(learning=True) else self._below.begin(None)

    def learn(self) -> tuple[Action, ...]:
        return self._below.learn(None)

    def end(self) -> tuple[Action, ...]:
        return self._guard.end() if self._kind == "top" else self._below.end()

    def close(self) -> None:
        self._guard.close()
        self._below.close()


@pytest.fixture(params=["top", "below"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[Register]:
    """Return whose turn it was, one after the other."""
    found: list[Register] = []
    take_turn = Register.take_turn

    def take(self: Register, wait_s: float = 0.0) -> bool:
        found.append(self)
        return take_turn(self, wait_s)

    monkeypatch.setattr(Register, "take_turn", take)
    return found


def settled(root: Path, kind: str, *more: Path) -> Server:
    """Return a server whose next call needs no turn."""
    server = Server(root, kind, *more)
    server.begin()
    server.end()
    return server


def test_nobody_else_being_there_a_call_needs_no_turn(
    tmp_path: Path, kind: str, turns: list[Register]
) -> None:
    one = settled(tmp_path, kind)
    turns.clear()
    assert one.begin() == ()
    assert turns == []
    one.end()
    other = settled(tmp_path, kind)
    turns.clear()
    one.begin()
    one.end()
    assert turns, "another is there, whether it runs something or not"
    other.close()
    one.begin()
    one.end()
    turns.clear()
    one.begin()
    assert turns == [], "and isn't any more"


def test_who_comes_while_a_call_runs_knows_of_it(tmp_path: Path, kind: str) -> None:
    one, other = settled(tmp_path, kind), Server(tmp_path, kind)
    one.begin()
    one.planted.write_text("evil")
    assert [action.action for action in other.begin()] == ["removed"]
    assert one.end() == other.end() == ()


def test_who_came_between_calls_is_known_to_the_next(tmp_path: Path, kind: str) -> None:
    one, other = settled(tmp_path, kind), Server(tmp_path, kind)
    other.begin()
    other.planted.write_text("evil")
    assert [action.action for action in one.begin()] == ["removed"]
    assert one.end() == other.end() == ()


def test_who_finds_that_another_came_says_no_more_that_it_runs(tmp_path: Path) -> None:
    """Till it's its turn: two that run would each go by what the other has told of."""
    one, other = (Announcement(str(tmp_path), None) for _ in range(2))
    one.arrive()
    one.is_alone(one.arrived())
    said = [(one.run_quietly(), one.own.runs, one.is_quiet)]
    one.own.rest()
    other.arrive()
    said.append((one.run_quietly(), one.own.runs, one.is_quiet))
    assert said == [(True, True, True), (False, False, False)]
    one.close()
    other.close()


def test_who_is_there_and_runs_nothing_may_at_any_time(tmp_path: Path, kind: str) -> None:
    one, other = settled(tmp_path, kind), settled(tmp_path, kind)
    for server in (one, other):
        server.begin()
        server.end()
    one.begin()
    one.planted.write_text("evil")
    assert [action.action for action in other.begin()] == ["removed"]
    assert one.end() == other.end() == ()


@pytest.mark.parametrize("when", ["before the word", "between the word and the look"])
def test_who_comes_just_as_a_call_begins_is_found_or_finds_it(
    tmp_path: Path, kind: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = settled(tmp_path, kind), Server(tmp_path, kind)
    arrived, run = Announcement.arrived, presence.Presence.run
    came: list[tuple[Action, ...]] = []

    def come() -> None:
        if not came:
            came.append(())
            came[0] = other.begin()
            other.planted.write_text("evil")

    def runs(self: presence.Presence) -> None:
        come()
        run(self)

    def looks(self: Announcement) -> bytes:
        come()
        return arrived(self)

    if when == "before the word":
        monkeypatch.setattr(presence.Presence, "run", runs)
    else:
        monkeypatch.setattr(Announcement, "arrived", looks)
    assert [action.action for action in one.begin()] == ["removed"]
    assert came == [()]
    one.planted.write_text("evil")
    assert [action.action for action in other.end()] == ["removed"]
    assert one.end() == ()


def test_between_what_is_said_and_the_look_for_others_stands_a_lock_of_all(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one a processor may look first: two could begin, and neither see the other."""
    acts: list[str] = []

    def noted(of: object, name: str, act: str) -> None:
        do = getattr(of, name)

        def note(*arguments: object) -> object:
            told = not isinstance(of, ModuleType) or is_common(arguments[0])
            acts.extend([act] if told else ())
            return do(*arguments)

        monkeypatch.setattr(of, name, note)

    def is_common(fd: object) -> bool:
        return posix.readlink(f"/proc/self/fd/{fd}").endswith("/guard/arrived")

    one, other = settled(tmp_path, kind), Server(tmp_path, kind)
    noted(presence.Presence, "run", "said")
    noted(posix, "pwrite", "came")
    noted(fcntl, "flock", "locked")
    noted(Announcement, "arrived", "looked")
    noted(Register, "take_turn", "turn")
    one.begin()
    assert acts == ["said", "locked", "looked"]
    acts.clear()
    other.begin()
    assert acts[:3] == ["turn", "came", "locked"]


def test_who_has_come_and_not_looked_yet_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_turn = Register.take_turn
    monkeypatch.setattr(Register, "take_turn", lambda self, _: take_turn(self, 0.05))
    one, other = settled(tmp_path, "top"), Server(tmp_path, "top")
    arrive = Announcement.arrive
    refused = []

    def arrives(self: Announcement) -> None:
        arrive(self)
        monkeypatch.setattr(Announcement, "arrive", arrive)
        with pytest.raises(Exception, match="looking for too long") as told:
            one.begin()
        refused.append(str(told.value))

    monkeypatch.setattr(Announcement, "arrive", arrives)
    other.begin()
    assert len(refused) == 1
    other.planted.write_text("evil")
    assert [action.action for action in one.begin()] == ["removed"]


def test_the_persons_edits_between_calls_are_taken_in(tmp_path: Path, kind: str) -> None:
    one = settled(tmp_path, kind)
    one.planted.write_text("the person's")
    if kind == "below":
        assert one.learn() == ()  # there the watcher tells
    assert one.begin() == one.end() == ()
    assert one.planted.exists()
    one.begin()
    one.planted.write_text("evil")
    assert [action.action for action in one.end()] == ["restored"]


@pytest.mark.parametrize("linking", [True, False], ids=["linked", "each its own"])
def test_a_word_is_said_in_all_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, linking: bool
) -> None:
    def link(*_: object, **__: object) -> None:
        raise PermissionError(1, "no second name here")

    if not linking:
        monkeypatch.setattr(posix, "link", link)
    monkeypatch.setattr(announcement, "REGISTERS_MAX", 3)
    monkeypatch.setattr("nono_mcp.guard.guard.REGISTERS_MAX", 3)
    monkeypatch.setattr("nono_mcp.guard.guard.HOLDING_MAX", 1)
    places = [tmp_path / f"granted {number}" for number in range(7)]
    for place in places:
        place.mkdir()
    one = settled(tmp_path, "top", *places)
    files = list((tmp_path / "state").rglob("calls-*"))
    assert len(files) == 8
    assert len({path.stat().st_ino for path in files}) == (3 if linking else 8)
    assert {path.read_bytes()[:2] for path in files} == {b"ii"}
    one.begin()
    assert {path.read_bytes()[:2] for path in files} == {b"rr"}
    for place in places:
        (place / ".npmrc").write_text("evil")
        other = Guard(str(tmp_path / "state"))
        other.settle([(str(place), None)], ())
        assert [action.path for action in other.begin()] == [f"{place}/.npmrc"]
        other.end()
        other.close()
    assert one.end() == ()
    assert {path.read_bytes()[:1] for path in files} == {b"i"}
    one.close()
    found = [path.name for path in (tmp_path / "state" / "guard").rglob("*") if path.is_file()]
    assert found == ["arrived"]


def test_a_directory_of_many_that_was_replaced_is_looked_at_anew(tmp_path: Path) -> None:
    place = tmp_path / "granted"
    place.mkdir()
    one = settled(tmp_path, "top", place)
    (before,) = (tmp_path / "state").glob("guard/top/*granted/calls-*")
    place.rename(tmp_path / "old")
    place.mkdir()
    assert one.begin() == one.end() == ()
    (after,) = (tmp_path / "state").glob("guard/top/*granted/calls-*")
    assert before.name != after.name, "others are told which directory it is"


def test_two_that_take_turns_tell_each_other_nothing_anew(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Server(tmp_path, kind), Server(tmp_path, kind)
    one.planted.write_text("the person's")
    for server in (one, other, one):
        server.begin()
        server.end()
    published: list[object] = []
    monkeypatch.setattr(Register, "publish", lambda _, known: published.append(known))
    for server in (other, one, other):
        assert server.begin() == server.end() == ()
    assert published == []


def test_what_only_another_knew_is_told_anew(tmp_path: Path, kind: str) -> None:
    one, other = settled(tmp_path, kind), settled(tmp_path, kind)
    one.begin()
    one.end()
    one.planted.write_text("the person's")
    if kind == "below":
        other.learn()
    assert other.begin() == other.end() == ()
    (known,) = (tmp_path / "state" / "guard" / kind).glob("*/known-*")
    assert b".npmrc" in known.read_bytes()
    one.planted.unlink()
    assert one.begin() == ()
    assert b".npmrc" not in known.read_bytes()
