"""Limits: each is exceeded by a program that tries, which ends, and the result says why."""

from __future__ import annotations

import os
import posix
import resource
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from nono_sandbox.confinement import NAMESPACES, Call, Confinement, Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.conftest import Confine, Sandbox, Yard

MIB = 1 << 20
LONG_ENOUGH_S = 60
GRACE_S = 60
"""How late, on however busy a machine, a limit may be enforced before it isn't one."""
KILLED = 128 + signal.SIGKILL


@pytest.mark.claim("limits.named")
@pytest.mark.parametrize(
    "script",
    [
        "signal.pause()",
        "while True: pass",
        "signal.pthread_sigmask(0, signal.valid_signals()); sleep_for_ever()",
        "os.kill(os.getpid(), signal.SIGSTOP)",
        "os.setsid() if os.fork() == 0 else 0; sleep_for_ever()",
    ],
)
def test_a_call_takes_no_longer_than_it_may(
    sandbox: Sandbox, yard: Yard, alive: Callable[[str], list[str]], script: str
) -> None:
    began_at = time.monotonic()
    limits = Limits(wall_s=0.3)
    outcome = sandbox.begin_attack(script, yard.secret, limits=limits).wait()
    assert 0.3 <= time.monotonic() - began_at < GRACE_S
    assert (outcome.ended.limit, outcome.status) == ("wall", KILLED)
    assert alive(yard.secret) == []


@pytest.mark.claim("limits.named")
@pytest.mark.parametrize(
    ("script", "cpu_s"),
    [
        ("while True: pass", 1),
        # The limit is the call's: children of which none is over it alone, nor heeds the kernel,
        # whose least is a second. On macOS it's each's.
        pytest.param(
            "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\n"
            "[os.fork() for _ in range(2)]\nwhile True: pass",
            0.3,
            marks=pytest.mark.linux,
        ),
        pytest.param(
            "while True: os.waitpid(in_child(lambda: sum(range(1_000_000))), 0)",
            0.3,
            marks=pytest.mark.linux,
        ),
        pytest.param(
            "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
            1,
            marks=pytest.mark.linux,
        ),
        ("threading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()\nwhile True: pass", 1),
    ],
    ids=["alone", "together", "one after the other", "SIGXCPU ignored", "threads"],
)
def test_a_call_takes_no_more_cpu_than_it_may(sandbox: Sandbox, script: str, cpu_s: float) -> None:
    outcome = sandbox.begin_attack(script, limits=Limits(cpu_s=cpu_s, wall_s=GRACE_S)).wait()
    assert outcome.ended.limit == "cpu", outcome.ended
    assert outcome.status in (KILLED, 128 + signal.SIGXCPU)


MEMORY = {
    "private": "kept = [bytearray(b'x' * (8 << 20)) for _ in slowly()]",
    "of children": """
        for _ in slowly():
            in_child(lambda: (bytearray(b"x" * (8 << 20)), sleep_for_ever()))
        """,
    "shared": """
        import mmap
        kept = []
        for _ in slowly():
            kept.append(mmap.mmap(-1, 8 << 20))
            kept[-1].write(b"x" * (8 << 20))
        """,
    "a memfd": """
        import mmap
        fd = os.memfd_create("x")
        for number in slowly():
            os.write(fd, b"x" * (8 << 20))
        """,
    "many memfds": """
        for number in slowly():
            os.write(os.memfd_create("x"), b"x" * (8 << 20))
        """,
}


@pytest.mark.linux  # macOS keeps no such limit
@pytest.mark.claim("limits.named")
@pytest.mark.parametrize("script", MEMORY.values(), ids=MEMORY.keys())
def test_a_call_uses_no_more_memory_than_it_may(sandbox: Sandbox, script: str) -> None:
    slowly = """
        import time
        def slowly():
            for number in range(64):
                time.sleep(0.03)
                yield number
            # It has what it may not: now whoever looks may take long to come to it.
            sleep_for_ever()
        """
    lines = script if script.startswith("\n") else f"\n        {script}\n"
    limits = Limits(memory_bytes_max=128 * MIB, wall_s=LONG_ENOUGH_S)
    outcome = sandbox.begin_attack(slowly + lines, limits=limits).wait()
    assert (outcome.ended.limit, outcome.status) == ("memory", KILLED)


SEGMENTS = """
    import time
    libc.shmat.restype = ctypes.c_void_p
    libc.shmdt.argtypes = (ctypes.c_void_p,)
    def segment(size):
        number = libc.shmget(0, size, 0o1600)
        address = libc.shmat(number, None, 0)
        ctypes.memset(address, 1, size)
        libc.shmdt(address)
    """


