"""The worker: from fork to exec.

What a session has in common is done in `prepare`, ahead of need; what one call adds is done in
`execute`. The seccomp filter, the empty capability sets and no_new_privs are inherited from the
lane, so there is no moment at which a worker has more than they leave.

Architecture invariant: standard library, one thread, no allocation of anything that outlives
exec. Whatever fails ends in one message on the report descriptor, and nothing has run.
"""

from __future__ import annotations

import _stat as stat
import errno
import fcntl
import marshal
import posix as os

from nono_sandbox import _uapi, landlock, namespaces
from nono_sandbox.confinement import LANDLOCK, NAMESPACES
from nono_sandbox.fresh_root import DEVICES
from nono_sandbox.look import is_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Never

    from nono_sandbox.confinement import Call, Limits, Narrowing

    Execute = Callable[[str, tuple[str, ...], Mapping[str, str]], int]

NOT_FOUND = 127
NOT_RUN = 126
WHY_CHARACTERS_MAX = 4000
_HANDED_IN = tuple(name for name in DEVICES if name != "tty")
_TIOCSCTTY = 0x540E
_SIGTTOU = 22
_PATH_DEFAULT = "/usr/local/bin:/usr/bin:/bin"
_GIB = 1 << 30
_CPU_SPARE_S = 10
_FAR_FD = 1 << 24
_SIGNALS = tuple(number for number in range(1, 65) if number not in (9, 19, 32, 33))
"""All that may be ignored; a program's start ignores none. (glibc asks about others before it sets
them, which is one system call more for each; 32 and 33 are its own.)"""


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
        failure = _exec(call.argv, dict(call.environment), os.execve)
    except (OSError, ValueError) as error:  # ValueError: text that no system call takes
        failure = NOT_RUN, f"can't run {call.argv[0]!r} confined: {error}"
    fail(report, *failure if isinstance(failure, tuple) else (NOT_RUN, ""))


def spawn(call: Call, stdio: Sequence[int], tier: str) -> int | tuple[int, str]:
    """Start the program of *call*, without a fork, in a child confined as this process is.

    Return its process id, or a status and why nothing was executed. The call narrows nothing, and
    every descriptor but *stdio* is close-on-exec.
    """
    opened: list[int] = []
    try:
        opened.extend(_handed_in(fd, tier) for fd in stdio)
        _change_directory(call.cwd)
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(opened)]

        def start(path: str, argv: tuple[str, ...], environment: Mapping[str, str]) -> int:
            return os.posix_spawn(
                path, argv, environment, file_actions=actions, setsid=True, setsigmask=(),
                setsigdef=_SIGNALS,
            )  # fmt: skip

        return _exec(call.argv, dict(call.environment), start)
    except (OSError, ValueError) as error:
        return NOT_RUN, f"can't run {call.argv[0]!r} confined: {error}"
    finally:
        os.chdir("/")
        for fd in {*opened} - {*stdio}:
            os.close(fd)


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
    _exec(call.argv, dict(call.environment), os.execve)


def _put_in_place(stdio: Sequence[int], tier: str) -> None:
    for number, fd in enumerate(stdio):
        os.dup2(_handed_in(fd, tier), number)


def _settle(call: Call, tier: str, narrowing: tuple[bytes, ...]) -> None:
    _limit(call.limits, tier)
    _change_directory(call.cwd)
    _narrow(call.narrowing, tier, narrowing)


def fail(report: int, status: int, text: str) -> Never:
    """Say on *report* why nothing was run, and exit."""
    os.write(report, marshal.dumps((status, text[:WHY_CHARACTERS_MAX])))
    os._exit(status)


def _do_builtin(name: str) -> Never:
    # As what executes a program is: else nobody could read what it asks to have done on its behalf.
    _uapi.prctl(_uapi.PR_SET_DUMPABLE, 1)
    # The fork server has imported it: here the standard library may be out of reach.
    from nono_sandbox import builtin

    builtin.main(name)


