"""Limits that the kernel holds: collected where this process may make control groups.

Each is exceeded as fast as a program can; what it came to is what the kernel counted.
"""

from __future__ import annotations

import signal
import subprocess
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_sandbox.cgroups import hierarchy
from nono_sandbox.cgroups.groups import LANE_BYTES
from nono_sandbox.cgroups.membership import RESERVED_TASKS
from nono_sandbox.confinement import NAMESPACES, Limits
from tests.sandbox.conftest import entering, supervisor_argv

if TYPE_CHECKING:
    from nono_sandbox.client import Lane
    from tests.sandbox.conftest import Sandbox

pytestmark = [pytest.mark.linux, pytest.mark.groups]
MIB = 1 << 20
MEMORY_BYTES_MAX = 32 * MIB
PROCESSES_MAX = 16
LIMITS = Limits(memory_bytes_max=MEMORY_BYTES_MAX)


def group_of(lane: Lane) -> Path:
    assert lane.group is not None
    return Path(lane.group.path)


def counted(lane: Lane, name: str) -> int:
    return int((group_of(lane) / name).read_text().strip())


FILLS = {
    "private": "kept = [bytearray(b'x') * MIB for _ in range(150)]",
    "of children": """
        for _ in range(20):
            in_child(lambda: ([bytearray(b"x") * MIB for _ in range(6)], sleep_for_ever()))
        sleep_for_ever()
        """,
    "shared": """
        import mmap
        kept = mmap.mmap(-1, 150 * MIB)
        for _ in range(150):
            kept.write(b"x" * MIB)
        """,
    "a memfd": """
        fd = os.memfd_create("x")
        for _ in range(150):
            os.write(fd, b"x" * MIB)
        """,
    "of a child that nobody minds": """
        pid = in_child(lambda: [bytearray(b"x") * MIB for _ in range(150)])
        os.waitpid(pid, 0)
        """,
}
FIRST_TIERS = {
    "segments": """
        libc.shmat.restype = ctypes.c_void_p
        libc.shmdt.argtypes = (ctypes.c_void_p,)
        for _ in range(150):
            address = libc.shmat(libc.shmget(0, MIB, 0o1600), None, 0)
            ctypes.memset(address, 1, MIB)
            libc.shmdt(address)
        """,
    "files in memory": """
        with open("/tmp/x", "wb") as stream:
            for _ in range(150):
                stream.write(b"x" * MIB)
        """,
}


def fits(sandbox: Sandbox, lane: Lane) -> bool:
    """Tell whether a call of that lane has nearly all that its limit gives."""
    script = "kept = [bytearray(b'x') * (1 << 20) for _ in range(18)]"
    return not sandbox.attack(script, limits=LIMITS, lane=lane).ended.limit


def see_it_held(sandbox: Sandbox, script: str) -> None:
    lane = sandbox.new_lane()
    attack = "\nMIB = 1 << 20\n" + textwrap.dedent(script)
    outcome = sandbox.begin_attack(attack, limits=LIMITS, lane=lane).wait()
    assert outcome.ended.limit == "memory", outcome
    assert counted(lane, "memory.peak") <= MEMORY_BYTES_MAX + LANE_BYTES
    # The same lane, whose call was killed and not itself, unless what the call left is still there.
    assert fits(sandbox, sandbox.new_lane() if lane.is_spent() else lane)


@pytest.mark.parametrize("name", FILLS)
def test_memory_never_passes_its_limit(sandbox: Sandbox, name: str) -> None:
    see_it_held(sandbox, FILLS[name])


@pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
@pytest.mark.parametrize("name", FIRST_TIERS)
def test_nor_does_memory_that_is_no_processs(sandbox: Sandbox, name: str) -> None:
    see_it_held(sandbox, FIRST_TIERS[name])


@pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
def test_a_program_smaller_than_its_lane_is_killed_before_it(sandbox: Sandbox) -> None:
    argv = ("dd", "if=/dev/zero", "of=/tmp/x", "bs=64k", "count=1600")
    outcome = sandbox.run(*argv, limits=LIMITS)
    assert (outcome.ended.limit, outcome.status) == ("memory", 128 + signal.SIGKILL)


def test_processes_never_pass_their_limit(sandbox: Sandbox) -> None:
    script = """
        while True:
            try:
                os.fork()
            except OSError:
                pass
        """
    lane = sandbox.new_lane()
    limits = Limits(processes_max=PROCESSES_MAX)
    outcome = sandbox.begin_attack(script, limits=limits, lane=lane).wait()
    assert outcome.ended.limit == "processes"
    most = counted(lane, "pids.max")
    assert most == PROCESSES_MAX + RESERVED_TASKS
    if (group_of(lane) / "pids.peak").exists():  # since Linux 6.12
        assert counted(lane, "pids.peak") <= most


