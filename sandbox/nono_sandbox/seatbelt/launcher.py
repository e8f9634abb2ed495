"""Start a program under `sandbox-exec`, with the discipline a worker has on Linux.

The supervisor may have threads, so it forks nothing: it spawns `stage`, which leads a new session,
closes every descriptor but its streams, sets the limits, changes directory and becomes
`/usr/bin/sandbox-exec -p TEXT -- PROGRAM...`. The profile is applied before the program's first
instruction; failing, sandbox-exec exits 65 (the text doesn't compile) or 71 (the program doesn't
start) and says so on the worker's stderr.

Nobody has run it on a Mac. The tests run it on Linux, with a stand-in for sandbox-exec that
reports how it was called.

Architecture invariant: no preexec_fn, no fork, no shell; the environment is what the call
names, and nothing else.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import sys
from contextlib import ExitStack

from nono_sandbox.confinement import READ, Grant
from nono_sandbox.errors import StartError, UnsupportedError
from nono_sandbox.seatbelt import stage
from nono_sandbox.seatbelt.as_program import as_program
from nono_sandbox.seatbelt.expressible import narrowed, refuse_limits
from nono_sandbox.seatbelt.places import check_places
from nono_sandbox.seatbelt.profile import profile
from nono_sandbox.seatbelt.spelling import beneath, canonical

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from nono_sandbox.confinement import Call, Confinement, Limits

SANDBOX_EXEC = "/usr/bin/sandbox-exec"
ARGUMENTS_BYTES_MAX = 1024 * 1024 - 64 * 1024
"""ARG_MAX of macOS, less what the system adds; arguments and environment share it."""
FAILURE_BYTES_MAX = 4096
NOT_FOUND = 127
INTERPRETER_BYTES_MAX = 512
"""How much of a script's first line XNU reads (IMG_SHSIZE)."""
COMPILE_ERROR = 65
"""EX_DATAERR: what sandbox-exec exits with when a profile doesn't compile."""

_RLIMITS = (
    ("RLIMIT_CPU", "cpu_s", 10),
    ("RLIMIT_NOFILE", "open_files_max", 0),
    ("RLIMIT_FSIZE", "file_size_bytes_max", 0),
)
"""(name, field, how far above it a program may raise it): past the processor's, it is told once
by a signal that names the limit."""
_STAGE_FDS_FROM = 10
"""Where descriptors for the stage are parked, clear of the numbers they will have there."""


def launch(
    call: Call,
    confinement: Confinement,
    stdio: tuple[int, int, int] = (0, 1, 2),
    sandbox_exec: str = SANDBOX_EXEC,
    *,
    began: Callable[[int], None] = lambda _: None,
) -> int:
    """Start *call* confined and return its pid, which leads its own session and group.

    Blocks until the program is sandbox-exec. The caller reaps the pid, and ends what the program
    leaves behind by `tree.end_tree` before it does. *began* is told the pid before any of the
    program runs, while there is sure to be such a process to look at.

    Raises:
        ConfinementError: Seatbelt can't hold the confinement, or a grant changed. Nothing ran.
        StartError: The program can't be found or started. Nothing ran.
    """
    confinement = narrowed(confinement, call.narrowing)
    if call.builtin:
        call, confinement = as_program(call, confinement)
    refuse_limits(call.limits)
    text = profile(confinement)
    check_places(confinement)
    environment = dict(call.environment)
    program = find_program(call, confinement, environment.get("PATH", os.defpath))
    plan: stage.Plan = {
        "argv": [sandbox_exec, "-p", text, "--", program, *call.argv[1:]],
        "environment": environment,
        "cwd": call.cwd,
        "limits": rlimits(confinement.limits, call.limits),
        "tty": call.tty,
    }
    _refuse_too_long(plan)
    return _spawn(plan, stdio, began)


def check_text(text: str, sandbox_exec: str = SANDBOX_EXEC) -> int:
    """Raise unless this machine's sandbox-exec takes *text*; run once a session.

    Returns the exit status of a program that does nothing: 0 if *text* lets it start.

    Raises:
        UnsupportedError: There is no sandbox-exec, or it can't compile the text.
    """
    argv = [sandbox_exec, "-p", text, "--", "/usr/bin/true"]
    nowhere = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
    try:
        pid = os.posix_spawn(sandbox_exec, argv, {}, file_actions=nowhere)
    except OSError as error:
        raise UnsupportedError(f"{sandbox_exec}: {error.strerror}") from error
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == COMPILE_ERROR:
        raise UnsupportedError("sandbox-exec doesn't take the profile: this macOS is unknown to it")
    return code