def _handed_in(fd: int, tier: str) -> int:
    """Return what stands for *fd*, as a standard stream of the program.

    No directory does: what lies beneath it would be opened past the fresh root's mounts. Of a
    device the fresh root's own node does: through the machine's, root would change its mode.
    """
    status = os.fstat(fd)
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, "a directory can't be a standard stream; name it as a grant")
    if tier == NAMESPACES and stat.S_ISCHR(status.st_mode):
        for name in _HANDED_IN:
            if os.stat(f"/dev/{name}").st_rdev == status.st_rdev:
                return os.open(f"/dev/{name}", fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE)
    return fd


def _take_terminal() -> None:
    """Make standard input the terminal that this process is in the foreground of."""
    if os.getsid(0) == os.getpid():
        fcntl.ioctl(0, _TIOCSCTTY, 0)
        return
    # A group that isn't in the foreground is stopped for trying to be.
    _uapi.ignore_signals(_SIGTTOU)
    os.tcsetpgrp(0, os.getpid())
    _uapi.reset_signals()


def limit_cores() -> None:
    """Let this process and its children leave no core."""
    # 1, not 0: a core_pattern that is a pipe heeds no limit but this one (core(5)).
    _lower(_uapi.RLIMIT_CORE, 1)


def _limit(limits: Limits, tier: str) -> None:
    limit_cores()
    if limits.open_files_max is not None:
        _lower(_uapi.RLIMIT_NOFILE, limits.open_files_max)
    if limits.file_size_bytes_max is not None:
        _lower(_uapi.RLIMIT_FSIZE, limits.file_size_bytes_max)
    if limits.cpu_s is not None:
        # A program that ignores SIGXCPU is ended by the lane, who counts all of the call's, and
        # not unseen by the kernel.
        _lower(_uapi.RLIMIT_CPU, max(1, -int(-limits.cpu_s // 1)), _CPU_SPARE_S)
    if limits.processes_max is not None and tier == NAMESPACES:
        # The lane counts the processes of the call, and a fork bomb is faster than its looks.
        # In a user namespace the kernel counts no others of this user. (Root it never counts;
        # see namespaces.bound_pids.)
        _lower(_uapi.RLIMIT_NPROC, namespaces.tasks_max(limits.processes_max))
    if limits.memory_bytes_max is not None:
        # Address space that was asked for and never touched is no memory; the lane counts what
        # is. This bounds what can be touched between two of its looks.
        ample = max(2 * limits.memory_bytes_max, limits.memory_bytes_max + _GIB)
        _lower(_uapi.RLIMIT_DATA, ample)


def _lower(which: int, value: int, spare: int = 0) -> None:
    """Set the limit to *value*, and the bound to which it can be raised to *spare* more."""
    hard = _uapi.hard_limit(which)
    # What isn't limited is the largest number.
    _uapi.set_limit(which, min(value, hard), min(value + spare, hard))


def _change_directory(path: str) -> None:
    try:
        os.chdir(path)
    except OSError as error:
        raise OSError(error.errno, f"can't enter {path}: {error.strerror}") from error


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


def _exec(
    argv: tuple[str, ...], environment: Mapping[str, str], act: Execute
) -> int | tuple[int, str]:
    """Execute *argv*, found as a shell finds it; return what *act* does, or why that failed."""
    name = argv[0]
    folders = environment.get("PATH", _PATH_DEFAULT).split(":")
    paths = [name] if "/" in name else [f"{folder}/{name}" for folder in folders if folder]
    refused = ""
    for path in paths:
        try:
            return act(path, argv, environment)
        except FileNotFoundError:
            if is_there(path):
                refused = refused or f"{path} leads to a program, or needs one, that isn't there"
        except NotADirectoryError:
            continue
        except PermissionError:
            refused = refused or f"{path} may not be executed: no grant, or not executable"
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                return NOT_RUN, f"{path}: {error.strerror}"
            script = ("/bin/sh", path, *argv[1:])
            return act("/bin/sh", script, environment)  # as execvp(3) does
    if refused:
        return NOT_RUN, refused
    where = f"at {name}" if "/" in name else f"named {name!r} on the PATH of the call"
    return NOT_FOUND, f"no program {where}"
