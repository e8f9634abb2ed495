"""What a lane's control group is told, in a pretended one: a directory of files."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest

from nono_sandbox.cgroups.groups import LANE_BYTES, UNLIMITED, Group, resting_bytes
from nono_sandbox.cgroups.membership import RESERVED_TASKS, Membership
from nono_sandbox.confinement import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.linux
MIB = 1 << 20
MEMORY = Limits(memory_bytes_max=100 * MIB, processes_max=20)


def stat(*, file: int = 0, shmem: int = 0, slab: int = 0) -> str:
    return f"anon 1\nfile {file}\nshmem {shmem}\nslab_reclaimable {slab}\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("cgroup.procs", "memory.max", "memory.swap.max", "pids.max"):
        (tmp_path / name).write_text("")
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n")
    (tmp_path / "memory.current").write_text(f"{2 * MIB}\n")
    (tmp_path / "memory.stat").write_text(stat())
    return tmp_path


@pytest.fixture
def group(place: Path) -> Iterator[Group]:
    with contextlib.closing(Group(str(place), -1)) as found:
        yield found


def told(place: Path) -> list[str]:
    """Return what the group was told since this was last asked; and let it forget."""
    found = []
    for name in ("memory.max", "memory.swap.max", "pids.max"):
        found.append((place / name).read_text())
        (place / name).write_text("")
    return found


def test_a_group_is_told_what_changes_alone(place: Path, group: Group) -> None:
    group.limit(Limits())
    assert told(place) == ["", "", ""]
    group.limit(MEMORY)
    most = str(100 * MIB + LANE_BYTES)
    assert told(place) == [most, "0", str(20 + RESERVED_TASKS)]
    group.limit(MEMORY)
    assert told(place) == ["", "", ""]
    group.limit(MEMORY.replace(processes_max=30))
    assert told(place) == ["", "", str(30 + RESERVED_TASKS)]
    group.limit(Limits())
    assert told(place) == [UNLIMITED, UNLIMITED, UNLIMITED]


@pytest.mark.parametrize(
    ("current", "fields", "spent"),
    [
        (LANE_BYTES, {}, False),
        (LANE_BYTES + MIB, {}, True),
        (90 * MIB, {"file": 88 * MIB}, False),
        (90 * MIB, {"file": 88 * MIB, "shmem": 8 * MIB}, True),
        (90 * MIB, {"file": 80 * MIB, "slab": 7 * MIB}, False),
    ],
)
def test_a_group_is_spent_when_calls_left_what_the_kernel_cant_give_up(
    place: Path, group: Group, current: int, fields: dict[str, int], *, spent: bool
) -> None:
    assert not group.is_spent()
    (place / "memory.current").write_text(f"{current}\n")
    (place / "memory.stat").write_text(stat(**fields))
    assert group.is_spent() == spent
    assert group.is_spent() == spent
    (place / "memory.current").write_text(f"{MIB}\n")
    assert not group.is_spent()


@pytest.mark.parametrize(
    ("current", "fields", "rest"),
    [
        (10, {}, 10),
        (10, {"file": 4}, 6),
        (10, {"file": 4, "shmem": 4}, 10),
        (10, {"file": 4, "shmem": 1, "slab": 2}, 5),
        (1, {"file": 4}, 0),
    ],
)
def test_what_the_kernel_can_give_up_is_no_rest(
    current: int, fields: dict[str, int], rest: int
) -> None:
    assert resting_bytes(current, stat(**fields).encode()) == rest


@pytest.mark.parametrize(("kills", "lost"), [(0, False), (1, True), (10, True)])
def test_a_group_knows_whether_memory_cost_it_a_process(
    place: Path, group: Group, kills: int, *, lost: bool
) -> None:
    events = f"low 0\nhigh 0\nmax 7\noom 3\noom_kill {kills}\noom_group_kill 0\n"
    (place / "memory.events").write_text(events)
    assert group.lost_to_memory() == lost


def test_a_group_that_lacks_a_file_isnt_used(place: Path) -> None:
    (place / "memory.swap.max").unlink()
    with pytest.raises(OSError, match="swap"):
        Group(str(place), -1)


@pytest.fixture
def membership(place: Path) -> Iterator[Membership]:
    (place / "memory.events").write_text(events(2))
    (place / "oom_score_adj").write_text("-500\n")
    with contextlib.ExitStack() as stack:
        fds = []
        for name, flags in (("memory.events", os.O_RDONLY), ("oom_score_adj", os.O_RDWR)):
            fds.append(os.open(place / name, flags))
            stack.callback(os.close, fds[-1])
        yield Membership(*fds)


def events(kills: int) -> str:
    return f"low 0\nhigh 0\nmax 9\noom 9\noom_kill {kills}\noom_group_kill 0\n"


def test_a_lane_tells_of_each_kill_once_and_of_none_before_it(
    place: Path, membership: Membership
) -> None:
    assert not membership.killed()
    for kills in (3, 5, 12):
        (place / "memory.events").write_text(events(kills))
        assert membership.killed()
        assert not membership.killed()


def test_other_events_are_no_kills(place: Path, membership: Membership) -> None:
    told = events(2).replace("max 9", "max 10").replace("oom 9", "oom 30")
    (place / "memory.events").write_text(told.replace("oom_group_kill 0", "oom_group_kill 1"))
    assert not membership.killed()


def test_a_lane_is_killed_no_sooner_than_what_it_starts(
    place: Path, membership: Membership
) -> None:
    score = place / "oom_score_adj"

    def written() -> str:
        found = score.read_text()
        score.write_text("")
        return found.rstrip("\n\0")

    assert written().startswith("0")
    membership.expose()
    assert written() == "1000"
    membership.spare()
    assert written() == "0"