def rlimits(session: Limits, call: Limits) -> list[tuple[str, int, int]]:
    """Return the limits the kernel keeps, soft and hard: of two the lower."""
    found = [("RLIMIT_CORE", 0, 0)]
    for name, field, spare in _RLIMITS:
        values = [getattr(limits, field) for limits in (session, call)]
        given = [value for value in values if value is not None]
        if given:
            # A fraction of a second of CPU is a second: the kernel counts whole ones.
            value = max(1, int(-(-min(given) // 1)))
            found.append((name, value, value + spare))
    return found


def find_program(call: Call, confinement: Confinement, path: str) -> str:
    """Return where the call's program is, looking only where the confinement lets it execute.

    What lies elsewhere is said not to be there whether it exists or not, so that an exit status
    never tells a worker what there is outside.

    Raises:
        StartError: With the status a shell would give.
    """
    name = call.argv[0] if call.argv else ""
    if not name or "\0" in name:
        raise StartError("a program has a name, and no NUL in it", stage.CANNOT_RUN)
    if "/" in name:
        _check_program(name, os.path.join(call.cwd, name), confinement)
        # As it was named, which a script sees; where that leads from, the stage sees to.
        return name
    for directory in path.split(":"):
        candidate = os.path.join(call.cwd, directory, name)
        if _executable(os.path.realpath(candidate), confinement):
            _check_program(name, candidate, confinement)
            return candidate
    raise StartError(f"{name!r} isn't in PATH, as far as it may be read", NOT_FOUND)


def _check_program(name: str, candidate: str, confinement: Confinement) -> None:
    """Raise unless *candidate* leads to a program that may be executed, by one that may be."""
    absent = StartError(f"{name!r} isn't there, as far as it may be read", NOT_FOUND)
    real = os.path.realpath(candidate)
    if not may_execute(real, confinement):
        raise absent
    try:
        os.stat(candidate)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise absent from error
    except (OSError, ValueError) as error:
        raise StartError(f"{name!r} can't be executed: {error}", stage.CANNOT_RUN) from error
    interpreter = _interpreter(real) if _executable(real, confinement) else None
    if interpreter is None:
        raise StartError(f"{name!r} can't be executed here", stage.CANNOT_RUN)
    # sandbox-exec would say so on the program's own streams, as if it had run.
    if interpreter and not _executable(os.path.realpath(interpreter), confinement):
        raise StartError(f"{name!r} wants {interpreter!r}, which can't be", stage.CANNOT_RUN)


def _executable(real: str, confinement: Confinement) -> bool:
    if not may_execute(real, confinement):
        return False
    return os.path.isfile(real) and os.access(real, os.X_OK)


def _interpreter(real: str) -> str | None:
    """Return what a script names to be run by; nothing if it's none, None if it can't be read."""
    try:
        fd = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        first = os.read(fd, INTERPRETER_BYTES_MAX).partition(b"\n")[0]
    finally:
        os.close(fd)
    words = first[2:].split() if first.startswith(b"#!") else []
    return os.fsdecode(words[0]) if words else ""


def may_execute(path: str, confinement: Confinement) -> bool:
    """Return whether the confinement lets the program at *path* be executed."""
    path = canonical(path)
    if any(denial.access & READ and _covers(denial.path, path) for denial in confinement.denials):
        return False
    return any(grant.access & READ and _grants(grant, path) for grant in confinement.grants)


def _covers(root: str, path: str) -> bool:
    return beneath(path, canonical(root))


def _grants(grant: Grant, path: str) -> bool:
    return path == canonical(grant.path) if grant.exact else _covers(grant.path, path)


def _refuse_too_long(plan: stage.Plan) -> None:
    strings = [*plan["argv"], *(f"{name}={value}" for name, value in plan["environment"].items())]
    # Each string costs its bytes, its NUL and a pointer.
    try:
        total = sum(len(os.fsencode(string)) + 9 for string in strings)
    except UnicodeEncodeError as error:
        raise StartError(f"not text: {error.object[:64]!r}", stage.CANNOT_RUN) from error
    if total > ARGUMENTS_BYTES_MAX:
        raise StartError(f"arguments over {ARGUMENTS_BYTES_MAX} bytes", stage.CANNOT_RUN)


def _spawn(plan: stage.Plan, stdio: tuple[int, int, int], began: Callable[[int], None]) -> int:
    """Start the stage, hand it *plan*, and wait until it is sandbox-exec or has failed."""
    with ExitStack() as open_here:
        plan_out, plan_in = (open_here.enter_context(_Owned(fd)) for fd in os.pipe())
        failure_out, failure_in = (open_here.enter_context(_Owned(fd)) for fd in os.pipe())
        given = [*stdio, plan_out.fd, failure_in.fd]
        parked = [open_here.enter_context(_Owned(_above(fd))) for fd in given]
        actions = [(os.POSIX_SPAWN_DUP2, owned.fd, at) for at, owned in enumerate(parked)]
        argv = [sys.executable, "-I", "-S", stage.__file__]
        try:
            pid = os.posix_spawn(sys.executable, argv, {}, file_actions=actions)
        except OSError as error:
            raise StartError(f"{sys.executable}: {error.strerror}", stage.CANNOT_RUN) from error
        # Now they are the stage's alone, and its end will show here.
        for owned in (*parked, plan_out, failure_in):
            owned.close()
        began(pid)
        _hand_over(plan_in.fd, marshal.dumps(dict(plan)))
        plan_in.close()
        failure = os.read(failure_out.fd, FAILURE_BYTES_MAX)
    if failure:
        os.waitpid(pid, 0)
        raise StartError(failure.decode("utf-8", "replace"), stage.CANNOT_RUN)
    return pid


class _Owned:
    """A descriptor that is closed once."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _above(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _STAGE_FDS_FROM)


def _hand_over(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BrokenPipeError:
            # The stage is gone; what it said, or its exit status, tells why.
            return
