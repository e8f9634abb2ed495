"""What a call adds to the disk: told from what was there, and from what others add."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nono_sandbox import growth
from nono_sandbox.growth import INODE_BYTES, Growth, taken

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.linux, pytest.mark.claim("limits.disk")]
MIB = 1 << 20
SLACK_NS = 40 * 10**6


def nobody() -> Iterator[str]:
    return iter(())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "_SLACK_NS", SLACK_NS)
    monkeypatch.setattr(growth, "IDLE", 0)
    monkeypatch.setattr(growth, "UNTOLD", 1 << 30)  # whatever others write meanwhile


@pytest.fixture
def place(tmp_path: Path) -> Path:
    found = tmp_path / "place"
    found.mkdir()
    (tmp_path / "tick").touch()
    (found / "old").write_bytes(os.urandom(4 * MIB))
    # By the clock of files, which is coarse.
    written_ns = (found / "old").stat().st_ctime_ns
    while (tmp_path / "tick").stat().st_ctime_ns < written_ns + 2 * SLACK_NS:
        (tmp_path / "tick").write_text("")
    return found


def test_what_was_there_isnt_counted(place: Path) -> None:
    found = Growth([str(place)], ())
    assert not found.over(2 * MIB, nobody)
    (place / "new").write_bytes(os.urandom(3 * MIB))
    assert found.over(2 * MIB, nobody)
    assert not found.over(8 * MIB, nobody)


def test_a_file_counts_for_its_inode(place: Path) -> None:
    found = Growth([str(place)], ())
    (place / "d").mkdir()
    for number in range(100):
        (place / "d" / str(number)).touch()
    assert found.over(100 * INODE_BYTES, nobody)
    assert not found.over(200 * INODE_BYTES, nobody)


def test_links_to_one_file_count_once(place: Path) -> None:
    found = Growth([str(place)], ())
    (place / "new").write_bytes(os.urandom(MIB))
    for number in range(10):
        (place / str(number)).hardlink_to(place / "new")
    assert not found.over(2 * MIB, nobody)


def test_a_place_within_another_counts_once(place: Path) -> None:
    (place / "d").mkdir()
    found = Growth([str(place), str(place / "d"), str(place / "gone")], ())
    (place / "d" / "new").write_bytes(os.urandom(MIB))
    assert not found.over(3 * MIB // 2, nobody)


def test_a_link_that_leads_out_isnt_followed(place: Path, tmp_path: Path) -> None:
    found = Growth([str(place)], ())
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "new").write_bytes(os.urandom(4 * MIB))
    (place / "link").symlink_to(tmp_path / "outside")
    assert not found.over(2 * MIB, nobody)


def test_what_was_removed_and_is_held_open_counts(place: Path) -> None:
    found = Growth([str(place)], ())
    with (place / "new").open("wb") as file:
        file.write(os.urandom(4 * MIB))
        (place / "new").unlink()
        assert found.over(2 * MIB, lambda: iter([str(os.getpid())]))
        assert not found.over(2 * MIB, nobody)


def test_what_cant_be_looked_at_is_told_by_the_file_system(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Growth([str(place)], ())
    used = taken(str(place))
    monkeypatch.setattr(growth, "WALK_S_MAX", -1.0)
    monkeypatch.setattr(growth, "taken", lambda _: used)
    assert not found.over(2 * MIB, nobody)
    monkeypatch.setattr(growth, "taken", lambda _: used + 3 * MIB)
    assert found.over(2 * MIB, nobody)


def test_what_somebody_frees_makes_no_room(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Growth([str(place)], ())
    used = taken(str(place))
    monkeypatch.setattr(growth, "UNTOLD", 4)
    monkeypatch.setattr(growth, "taken", lambda _: used - 100 * MIB)
    assert not found.over(2 * MIB, nobody)
    monkeypatch.setattr(growth, "taken", lambda _: used - 90 * MIB)
    assert found.over(2 * MIB, nobody)