@pytest.mark.claim("limits.named")
@pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
def test_memory_that_no_process_is_attached_to_is_counted_and_doesnt_stay(
    sandbox: Sandbox,
) -> None:
    lane = sandbox.new_lane()
    many = "\nfor _ in range(40):\n    segment(8 << 20)\n    time.sleep(0.03)\nsleep_for_ever()"
    limits = Limits(memory_bytes_max=128 * MIB, wall_s=LONG_ENOUGH_S)
    outcome = sandbox.begin_attack(
        SEGMENTS + many.replace("\n", "\n    "), limits=limits, lane=lane
    ).wait()
    assert outcome.ended.limit == "memory"
    one = "\n    segment(4096)\n    say('left', len(list(open('/proc/sysvipc/shm'))) - 1)"
    for _ in range(2):
        assert sandbox.attack(SEGMENTS + one, lane=lane).said["left"] == 1


GROWING = {
    "a file": "fd = os.open('big', os.O_WRONLY | os.O_CREAT)",
    "a file that was removed": """
        fd = os.open("big", os.O_WRONLY | os.O_CREAT)
        os.unlink("big")
        """,
    "a file in a directory that is shut": """
        os.mkdir("d")
        fd = os.open("d/big", os.O_WRONLY | os.O_CREAT)
        os.chmod("d", 0)
        """,
}


@pytest.mark.linux  # macOS keeps no such limit
@pytest.mark.claim("limits.disk")
@pytest.mark.parametrize("script", GROWING.values(), ids=GROWING.keys())
def test_a_call_adds_no_more_to_the_disk_than_it_may(sandbox: Sandbox, script: str) -> None:
    lines = script if script.startswith("\n") else f"\n        {script}\n"
    write = """
        import time
        for number in range(100):
            os.write(fd, os.urandom(1 << 20))
            time.sleep(0.03)
        sleep_for_ever()
        """
    limits = Limits(disk_bytes_max=16 * MIB, wall_s=LONG_ENOUGH_S)
    outcome = sandbox.begin_attack(lines + write, limits=limits).wait()
    assert (outcome.ended.limit, outcome.status) == ("disk", KILLED)


@pytest.mark.linux  # macOS keeps no such limit
@pytest.mark.claim("limits.disk")
def test_a_call_makes_no_more_files_than_count_for_that(sandbox: Sandbox) -> None:
    outcome = sandbox.begin_attack(
        """
        import time
        os.mkdir("many")
        for number in range(20_000):
            os.close(os.open(f"many/{number}", os.O_CREAT))
            if number % 100 == 0:
                time.sleep(0.01)
        sleep_for_ever()
        """,
        limits=Limits(disk_bytes_max=8 * MIB, wall_s=LONG_ENOUGH_S),
    ).wait()
    assert outcome.ended.limit == "disk"


@pytest.mark.claim("limits.disk")
@pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
@pytest.mark.parametrize("place", ["/tmp", "/dev/shm"])  # noqa: S108  # the sandbox's own
def test_files_in_memory_count_for_it(sandbox: Sandbox, place: str) -> None:
    outcome = sandbox.begin_attack(
        """
        place, = ARGUMENTS
        with open(place + "/big", "wb") as file:
            file.write(bytes(32 << 20))
        sleep_for_ever()
        """,
        place,
        limits=Limits(disk_bytes_max=16 * MIB, wall_s=GRACE_S),
    ).wait()
    assert outcome.ended.limit == "disk"


@pytest.mark.linux  # macOS keeps no such limit
@pytest.mark.claim("limits.disk")
def test_what_goes_again_isnt_added(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        """
        import time
        for name in "abc":
            with open(name, "wb") as file:
                file.write(bytes(48 << 20))
            time.sleep(0.1)
            os.unlink(name)
        """,
        limits=Limits(disk_bytes_max=64 * MIB),
    )
    assert outcome.ended.limit == ""