def test_threads_never_pass_theirs(sandbox: Sandbox) -> None:
    script = """
        count = 0
        try:
            while True:
                threading.Thread(target=sleep_for_ever, daemon=True).start()
                count += 1
        except RuntimeError:
            say("threads", count)
            os._exit(0)
        """
    lane = sandbox.new_lane()
    outcome = sandbox.attack(script, limits=Limits(processes_max=PROCESSES_MAX), lane=lane)
    # Those, the one that started them, and the lane.
    assert outcome.said["threads"] + 2 == counted(lane, "pids.max")


@pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
def test_what_calls_leave_in_memory_is_seen_and_adds_nothing_to_the_next(sandbox: Sandbox) -> None:
    lane = sandbox.new_lane()
    leaves = "with open('/tmp/x', 'wb') as x: [x.write(b'x' * (1 << 20)) for _ in range(20)]"
    sandbox.attack(leaves, limits=LIMITS, lane=lane)
    assert lane.is_spent()
    # Whoever took it for the next call would take nothing for more than it is.
    attack = "os.unlink('/tmp/x'); kept = [bytearray(b'x') * (1 << 20) for _ in range(60)]"
    assert sandbox.begin_attack(attack, limits=LIMITS, lane=lane).wait().ended.limit == "memory"
    assert not lane.is_spent()
    another = sandbox.new_lane()
    assert not another.is_spent()
    assert fits(sandbox, another)


def test_a_limit_is_one_calls(sandbox: Sandbox) -> None:
    lane = sandbox.new_lane()
    script = "kept = [bytearray(b'x') * (1 << 20) for _ in range(60)]"
    assert sandbox.begin_attack(script, limits=LIMITS, lane=lane).wait().ended.limit == "memory"
    sandbox.attack(script, lane=lane)
    assert sandbox.begin_attack(script, limits=LIMITS, lane=lane).wait().ended.limit == "memory"


def test_no_call_can_change_its_group_or_leave_it(sandbox: Sandbox) -> None:
    lane = sandbox.new_lane()
    group = group_of(lane)
    script = """
        for top in ARGUMENTS:
            for name in ("cgroup.procs", "memory.max", "pids.max", "cgroup.kill"):
                attempt(f"{top}/{name}", lambda: os.open(f"{top}/{name}", os.O_WRONLY))
            attempt(top, lambda: os.mkdir(f"{top}/own"))
        attempt("score", lambda: os.open("/proc/self/oom_score_adj", os.O_WRONLY))
        for fd in range(1024):
            attempt(f"write {fd}", lambda: fd in (0, 1, 2) or os.pwrite(fd, b"max", 0))
        """
    said = sandbox.attack(
        script, group, group.parent, "/sys/fs/cgroup", limits=LIMITS, lane=lane
    ).said
    done = {name for name, how in said.items() if how == "done"}
    assert done <= {"write 0", "write 1", "write 2"}, said
    assert counted(lane, "memory.max") < MEMORY_BYTES_MAX + 2 * LANE_BYTES
    assert not (group / "own").exists()


def test_groups_go_with_their_server(sandbox: Sandbox) -> None:
    lane = sandbox.new_lane()
    sandbox.run("true", lane=lane)
    group = group_of(lane)
    assert group.is_dir()
    sandbox.close()
    assert not group.exists()


SERVER = """
    import signal
    from nono_sandbox.client import ForkServer
    from nono_sandbox.confinement import Confinement
    server = ForkServer.start()
    server.configure(Confinement(cwd="/"))
    print(server.groups.reason or server.lane().group.path, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    """


def killed_server_in(place: Path, others: str = "") -> str:
    """Return what a supervisor that is started in *place*, and killed, said of its groups."""
    argv = [*entering(place, others), *supervisor_argv(SERVER)]
    ended = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    return ended.stdout.strip()


def test_what_a_killed_server_left_goes_with_the_next(place: Path) -> None:
    first = Path(killed_server_in(place))
    assert first.is_dir()
    # The next that is started there does it; but nobody enters a group that has been divided.
    hierarchy.clear(str(place))
    assert not first.parent.exists()


def test_a_group_with_others_in_it_is_left_alone(place: Path) -> None:
    others = 'sleep 60 & echo $! > "$0/cgroup.procs";'
    assert "other programs are in" in killed_server_in(place, others)
    assert [one.name for one in place.iterdir() if one.is_dir()] == []
