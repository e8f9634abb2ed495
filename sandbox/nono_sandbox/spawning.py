"""Starting a program: what it is found by, stands in, and has for its standard streams.

A call that sets a process nothing which its lane hasn't set itself is plain, and `spawned`: a child
that shares the lane's memory executes the program (vfork(2)).

Architecture invariant: standard library, one thread. What can't be started says why, and nothing
has run.
"""

from __future__ import annotations

import _stat as stat
import errno
import fcntl
import posix as os

from nono_sandbox import _uapi, wire
from nono_sandbox.confinement import NAMESPACES
from nono_sandbox.opath import is_there
from nono_sandbox.own_places import DEVICES
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    from nono_sandbox.cgroups.membership import Membership
    from nono_sandbox.confinement import Call
    from nono_sandbox.sealing import Plan

    Execute = Callable[[str, tuple[str, ...], Mapping[str, str]], int]
    Started: TypeAlias = "WorkerProcess | tuple[int, str]"
    """A call's process, or a status and why nothing was executed."""
    Start: TypeAlias = Callable[[Call, tuple[int, ...], Plan], Started]

NOT_FOUND = 127
NOT_RUN = 126
WHY_CHARACTERS_MAX = 4000
_HANDED_IN = tuple(name for name in DEVICES if name != "tty")
_FOR_OUTPUT = 2
_PATH_DEFAULT = "/usr/local/bin:/usr/bin:/bin"
_SIGNALS = tuple(number for number in range(1, 65) if number not in (9, 19, 32, 33))
"""All that may be ignored; a program's start ignores none. (glibc asks about others before it sets
them, which is one system call more for each; 32 and 33 are its own.)"""


class WorkerProcess(Value):
    """A worker that waits for its program, or runs it."""

    pid: int
    report_fd: int
    word: tuple[int, int] = wire.NO_WORD
    """By which its lane sends descriptors."""
    membership: Membership | None = None
    """Where the kernel holds the call's memory, by which it's seen that it had to."""


def _spawn(call: Call, stdio: Sequence[int], tier: str) -> int | tuple[int, str]:
    """Start the program of *call*, without a fork, in a child confined as this process is.

    Return its process id, or a status and why nothing was executed. The call narrows nothing, and
    every descriptor but *stdio* is close-on-exec.
    """
    opened: list[int] = []
    try:
        opened.extend(standard(stdio, tier))
        change_directory(call.cwd)
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(opened)]

        def start(path: str, argv: tuple[str, ...], environment: Mapping[str, str]) -> int:
            return os.posix_spawn(
                path, argv, environment, file_actions=actions, setsid=True, setsigmask=(),
                setsigdef=_SIGNALS,
            )  # fmt: skip

        return found(call.argv, dict(call.environment), start)
    except (OSError, ValueError) as error:
        return NOT_RUN, f"can't run {call.argv[0]!r} confined: {error}"
    finally:
        os.chdir("/")
        for fd in {*opened} - {*stdio}:
            os.close(fd)


def spawned(call: Call, stdio: tuple[int, ...], plan: Plan) -> WorkerProcess | tuple[int, str]:
    """Start *call*, which is plain, in this process's domain, without a fork.

    Returns its process, or a status and why nothing was executed.
    """
    started = _spawn(call, stdio, plan.tier)
    if isinstance(started, tuple):
        return started[0], started[1][:WHY_CHARACTERS_MAX]
    return WorkerProcess(started, -1, plan.word, plan.membership)


def not_executed(why: tuple[int, str]) -> tuple[object, ...]:
    """Return the report of a call that nothing was executed for, by its status and *why*."""
    return ("ended", why[0] << 8, "", why, (0.0, 0.0), 0, False)


def exposed(call: Call, stdio: tuple[int, ...], plan: Plan, start: Start) -> Started:
    """*Start* a call, to be killed before this lane is where memory is short."""
    if plan.membership is None:
        return start(call, stdio, plan)
    plan.membership.expose()
    try:
        return start(call, stdio, plan)
    finally:
        plan.membership.spare()


def is_plain(call: Call, processes_max: int | None, *, in_group: bool) -> bool:
    """Tell whether *call* sets a process nothing that its lane, which spawns, hasn't set itself.

    *processes_max* is what its lane's are bounded by. *in_group* a control group sees to the rest.
    """
    limits, narrowing = call.limits, call.narrowing
    narrows = narrowing.network_closed or narrowing.writes is not None
    own = (limits.cpu_s, limits.open_files_max, limits.file_size_bytes_max)
    if narrows or call.tty or call.builtin or own != (None, None, None):
        return False
    if in_group:
        return True
    # The lane's own PID namespace holds it to that, or it wouldn't start programs (`setup`).
    bounded = limits.processes_max in (None, processes_max)
    return bounded and limits.memory_bytes_max is None


def standard(stdio: Sequence[int], tier: str) -> list[int]:
    """Return what stands for *stdio*; two are for output, and there is nothing to read."""
    nothing = [] if len(stdio) > _FOR_OUTPUT else [os.open("/dev/null", os.O_RDONLY)]
    return [*nothing, *(_handed_in(fd, tier) for fd in stdio)]


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


def limit_cores() -> None:
    """Let this process and its children leave no core."""
    # 1, not 0: a core_pattern that is a pipe heeds no limit but this one (core(5)).
    lower(_uapi.RLIMIT_CORE, 1)


def lower(which: int, value: int, spare: int = 0) -> None:
    """Set the limit to *value*, and the bound to which it can be raised to *spare* more."""
    hard = _uapi.hard_limit(which)
    # What isn't limited is the largest number.
    _uapi.set_limit(which, min(value, hard), min(value + spare, hard))


def change_directory(path: str) -> None:
    """Enter the directory *path*.

    Raises:
        OSError: It can't be entered, which is said.
    """
    try:
        os.chdir(path)
    except OSError as error:
        raise OSError(error.errno, f"can't enter {path}: {error.strerror}") from error


def found(
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
