"""A single run whose limits the kernel holds, where it may make a control group.

Each is started in a group that was made for it, as by `systemd-run --scope -p Delegate=yes`; what
it came to is what the kernel counted for that one, who asked for the run included.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from nono_sandbox.cgroups.groups import LANE_BYTES
from nono_sandbox.cgroups.membership import RESERVED_TASKS
from nono_sandbox.confinement import CLOSED, LANDLOCK, PORTS, PROCESSES_USUAL, Call, Limits, Network
from tests.sandbox.conftest import LONG_ENOUGH_S, attack_argv, entering
from tests.sandbox.test_single_run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.conftest import Yard

pytestmark = [pytest.mark.linux, pytest.mark.groups]
MIB = 1 << 20
MEMORY = Limits(memory_bytes_max=32 * MIB)
PROCESSES_MAX = 16
OWN_BYTES = 64 * MIB
"""Whoever asked for the run, and more."""
OWN_TASKS = 8
FILLS = "kept = [bytearray(b'x') * (1 << 20) for _ in range(300)]"
WAITS = "say('here', 1); sleep_for_ever()"


def run_in(  # noqa: PLR0913  # what a run is made of
    place: Path, tier: str, yard: Yard, script: str, limits: Limits, *, network: str = CLOSED
) -> Run:
    argv = tuple(attack_argv(script))
    call = Call(argv, (("PATH", "/usr/bin:/bin"),), str(yard.workspace), limits)
    confinement = yard.confinement(limits=limits, network=Network(network))
    return Run(tier, confinement, call, network=network, by=entering(place))


def counted(place: Path, name: str) -> int:
    return int((place / name).read_text())


def groups_in(place: Path) -> list[Path]:
    return [one for one in place.glob("nono-*/*") if one.is_dir()]


def wait_until_empty(group: Path) -> None:
    deadline = time.monotonic() + LONG_ENOUGH_S
    while "populated 1" in (group / "cgroup.events").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def see_as_it_was(place: Path) -> None:
    assert [one for one in place.iterdir() if one.is_dir()] == []
    assert (place / "cgroup.subtree_control").read_text().split() == []


@pytest.mark.parametrize("network", [CLOSED, PORTS])
def test_a_runs_memory_never_passes_its_limit(
    tier: str, yard: Yard, place: Path, network: str
) -> None:
    answer, _ = run_in(place, tier, yard, FILLS, MEMORY, network=network).wait()
    assert answer[0] == "ended"
    assert answer[2] == "memory"
    assert counted(place, "memory.peak") <= 32 * MIB + LANE_BYTES + OWN_BYTES
    see_as_it_was(place)


def test_nor_do_its_processes(tier: str, yard: Yard, place: Path) -> None:
    script = """
        while True:
            try:
                os.fork()
            except OSError:
                pass
        """
    limits = Limits(processes_max=PROCESSES_MAX)
    answer, _ = run_in(place, tier, yard, script, limits).wait()
    assert answer[2] == "processes"
    if (place / "pids.peak").exists():  # since Linux 6.12
        assert counted(place, "pids.peak") <= PROCESSES_MAX + RESERVED_TASKS + OWN_TASKS
    see_as_it_was(place)


def test_a_run_is_in_its_group_before_its_program_is(tier: str, yard: Yard, place: Path) -> None:
    run = run_in(place, tier, yard, WAITS, MEMORY)
    run.wait_for(b"here")
    keeper, group = sorted(groups_in(place), key=lambda one: one.name != "keeper")
    assert str(run.process.pid) in (keeper / "cgroup.procs").read_text().split()
    # The lane, and what it runs.
    assert len((group / "cgroup.procs").read_text().split()) == 1 + 1
    assert counted(group, "memory.max") == 32 * MIB + LANE_BYTES
    assert counted(group, "memory.swap.max") == 0
    run.process.kill()
    run.wait_to_be_killed()


@pytest.mark.parametrize(
    "limits", [Limits(), Limits(processes_max=PROCESSES_USUAL, wall_s=60, open_files_max=64)]
)
def test_a_run_without_a_limit_for_it_makes_none(
    tier: str, yard: Yard, place: Path, limits: Limits
) -> None:
    run = run_in(place, tier, yard, WAITS, limits)
    run.wait_for(b"here")
    see_as_it_was(place)
    run.process.kill()
    run.wait_to_be_killed()


def test_what_a_killed_run_left_goes_with_the_next(tier: str, yard: Yard, place: Path) -> None:
    run = run_in(place, tier, yard, WAITS, MEMORY)
    run.wait_for(b"here")
    run.process.kill()
    run.wait_to_be_killed()
    left = groups_in(place)
    assert left
    for group in left:
        wait_until_empty(group)
    # As who is started there next comes to be in it.
    for directory in (*place.glob("nono-*"), place):
        (directory / "cgroup.subtree_control").write_text("-memory -pids")
    answer, _ = run_in(place, tier, yard, "pass", MEMORY).wait()
    assert answer[:3] == ("ended", 0, "")
    see_as_it_was(place)


@pytest.mark.parametrize("tier", [LANDLOCK], indirect=True)
def test_nothing_outlives_its_lane_in_a_group(tier: str, yard: Yard, place: Path) -> None:
    script = "in_child(lambda: (os.setsid(), in_child(sleep_for_ever)))\n" + WAITS
    run = run_in(place, tier, yard, script, MEMORY)
    run.wait_for(b"here")
    (group,) = (one for one in groups_in(place) if one.name != "keeper")
    os.kill(run.lane(), signal.SIGKILL)
    answer, _ = run.wait()
    assert answer == ("refused", "the sandbox died; what it ran was killed")
    assert not group.exists()
    see_as_it_was(place)


def test_a_group_with_others_in_it_is_left_alone(tier: str, yard: Yard, place: Path) -> None:
    with subprocess.Popen([*entering(place), "/bin/sleep", "1000"]) as other:
        try:
            answer: tuple[Any, ...] = run_in(place, tier, yard, FILLS, MEMORY).wait()[0]
            # Counted, then.
            assert answer[2] == "memory"
            assert (place / "cgroup.procs").read_text().split() == [str(other.pid)]
        finally:
            other.kill()
    see_as_it_was(place)


def test_no_run_can_change_its_group_or_leave_it(tier: str, yard: Yard, place: Path) -> None:
    script = """
        for fd in range(1024):
            attempt(f"write {fd}", lambda: fd in (0, 1, 2) or os.pwrite(fd, b"max", 0))
        attempt("score", lambda: os.open("/proc/self/oom_score_adj", os.O_WRONLY))
        attempt("groups", lambda: os.listdir("/sys/fs/cgroup"))
        attempt("group", lambda: os.mkdir("/sys/fs/cgroup/own"))
        """
    answer, output = run_in(place, tier, yard, script, MEMORY).wait()
    assert answer[:3] == ("ended", 0, "")
    done = {line.split('"')[1] for line in output.decode().splitlines() if '"done"' in line}
    assert done == {"write 0", "write 1", "write 2"}
