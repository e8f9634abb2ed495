"""Processes: those outside are out of reach and out of sight, and those of a call end with it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_sandbox.confinement import LANDLOCK, NAMESPACES, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.sandbox.conftest import Confine, Sandbox, Yard

# Landlock hides nothing: a process outside can't be touched, but whether it exists can be asked.
with_own_pids = pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
without_own_pids = pytest.mark.parametrize("tier", [LANDLOCK], indirect=True)

WITNESS = """
import os, signal, sys
for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
    signal.signal(number, lambda number, frame: os.write(1, b"%d\\n" % number))
os.write(1, b"ready\\n")
while True:
    signal.pause()
"""
LONG_ENOUGH_S = 60.0


class Witness:
    """A process of the same user, outside, that notices what is done to it."""

    def __init__(self, secret: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", WITNESS, secret],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"WITNESS_SECRET": secret},
            start_new_session=True,
        )
        assert self._line() == b"ready\n"
        self._before = self._settings()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], LONG_ENOUGH_S)[0], "it was stopped"
        return self._process.stdout.readline()

    def _settings(self) -> tuple[object, ...]:
        common = os.getpriority(os.PRIO_PROCESS, self.pid), os.getpgid(self.pid)
        if sys.platform != "linux":
            return common
        return (
            *common,
            os.sched_getaffinity(self.pid),
            os.sched_getscheduler(self.pid),
            Path(f"/proc/{self.pid}/limits").read_bytes(),
            Path(f"/proc/{self.pid}/oom_score_adj").read_bytes(),
        )

    def assert_undisturbed(self) -> None:
        """Fail if it died, was stopped, got a signal or another setting."""
        assert self._process.poll() is None, "it was killed"
        self._process.send_signal(signal.SIGUSR2)
        assert self._line() == b"%d\n" % signal.SIGUSR2
        assert self._settings() == self._before

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def witness(yard: Yard) -> Iterator[Witness]:
    with contextlib.closing(Witness(yard.secret)) as process:
        yield process


SIGNALS = """
    for pid in ARGUMENTS:
        for name, number in (("SIGURG", signal.SIGURG), ("SIGTERM", signal.SIGTERM),
                             ("SIGSTOP", signal.SIGSTOP), ("SIGKILL", signal.SIGKILL)):
            attempt(f"kill {name} {pid}", lambda: os.kill(pid, number))
            attempt(f"kill {name} the group of {pid}", lambda: os.kill(-pid, number))
        attempt(f"from a thread {pid}", lambda: in_thread(lambda: os.kill(pid, signal.SIGURG)))
    # The gentlest signal there is, to whoever can be reached.
    signal.signal(signal.SIGURG, signal.SIG_IGN)
    with __import__("contextlib").suppress(OSError):
        os.kill(-1, signal.SIGURG)
    """
LINUX_SIGNALS = """
    siginfo = (ctypes.c_int * 32)(signal.SIGURG, 0, -1)
    def own(option, value):
        r, w = os.pipe()
        __import__("fcntl").fcntl(r, option, value)
        __import__("fcntl").fcntl(r, 10, signal.SIGURG)  # F_SETSIG
        __import__("fcntl").fcntl(r, 4, os.O_ASYNC)  # F_SETFL
        os.write(w, b"x")
    def by_pidfd(pid):
        syscall("pidfd_send_signal", os.pidfd_open(pid), signal.SIGURG, 0, 0)
    for pid in ARGUMENTS:
        attempt(f"tkill {pid}", lambda: syscall("tkill", pid, signal.SIGURG))
        attempt(f"tgkill {pid}", lambda: syscall("tgkill", pid, pid, signal.SIGURG))
        attempt(f"sigqueue {pid}", lambda: syscall(
            "rt_sigqueueinfo", pid, signal.SIGURG, ctypes.byref(siginfo)))
        attempt(f"tgsigqueue {pid}", lambda: syscall(
            "rt_tgsigqueueinfo", pid, pid, signal.SIGURG, ctypes.byref(siginfo)))
        attempt(f"pidfd {pid}", lambda: by_pidfd(pid))
        # These may be called with effect or without: the witness knows.
        with __import__("contextlib").suppress(OSError):
            own(8, pid)  # F_SETOWN
        with __import__("contextlib").suppress(OSError):
            own(8, -pid)
    """
if sys.platform == "linux":
    SIGNALS += LINUX_SIGNALS


@pytest.mark.claim("process.unreachable")
def test_no_process_outside_gets_a_signal(sandbox: Sandbox, witness: Witness) -> None:
    outcome = sandbox.attack(SIGNALS, witness.pid)
    assert outcome.done == []
    witness.assert_undisturbed()


SENDING = ("kill", "tkill", "tgkill", "sigqueue", "tgsigqueue", "pidfd ", "from a thread")

# What macOS has for it; of other processes' priorities it's not known who decides.
MACOS_INTRUSIONS = """
    libc.sysctl.argtypes = None
    for pid in ARGUMENTS:
        port, size = ctypes.c_uint(), ctypes.c_size_t(65536)
        buffer = ctypes.create_string_buffer(65536)
        def task(get):
            if get(libc.mach_task_self(), pid, ctypes.byref(port)):
                raise PermissionError(errno.EPERM, "no port")
        attempt(f"task_for_pid {pid}", lambda: task(libc.task_for_pid))
        attempt(f"PT_ATTACHEXC {pid}", lambda: checked(libc.ptrace(14, pid, None, 0)))
        for name, number in (("KERN_PROCARGS2", 49), ("KERN_PROCARGS", 38)):
            mib = (ctypes.c_int * 3)(1, number, pid)
            def tell():
                checked(libc.sysctl(mib, 3, buffer, ctypes.byref(size), None, 0))
                say("told", str(buffer.raw))
            attempt(f"{name} {pid}", tell)
        def asked(flavor):
            if libc.proc_pidinfo(pid, flavor, ctypes.c_uint64(0), buffer, 4096) <= 0:
                raise PermissionError(errno.EPERM, "nothing told")
        for flavor in (2, 3, 4, 9):
            attempt(f"proc_pidinfo {flavor} of {pid}", lambda: asked(flavor))
    """
INTRUSIONS = """
    for pid in ARGUMENTS:
        buffer = ctypes.create_string_buffer(64)
        words = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 64)
        remote = (ctypes.c_void_p * 2)(0x400000, 64)
        def attached(request):
            syscall("ptrace", request, pid, 0, 0)
            os.waitpid(pid, 0x40000000)
        attempt(f"PTRACE_ATTACH {pid}", lambda: attached(16))
        attempt(f"PTRACE_SEIZE {pid}", lambda: syscall("ptrace", 0x4206, pid, 0, 0))
        attempt(f"process_vm_readv {pid}", lambda: syscall(
            "process_vm_readv", pid, words, 1, remote, 1, 0))
        attempt(f"process_vm_writev {pid}", lambda: syscall(
            "process_vm_writev", pid, words, 1, remote, 1, 0))
        attempt(f"kcmp {pid}", lambda: syscall("kcmp", pid, os.getpid(), 1, 0, 0))
        attempt(f"pidfd_getfd {pid}", lambda: syscall(
            "pidfd_getfd", os.pidfd_open(pid), 0, 0))
        attempt(f"process_madvise {pid}", lambda: syscall(
            "process_madvise", os.pidfd_open(pid), words, 1, 20, 0))
        attempt(f"setns {pid}", lambda: syscall("setns", os.pidfd_open(pid), 0x20000))
        attempt(f"move_pages {pid}", lambda: syscall("move_pages", pid, 0, 0, 0, 0, 0))
        attempt(f"migrate_pages {pid}", lambda: syscall("migrate_pages", pid, 0, 0, 0))
        attempt(f"prlimit {pid}", lambda: syscall(
            "prlimit64", pid, 7, (ctypes.c_uint64 * 2)(10, 10), 0))
        attempt(f"setpriority {pid}", lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
        attempt(f"setpriority group {pid}", lambda: os.setpriority(os.PRIO_PGRP, pid, 19))
        attempt(f"sched_setaffinity {pid}", lambda: os.sched_setaffinity(pid, {0}))
        attempt(f"sched_setscheduler {pid}", lambda: os.sched_setscheduler(
            pid, os.SCHED_IDLE, os.sched_param(0)))
        attempt(f"ioprio_set {pid}", lambda: syscall("ioprio_set", 1, pid, 3 << 13))
        attempt(f"setpgid {pid}", lambda: os.setpgid(pid, pid))
        for name in ("environ", "mem", "maps", "auxv", "stack", "io", "syscall", "fd/0",
                     "root/etc/passwd", "cwd/etc/passwd", "task/%d/environ" % pid, "exe"):
            attempt(f"/proc/{pid}/{name}", lambda: read(f"/proc/{pid}/{name}"))
        for name in ("fd", "map_files", "root", "cwd", "ns", "fdinfo"):
            attempt(f"/proc/{pid}/{name}/", lambda: os.listdir(f"/proc/{pid}/{name}"))
        for fd in range(8):
            attempt(f"where {pid} has {fd}", lambda: os.readlink(f"/proc/{pid}/fd/{fd}"))
            attempt(f"what {pid} has {fd}", lambda: read(f"/proc/{pid}/fdinfo/{fd}"))
        for name in ("oom_score_adj", "comm", "clear_refs", "timerslack_ns", "coredump_filter"):
            attempt(f"write /proc/{pid}/{name}", lambda: write(f"/proc/{pid}/{name}", 0))
        for name in ("mnt", "pid", "net", "user", "ipc"):
            attempt(f"setns {name} {pid}", lambda: syscall(
                "setns", os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY), 0))
    # Whatever belongs to the user, of which the call's own are some.
    attempt_quietly = [
        lambda: os.setpriority(os.PRIO_USER, os.getuid(), 19),
        lambda: syscall("ioprio_set", 3, os.getuid(), 3 << 13),
    ]
    for act in attempt_quietly:
        with __import__("contextlib").suppress(OSError):
            act()
    """


@pytest.mark.macos
@pytest.mark.claim("process.unreachable")
def test_no_process_outside_is_looked_into_by_what_macos_has(
    sandbox: Sandbox, witness: Witness, yard: Yard
) -> None:
    outcome = sandbox.attack(MACOS_INTRUSIONS, witness.pid, os.getpid(), sandbox.server.pid)
    assert outcome.done == []
    assert yard.secret not in outcome.text
    witness.assert_undisturbed()


@pytest.mark.linux  # by Linux's calls, and /proc
@pytest.mark.claim("process.unreachable")
@pytest.mark.parametrize("ptrace", [False, True])
def test_no_process_outside_is_looked_into_or_changed(
    confine: Confine, witness: Witness, yard: Yard, *, ptrace: bool
) -> None:
    sandbox = confine(ptrace=ptrace)
    outcome = sandbox.attack(INTRUSIONS, witness.pid, os.getpid(), sandbox.server.pid)
    assert outcome.done == []
    assert yard.secret not in outcome.text
    witness.assert_undisturbed()


@pytest.mark.linux  # macOS's lane is no parent of the program alone
@pytest.mark.claim("process.unreachable")
@pytest.mark.parametrize("ptrace", [False, True])
def test_the_lane_is_no_more_in_reach_than_others(confine: Confine, *, ptrace: bool) -> None:
    sandbox = confine(ptrace=ptrace)
    lane = sandbox.new_lane()
    for script in (SIGNALS, INTRUSIONS):
        aimed = "ARGUMENTS = [os.getppid()]\n" + script.replace("\n    ", "\n")
        outcome = sandbox.attack(aimed, lane=lane)
        # To process 1 of a namespace a signal can be sent, and does nothing; and root may count
        # its descriptors.
        counting = ("/proc/1/fd/", "/proc/1/fdinfo/", "/proc/1/ns/")
        harmless = (*SENDING, *counting) if sandbox.tier == NAMESPACES else ()
        assert [name for name in outcome.done if not name.startswith(harmless)] == []
    assert sandbox.run("true", lane=lane).status == 0


@pytest.mark.claim("process.invisible")
@with_own_pids
def test_no_process_outside_is_to_be_seen(sandbox: Sandbox, witness: Witness, yard: Yard) -> None:
    outcome = sandbox.attack(
        """
        pid, = ARGUMENTS
        attempt("kill 0", lambda: os.kill(pid, 0))
        attempt("getpgid", lambda: os.getpgid(pid))
        attempt("getsid", lambda: os.getsid(pid))
        attempt("getpriority", lambda: os.getpriority(os.PRIO_PROCESS, pid))
        attempt("sched_getaffinity", lambda: os.sched_getaffinity(pid))
        attempt("pidfd_open", lambda: os.pidfd_open(pid))
        attempt("cmdline", lambda: read(f"/proc/{pid}/cmdline"))
        say("pids", sorted(int(name) for name in os.listdir("/proc") if name.isdigit()))
        say("own", [1, os.getpid()])
        for name in ("keys", "locks", "net/unix", "net/tcp", "sysvipc/shm", "timer_list"):
            try:
                say(name, open("/proc/" + name).read())
            except OSError as error:
                say(name, str(error))
        """,
        witness.pid,
    )
    assert outcome.done == []
    assert outcome.said["pids"] == outcome.said["own"]
    assert yard.secret not in outcome.text


@pytest.mark.claim("process.unreachable")
@without_own_pids
def test_without_a_namespace_proc_tells_of_no_process(
    sandbox: Sandbox, witness: Witness, yard: Yard
) -> None:
    outcome = sandbox.attack(
        """
        for pid in [*ARGUMENTS, 1, os.getppid(), os.getpid(), "self", "thread-self"]:
            for name in ("cmdline", "status", "stat", "comm", "environ"):
                attempt(f"{pid} {name}", lambda: read(f"/proc/{pid}/{name}"))
        attempt("list", lambda: say("names", os.listdir("/proc")))
        """,
        witness.pid,
    )
    assert outcome.done == []
    assert yard.secret not in outcome.text


@pytest.mark.claim("process.calls-apart")
@pytest.mark.parametrize("ptrace", [False, pytest.param(True, marks=pytest.mark.linux)])
def test_two_calls_of_a_session_cant_touch_each_other(confine: Confine, *, ptrace: bool) -> None:
    sandbox = confine(ptrace=ptrace)
    read_end, write_end = os.pipe()
    victim = sandbox.begin_attack(
        """
        for number in set(signal.valid_signals()) - {
                signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
            signal.signal(number, lambda number, frame: say("got", number))
        say("ready", os.getpid())
        while not os.read(0, 1):
            pass
        """,
        stdin=read_end,
        lane=sandbox.new_lane(),
    )
    victim.wait_for("ready")
    # A namespace has numbers of its own.
    linux = sys.platform == "linux"
    pid = victim.pid() if linux else victim.said["ready"]
    other = sandbox.new_lane()
    for script in (SIGNALS, INTRUSIONS) if linux else (SIGNALS,):
        assert sandbox.attack(script, pid, lane=other).done == []
    os.write(write_end, b"go")
    os.close(write_end)
    os.close(read_end)
    outcome = victim.wait()
    assert (outcome.status, list(outcome.said)) == (0, ["ready"])


@pytest.mark.claim("process.invisible")
@with_own_pids
def test_two_calls_of_a_session_dont_see_each_other(sandbox: Sandbox) -> None:
    first = sandbox.begin("sleep", "1000", lane=sandbox.new_lane())
    second = sandbox.attack(
        'say("pids", [name for name in os.listdir("/proc") if name.isdigit()])',
        lane=sandbox.new_lane(),
    )
    first.lane.end("enough")
    assert first.wait().ended.limit == "enough"
    assert len(second.said["pids"]) == 2


DAEMONS = {
    "a background job": "os.fork() or sleep_for_ever()",
    "a session of its own": "os.fork() or (os.setsid(), sleep_for_ever())",
    "a double fork": """
        if not os.fork():
            os.setsid()
            os.fork() or sleep_for_ever()
            os._exit(0)
        """,
    "every signal ignored": """
        if not os.fork():
            for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_IGN)
            sleep_for_ever()
        """,
    "every signal blocked": """
        if not os.fork():
            signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
            sleep_for_ever()
        """,
    "stopped": """
        pid = os.fork() or sleep_for_ever()
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        """,
    "all descriptors closed": "os.fork() or (os.closerange(0, 100), sleep_for_ever())",
    "a sibling of the program": """
        # CLONE_PARENT: a child of the lane, not of this process.
        syscall("clone", 0x8000 | signal.SIGCHLD, 0, 0, 0, 0) or sleep_for_ever()
        """,
    "no signal at its parent's death": """
        libc.prctl(1, 0, 0, 0, 0)
        os.fork() or (libc.prctl(1, 0, 0, 0, 0), sleep_for_ever())
        """,
    "a subreaper of its own": """
        if not os.fork():
            libc.prctl(36, 1, 0, 0, 0)
            os.fork() or os.fork() or sleep_for_ever()
            sleep_for_ever()
        """,
    "undumpable": "os.fork() or (libc.prctl(4, 0, 0, 0, 0), sleep_for_ever())",
    "a domain of its own": """
        if not os.fork():
            ruleset = syscall("landlock_create_ruleset", (ctypes.c_uint64 * 3)(8191, 0, 0), 24, 0)
            syscall("landlock_restrict_self", ruleset, 0)
            sleep_for_ever()
        """,
    "a program of its own": """
        os.fork() or os.execv(sys.executable, [
            "x", "-I", "-S", "-c", "import signal; signal.pause()", *sys.argv[1:]])
        """,
    "many of them": "[os.fork() or sleep_for_ever() for _ in range(50)]",
    "a chain of them": """
        for _ in range(30):
            if os.fork():
                break
        """,
    "a successor at every death": """
        def succeed():
            while True:
                if os.fork():
                    os._exit(0)
        os.fork() or succeed()
        """,
    "a thread that outlives its leader": """
        if not os.fork():
            threading.Thread(target=sleep_for_ever).start()
            syscall("exit", 0)
        """,
}


# What only Linux has, and whose parent is gone before macOS's lane looks: SECURITY.md says so.
OF_LINUX = {
    "a double fork",
    "a sibling of the program",
    "no signal at its parent's death",
    "a subreaper of its own",
    "undumpable",
    "a domain of its own",
    "a successor at every death",
    "a thread that outlives its leader",
}
EACH_DAEMON = [
    pytest.param(text, id=name, marks=[pytest.mark.linux] if name in OF_LINUX else [])
    for name, text in DAEMONS.items()
]


def says_when_it_runs(daemon: str) -> str:
    return daemon if daemon.startswith("\n") else f"\n        {daemon}\n        "


@pytest.mark.claim("process.nothing-survives")
@pytest.mark.parametrize("daemon", EACH_DAEMON)
def test_nothing_a_program_leaves_survives_its_end(
    sandbox: Sandbox, yard: Yard, alive: Callable[[str], list[str]], daemon: str
) -> None:
    script = f"""
        LEAVER = os.getpid(){says_when_it_runs(daemon)}
        os.getpid() == LEAVER or sleep_for_ever()
        say("left", True)
        """
    outcome = sandbox.attack(script, yard.secret)
    assert outcome.said == {"left": True}
    assert not outcome.ended.leftovers
    assert alive(yard.secret) == []


@pytest.mark.claim("process.nothing-survives")
@pytest.mark.parametrize("end", ["cancel", pytest.param("wall", marks=pytest.mark.slow)])
@pytest.mark.parametrize("daemon", EACH_DAEMON)
def test_nothing_of_a_call_survives_its_limit(
    sandbox: Sandbox, yard: Yard, alive: Callable[[str], list[str]], daemon: str, end: str
) -> None:
    script = f"""
        LEAVER = os.getpid(){says_when_it_runs(daemon)}
        if os.getpid() == LEAVER:
            say("ready", True)
            signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        sleep_for_ever()
        """
    limits = Limits(wall_s=0.4) if end == "wall" else Limits()
    running = sandbox.begin_attack(script, yard.secret, limits=limits)
    if end == "cancel":
        running.wait_for("ready")
        running.lane.end("cancel")
    outcome = running.wait()
    assert (outcome.ended.limit, outcome.status) == (end, 128 + signal.SIGKILL)
    assert not outcome.ended.leftovers
    assert alive(yard.secret) == []


@pytest.mark.linux  # a thread ends by a call of Linux's
@pytest.mark.claim("process.nothing-survives")
def test_a_program_whose_first_thread_is_gone_is_still_ended(
    sandbox: Sandbox, yard: Yard, alive: Callable[[str], list[str]]
) -> None:
    script = """
        threading.Thread(target=sleep_for_ever).start()
        say("ready", True)
        syscall("exit", 0)
        """
    outcome = sandbox.begin_attack(script, yard.secret, limits=Limits(wall_s=0.3)).wait()
    assert outcome.ended.limit == "wall"
    assert alive(yard.secret) == []


@pytest.mark.claim("process.nothing-survives")
def test_output_held_open_delays_nobody(sandbox: Sandbox) -> None:
    outcome = sandbox.run("sh", "-c", "sleep 1000 & sleep 1000 2>&1 | cat & echo answer")
    assert (outcome.status, outcome.text) == (0, "answer\n")


@pytest.mark.claim("process.nothing-survives")
def test_a_call_finds_nothing_of_the_one_before(sandbox: Sandbox, yard: Yard) -> None:
    lane = sandbox.new_lane()
    sandbox.attack("[os.fork() or sleep_for_ever() for _ in range(20)]", yard.secret, lane=lane)
    outcome = sandbox.attack(
        """
        with __import__("contextlib").suppress(OSError):
            say("pids", sorted(int(name) for name in os.listdir("/proc") if name.isdigit()))
        attempt("wait", lambda: os.wait())
        """,
        lane=lane,
    )
    assert outcome.done == []
    assert len(outcome.said.get("pids", [1, 2])) == 2


def test_a_program_has_a_session_and_a_group_of_its_own(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        """
        say("leads", [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()])
        attempt("a terminal", lambda: os.open("/dev/tty", os.O_RDWR))
        """
    )
    assert outcome.said["leads"] == [True, True]
    assert outcome.done == []
