"""The worker: from fork to exec.

What a session has in common is done in `prepare`, ahead of need; what one call adds is done in
`execute`. The seccomp filter, the empty capability sets and no_new_privs are inherited from the
lane, so there is no moment at which a worker has more than they leave.

Architecture invariant: standard library, one thread, no allocation of anything that outlives
exec. Whatever fails ends in one message on the report descriptor, and nothing has run.
"""

from __future__ import annotations

import fcntl
import marshal
import posix as os

from nono_sandbox import _uapi, landlock, namespaces, spawning
from nono_sandbox.confinement import LANDLOCK, NAMESPACES
from nono_sandbox.own_places import DEVICES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Never

    from nono_sandbox.confinement import Call, Limits, Narrowing

_TIOCSCTTY = 0x540E
_SIGTTOU = 22
_GIB = 1 << 30
_CPU_SPARE_S = 10
_FAR_FD = 1 << 24


def prepare(ruleset_fd: int, *, leader: bool = True) -> None:
    """Leave the lane's session and enter the call's Landlock domain, for good.

    Unless it is to be *leader* of a session: then it leads a group of processes in the lane's.

    Raises:
        OSError: Nothing may be executed; exit.
    """
    if leader:
        os.setsid()
    else:
        os.setpgid(0, 0)
    _uapi.reset_signals()
    _uapi.prctl(_uapi.PR_SET_PDEATHSIG, _uapi.SIGKILL)
    _uapi.landlock_restrict_self(ruleset_fd)


def execute(
    call: Call, stdio: Sequence[int], report: int, tier: str, narrowing: tuple[bytes, ...]
) -> Never:
    """Become the program of *call*; descriptors other than *stdio* don't survive.

    *narrowing* is what `filters.narrowing_programs` returned.
    """
    try:
        _put_in_place(stdio, tier)
        report = os.dup2(report, 3, inheritable=False)
        _uapi.close_range(4)
        if call.tty:
            _take_terminal()
        _settle(call, tier, narrowing)
        if call.builtin:
            os.close(report)
            _do_builtin(call.argv[0])
        failure = spawning.found(call.argv, dict(call.environment), os.execve)
    except (OSError, ValueError) as error:  # ValueError: text that no system call takes
        failure = spawning.NOT_RUN, f"can't run {call.argv[0]!r} confined: {error}"
    fail(report, *failure if isinstance(failure, tuple) else (spawning.NOT_RUN, ""))


def try_out(call: Call, stdio: Sequence[int], tier: str, narrowing: tuple[bytes, ...]) -> None:
    """Do as `execute` does with *call*, which narrows nothing and names no program there is.

    Raises:
        OSError: It couldn't have been executed.
    """
    _put_in_place(stdio, tier)
    for fd in stdio:
        os.close(fd)
    _uapi.close_range(_FAR_FD)
    _settle(call, tier, narrowing)
    spawning.found(call.argv, dict(call.environment), os.execve)


def _put_in_place(stdio: Sequence[int], tier: str) -> None:
    for number, fd in enumerate(spawning.standard(stdio, tier)):
        os.dup2(fd, number)


def _settle(call: Call, tier: str, narrowing: tuple[bytes, ...]) -> None:
    _limit(call.limits, tier)
    spawning.change_directory(call.cwd)
    _narrow(call.narrowing, tier, narrowing)


def fail(report: int, status: int, text: str) -> Never:
    """Say on *report* why nothing was run, and exit."""
    os.write(report, marshal.dumps((status, text[: spawning.WHY_CHARACTERS_MAX])))
    os._exit(status)


def _do_builtin(name: str) -> Never:
    # As what executes a program is: else nobody could read what it asks to have done on its behalf.
    _uapi.prctl(_uapi.PR_SET_DUMPABLE, 1)
    # The fork server has imported it: here the standard library may be out of reach.
    from nono_sandbox import builtin

    builtin.main(name)


def _take_terminal() -> None:
    """Make standard input the terminal that this process is in the foreground of."""
    if os.getsid(0) == os.getpid():
        fcntl.ioctl(0, _TIOCSCTTY, 0)
        return
    # A group that isn't in the foreground is stopped for trying to be.
    _uapi.ignore_signals(_SIGTTOU)
    os.tcsetpgrp(0, os.getpid())
    _uapi.reset_signals()


def _limit(limits: Limits, tier: str) -> None:
    spawning.limit_cores()
    if limits.open_files_max is not None:
        spawning.lower(_uapi.RLIMIT_NOFILE, limits.open_files_max)
    if limits.file_size_bytes_max is not None:
        spawning.lower(_uapi.RLIMIT_FSIZE, limits.file_size_bytes_max)
    if limits.cpu_s is not None:
        # A program that ignores SIGXCPU is ended by the lane, who counts all of the call's, and
        # not unseen by the kernel.
        spawning.lower(_uapi.RLIMIT_CPU, max(1, -int(-limits.cpu_s // 1)), _CPU_SPARE_S)
    if limits.processes_max is not None and tier == NAMESPACES:
        # The lane counts the processes of the call, and a fork bomb is faster than its looks.
        # In a user namespace the kernel counts no others of this user. (Root it never counts;
        # see namespaces.shut.)
        spawning.lower(_uapi.RLIMIT_NPROC, namespaces.tasks_max(limits.processes_max))
    if limits.memory_bytes_max is not None:
        # Address space that was asked for and never touched is no memory; the lane counts what
        # is. This bounds what can be touched between two of its looks.
        ample = max(2 * limits.memory_bytes_max, limits.memory_bytes_max + _GIB)
        spawning.lower(_uapi.RLIMIT_DATA, ample)


def _narrow(narrowing: Narrowing, tier: str, programs: tuple[bytes, ...]) -> None:
    closed_network, unwritten, no_local = programs
    if narrowing.writes is not None:
        ruleset = landlock.create_ruleset(landlock.ON_WRITE & _rights_known(), 0, 0)
        devices = (f"/dev/{name}" for name in (*DEVICES, "pts"))
        for path in (*devices, *narrowing.writes):
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            landlock.allow(ruleset, fd, landlock.ON_WRITE & _rights_known())
            os.close(fd)
        _uapi.landlock_restrict_self(ruleset)
        os.close(ruleset)
        if tier == LANDLOCK:
            _uapi.seccomp_filter(no_local)
    if narrowing.writes == ():
        _uapi.seccomp_filter(unwritten)
    if narrowing.network_closed:
        _uapi.seccomp_filter(closed_network)


def _rights_known() -> int:
    return landlock.handled(landlock.abi_version())[0]