@pytest.mark.claim("limits.named")
@pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
@pytest.mark.parametrize("place", ["/tmp", "/dev/shm"])  # noqa: S108  # the sandbox's own
def test_files_in_memory_are_bounded(sandbox: Sandbox, place: str) -> None:
    """They live on after the call that made them: what bounds them is their file system."""
    outcome = sandbox.attack(
        """
        place, = ARGUMENTS
        status = os.statvfs(place)
        say("bytes", status.f_blocks * status.f_frsize)
        say("files", status.f_files)
        """,
        place,
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    # In whole pages, which the kernel rounds up to.
    assert 0 < outcome.said["bytes"] <= memory / 4 + os.sysconf("SC_PAGE_SIZE")
    assert 0 < outcome.said["files"] <= min(500_000, memory / 4 / 4096)


@pytest.mark.claim("limits.named")
def test_a_call_has_no_more_processes_than_it_may(
    sandbox: Sandbox, yard: Yard, alive: Callable[[str], list[str]]
) -> None:
    outcome = sandbox.begin_attack(
        """
        for number in range(100):
            try:
                in_child(sleep_for_ever)
            except BlockingIOError:
                break
        sleep_for_ever()
        """,
        yard.secret,
        limits=Limits(processes_max=20, wall_s=GRACE_S),
    ).wait()
    assert (outcome.ended.limit, outcome.status) == ("processes", KILLED)
    assert alive(yard.secret) == []


@pytest.mark.claim("limits.named")
def test_a_bomb_of_processes_is_put_out(
    sandbox: Sandbox, yard: Yard, alive: Callable[[str], list[str]]
) -> None:
    """Bounded by itself too: each forks twice, nine generations deep."""
    outcome = sandbox.begin_attack(
        """
        for _ in range(9):
            try:
                os.fork()
            except BlockingIOError:
                break
        sleep_for_ever()
        """,
        yard.secret,
        limits=Limits(processes_max=50, wall_s=GRACE_S),
    ).wait()
    assert outcome.ended.limit == "processes"
    assert alive(yard.secret) == []
    assert sandbox.run("true").status == 0


@pytest.mark.claim("limits.named")
@pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
def test_processes_and_threads_are_bounded_by_the_kernel_too(confine: Confine, yard: Yard) -> None:
    """Of one that isn't ended for it, and as root as well."""
    from nono_sandbox.namespaces import bounds_pids  # noqa: PLC0415  # it's Linux's alone

    if not bounds_pids(os.uname().release):
        pytest.skip("pid_max is the machine's here")
    before = Path("/proc/sys/kernel/pid_max").read_text()
    sandbox = confine(limits=Limits(processes_max=10))
    outcome = sandbox.begin_attack(
        """
        import resource
        attempt("more room", lambda: write("/proc/sys/kernel/pid_max"))
        say("started", 0)
        for number in range(1, 2000):
            try:
                in_child(sleep_for_ever)
            except BlockingIOError:
                break
            say("started", number)
        """,
        yard.secret,
    ).wait()
    assert outcome.done == []
    assert 10 < outcome.said["started"] < 10 + 1000
    assert Path("/proc/sys/kernel/pid_max").read_text() == before
    assert sandbox.run("true").status == 0


@pytest.mark.linux  # macOS keeps no such limit
@pytest.mark.claim("limits.named")
def test_a_call_has_no_more_threads_than_go_with_its_processes(sandbox: Sandbox) -> None:
    outcome = sandbox.begin_attack(
        """
        threading.stack_size(64 << 10)
        for _ in range(700):
            try:
                threading.Thread(target=sleep_for_ever, daemon=True).start()
            except RuntimeError:
                break
        sleep_for_ever()
        """,
        limits=Limits(processes_max=10, wall_s=GRACE_S),
    ).wait()
    assert outcome.ended.limit == "processes", outcome.text


@pytest.mark.claim("limits.named")
def test_a_file_grows_no_larger_than_it_may(sandbox: Sandbox, yard: Yard) -> None:
    limits = Limits(file_size_bytes_max=64 * 1024)
    outcome = sandbox.run("sh", "-c", "exec head -c 1000000 /dev/zero > big", limits=limits)
    assert (outcome.ended.limit, outcome.status) == ("file-size", 128 + signal.SIGXFSZ)
    assert (yard.workspace / "big").stat().st_size == 64 * 1024


@pytest.mark.claim("limits.named")
def test_no_way_of_growing_a_file_leads_past_its_limit(sandbox: Sandbox, yard: Yard) -> None:
    outcome = sandbox.attack(
        """
        import resource
        attempt("write", lambda: write("a") or os.pwrite(os.open("a", 1), b"x" * 70000, 0))
        attempt("beyond", lambda: os.pwrite(os.open("a", 1), b"x", 1 << 20))
        attempt("truncate", lambda: os.truncate("a", 1 << 20))
        if os.uname().sysname == "Linux":
            attempt("fallocate", lambda: os.posix_fallocate(os.open("a", 1), 0, 1 << 20))
        def more():
            try:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
            except ValueError as error:  # which Python makes of EPERM
                raise PermissionError(errno.EPERM, str(error)) from error
        attempt("raise the limit", more)
        """,
        limits=Limits(file_size_bytes_max=64 * 1024),
    )
    assert outcome.done in ([], ["write"])  # a write is cut short
    assert (yard.workspace / "a").stat().st_size <= 64 * 1024


@pytest.mark.claim("limits.named")
def test_no_more_files_are_open_than_may_be(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        """
        import resource
        fds = []
        try:
            while True:
                fds.append(os.open("notes", os.O_RDONLY))
        except OSError as error:
            number = error.errno
        highest = fds[-1]
        os.closerange(fds[0], highest + 1)
        say("why", errno.errorcode[number])
        say("highest", highest)
        def more():
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (99, 99))
            except ValueError as error:  # which Python makes of EPERM
                raise PermissionError(errno.EPERM, str(error)) from error
        attempt("more", more)
        """,
        limits=Limits(open_files_max=40),
    )
    assert (outcome.said["why"], outcome.said["highest"]) == ("EMFILE", 39)
    assert outcome.done == []


def test_no_limit_is_set_that_wasnt_asked_for(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        """
        import resource
        names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
        say("limits", {name: resource.getrlimit(getattr(resource, name)) for name in names})
        """
    )
    names = [name for name in dir(resource) if name.startswith("RLIMIT_") and "CORE" not in name]
    ours = {name: list(resource.getrlimit(getattr(resource, name))) for name in names}
    theirs = {name: value for name, value in outcome.said["limits"].items() if name in ours}
    assert theirs == ours


def test_a_limit_of_one_call_is_none_of_the_next(sandbox: Sandbox) -> None:
    lane = sandbox.new_lane()
    tight = Limits(wall_s=0.2, cpu_s=1, processes_max=3)
    if sys.platform == "linux":
        tight = tight.replace(memory_bytes_max=64 * MIB)
    assert sandbox.run("sleep", "100", limits=tight, lane=lane).ended.limit == "wall"
    outcome = sandbox.attack(
        """
        import time
        [in_child(sleep_for_ever) for _ in range(10)]
        kept = bytearray(b"x" * (150 << 20))
        time.sleep(0.5)
        """,
        lane=lane,
    )
    assert outcome.ended.limit == ""


def test_endless_output_is_nobodys_memory(sandbox: Sandbox) -> None:
    """Gigabytes through a pipe: the lane and the fork server hold none of it."""
    size = 1 << 30
    linux = sys.platform == "linux"
    before = memory_of(sandbox.server.pid) if linux else 0
    outcome = sandbox.run("head", "-c", str(size), "/dev/zero")
    assert (outcome.status, outcome.output_bytes) == (0, size)
    assert not linux or memory_of(sandbox.server.pid) < before + 8 * MIB
    assert outcome.ended.memory_bytes_max < 64 * MIB


def memory_of(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def test_what_a_call_used_is_told(sandbox: Sandbox) -> None:
    outcome = sandbox.attack("kept = bytearray(b'x' * (100 << 20)); sum(range(5_000_000))")
    assert outcome.ended.user_s > 0
    assert 100 * MIB < outcome.ended.memory_bytes_max < 400 * MIB


@pytest.mark.claim("limits.named")
@pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
def test_the_kernel_bounds_processes_too_and_for_good(confine: Confine) -> None:
    from nono_sandbox.namespaces import tasks_max  # noqa: PLC0415  # it's Linux's alone

    # A limit that a process has to set itself, without which older kernels' is set by none.
    limits = Limits(processes_max=10, cpu_s=3600)
    outcome = confine(limits=limits).attack(
        """
        import resource
        say("limit", resource.getrlimit(resource.RLIMIT_NPROC))
        try:
            resource.setrlimit(resource.RLIMIT_NPROC, (10**6, 10**6))
        except (OSError, ValueError):
            pass
        say("still", resource.getrlimit(resource.RLIMIT_NPROC))
        """,
        limits=limits,
    )
    assert outcome.said["limit"] == outcome.said["still"] == [tasks_max(10)] * 2


@pytest.mark.linux
@pytest.mark.parametrize(("release", "bounds"), [("6.14.0-generic", True), ("6.12.9", False)])
def test_where_a_namespace_has_no_bound_a_process_sets_its_own(
    monkeypatch: pytest.MonkeyPatch, release: str, *, bounds: bool
) -> None:
    from nono_sandbox import setup  # noqa: PLC0415  # it's Linux's alone

    monkeypatch.setattr(posix, "uname", lambda: SimpleNamespace(release=release))
    for processes_max, expected in ((10, bounds), (None, True)):
        confinement = Confinement("/", limits=Limits(processes_max=processes_max))
        assert setup.may_spawn(confinement, NAMESPACES, in_group=False) is expected
        assert setup.may_spawn(confinement, NAMESPACES, in_group=True)


@pytest.mark.linux
@pytest.mark.parametrize(("processes_max", "expected"), [(10, True), (9, False), (None, True)])
def test_a_bound_of_a_calls_own_is_set_by_its_process(
    processes_max: int | None, *, expected: bool
) -> None:
    from nono_sandbox import spawning  # noqa: PLC0415  # it's Linux's alone

    call = Call(("true",), (), "/", Limits(processes_max=processes_max))
    assert spawning.is_plain(call, 10, in_group=False) is expected
