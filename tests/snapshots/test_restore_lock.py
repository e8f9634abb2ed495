"""Who runs something in a workspace, as two processes see it of each other."""

import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nono_mcp.snapshots.restore_lock import RestoreLock

pytestmark = pytest.mark.linux


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[RestoreLock, RestoreLock]]:
    """Return what two servers of a workspace have, as their locks are of open files."""
    both = RestoreLock(str(tmp_path), "/w"), RestoreLock(str(tmp_path), "/w")
    with ExitStack() as stack:
        for one in both:
            stack.callback(one.close)
        yield both


def test_a_call_is_seen_by_others_and_not_by_its_own(two: tuple[RestoreLock, RestoreLock]) -> None:
    ours, theirs = two
    assert ours.enter()
    assert ours.enter()
    assert not ours.runs_elsewhere()
    assert theirs.runs_elsewhere()
    ours.leave()
    assert theirs.runs_elsewhere(), "one is left"
    ours.leave()
    assert not theirs.runs_elsewhere()


def test_who_is_alone_lets_nobody_in_and_runs_nothing(two: tuple[RestoreLock, RestoreLock]) -> None:
    ours, theirs = two
    assert ours.be_alone()
    assert not theirs.enter()
    assert not theirs.be_alone()
    assert not theirs.runs_elsewhere()
    ours.let_in()
    assert theirs.enter()
    assert not ours.be_alone()
    assert ours.runs_elsewhere()


def test_a_server_keeps_its_own_calls_and_rollbacks_apart_too(
    two: tuple[RestoreLock, RestoreLock],
) -> None:
    """The kernel would turn the one lock into the other for who has it."""
    one, other = two
    assert one.enter()
    assert not one.be_alone()
    assert other.enter()
    other.leave()
    one.leave()
    assert one.be_alone()
    assert not one.be_alone()
    assert not one.enter()
    assert not other.enter()
    one.let_in()
    assert one.enter()
    one.leave()


def test_our_state_is_closed_to_others_whoever_makes_it(tmp_path: Path) -> None:
    state = tmp_path / "a" / "state"
    RestoreLock(str(state), "/w").close()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (state, state / "run")} == {0o700}


def test_whoever_dies_has_let_go(two: tuple[RestoreLock, RestoreLock], tmp_path: Path) -> None:
    ours, _ = two
    dying = RestoreLock(str(tmp_path), "/w")
    assert dying.enter()
    assert ours.runs_elsewhere()
    dying.close()
    assert not ours.runs_elsewhere()
    assert ours.be_alone()
