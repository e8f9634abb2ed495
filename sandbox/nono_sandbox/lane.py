"""A lane: the process in charge of one call at a time, and of ending all that it started.

In the first tier a lane is process 1 of a PID namespace; in the second it is a child subreaper
in a Landlock domain that its signals can't leave. Either way every process of a call stays below
it, `kill(-1)` reaches those and no others, and `wait` says when none is left.

In the first tier a lane that serves enters the Landlock domain of its calls, which it runs one at a
time and shares with no other lane, and starts their programs itself (vfork(2)). What a process has
to set for a single call, such as a limit, is set in a worker forked for that call. Elsewhere a lane
keeps the next call's worker forked and confined ahead of need, waiting for its program. From its
calls it is kept apart by what process 1 is to them, by being undumpable, and by their filter.

Architecture invariant: a lane never reads what a worker writes, save the message that says why
nothing was executed, and ends with whoever holds the other end of its control channel.
"""

from __future__ import annotations

import errno
import posix as os
import select

from nono_sandbox import _uapi, landlock, namespaces, wire, worker
from nono_sandbox.attendance import NOWHERE, Attendance, Parked, drain, send_signal
from nono_sandbox.confinement import LANDLOCK
from nono_sandbox.errors import UnsupportedError
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import Never, TypeAlias

    from nono_sandbox.confinement import Call, Grant, Network
    from nono_sandbox.reserve import Places
    from nono_sandbox.watch import Watch

    Programs: TypeAlias = tuple[bytes, tuple[bytes, ...], tuple[int, int]]
    """The base seccomp program, what `filters.narrowing_programs` returned, and the base's word."""
    Started: TypeAlias = Parked | tuple[int, str]
    """A call's process, or a status and why nothing was executed."""
    Start: TypeAlias = "Callable[[Call, tuple[int, ...], Plan], Started]"

_SIGHUP, _SIGINT, _SIGQUIT, _SIGPIPE, _SIGTERM = 1, 2, 3, 13, 15
_CAPABILITIES_MAX = 64
_STANDARD_MAX = 2
_CAP_SETPCAP = 8
_WITH_LISTENER = (
    _uapi.SECCOMP_FILTER_FLAG_NEW_LISTENER | _uapi.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
)
"""The second: once another acts, no signal makes the kernel start the same call over."""


class Plan(Value):
    """What the workers of a session have in common, ready for use by any of its lanes."""

    tier: str
    ruleset_fd: int
    filter: bytes
    """The base seccomp program."""
    narrowing: tuple[bytes, ...]
    """What `filters.narrowing_programs` returned."""
    processes_max: int | None = None
    """What a call's processes are bounded by; in the second tier by counting alone."""
    writable: tuple[Grant, ...] = ()
    """In the second tier: what workers may write, for whoever acts on their behalf."""
    places: Places = NOWHERE
    """Of what workers may write."""
    sockets: tuple[tuple[int, int], ...] = ()
    """Those of others that they may connect to."""
    word: tuple[int, int] = wire.NO_WORD
    """What the filter lets a lane's own descriptors through by; see `vouched`."""
    is_answered: bool = False
    """Somebody does: the filter has a listener."""
    spawns: bool = False
    """A lane that serves enters its calls' Landlock domain, and starts their programs itself."""
    spawns_in_group: bool = False
    """So would one whose control group bounds its calls' processes."""
    watch: Watch | None = None
    """What it hears of its control group, if one holds its calls' memory and processes."""


def seal(plan: Plan) -> tuple[int, ...]:
    """Give up every privilege of the calling process, on the way to being a lane.

    Returns what to `introduce` it by, if somebody is to act on behalf of its workers: the listener
    of its filter and, in the first tier, a channel to ask for its network's sockets on.

    Raises:
        UnsupportedError: Signals of this process would reach others than its own children. Exit.
        OSError: The kernel refused. Exit.
    """
    _uapi.ignore_signals(_SIGINT, _SIGQUIT, _SIGTERM, _SIGHUP, _SIGPIPE)
    _uapi.prctl(_uapi.PR_SET_CHILD_SUBREAPER, 1)
    _uapi.prctl(_uapi.PR_SET_DUMPABLE, 0)
    _drop_privileges()
    if plan.tier == LANDLOCK:
        _scope_signals()
    elif os.getpid() != 1:
        raise UnsupportedError("signals aren't confined: this process leads no PID namespace")
    if not plan.is_answered:
        _uapi.seccomp_filter(plan.filter)
        return ()
    # The filter refuses to make one.
    asking = () if plan.tier == LANDLOCK else (namespaces.asking().detach(),)
    return (_uapi.seccomp_filter(plan.filter, _WITH_LISTENER), *asking)


def introduce(
    channel: _socket.socket, network: Network, sealed: tuple[int, ...], plan: Plan
) -> None:
    """Hand on what `seal` returned, and what workers may do, to whoever acts on their behalf.

    Raises:
        ClosedError: Nobody is there to. Exit.
    """
    if sealed:
        listener, *asking = sealed
        fds = [listener, plan.ruleset_fd, *asking]
        shared = network, plan.writable, plan.sockets
        wire.send(channel, "introduction", *shared, fds=fds, word=plan.word)
    for fd in sealed:
        os.close(fd)


def _drop_privileges() -> None:
    _uapi.prctl(_uapi.PR_CAP_AMBIENT, _uapi.PR_CAP_AMBIENT_CLEAR_ALL)
    try:
        for capability in range(_CAPABILITIES_MAX):
            _uapi.prctl(_uapi.PR_CAPBSET_DROP, capability)
    except OSError as error:
        # EINVAL: past the last one. EPERM: an ordinary user, who has none to give.
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
    if _uapi.effective_capabilities() >> _CAP_SETPCAP & 1:
        # To an ordinary user, who can't set them, no_new_privs does the same.
        _uapi.prctl(_uapi.PR_SET_SECUREBITS, _uapi.SECBITS_NOROOT_AND_LOCKED)
    _uapi.drop_capabilities()
    _uapi.prctl(_uapi.PR_SET_NO_NEW_PRIVS, 1)


def _scope_signals() -> None:
    outside = os.getppid()
    scope = landlock.signal_scope()
    _uapi.landlock_restrict_self(scope)
    os.close(scope)
    try:
        os.kill(outside, 0)
    except PermissionError:
        return
    raise UnsupportedError("signals aren't confined: this needs Landlock ABI 6 or namespaces")


def serve(control: _socket.socket, requests: list[_socket.socket], plan: Plan) -> Never:
    """Run the calls that arrive, one after the other, until the other end is gone.

    They arrive by *requests*, which is one channel, or none if this lane starts their programs.
    """
    signals = _uapi.signalfd(_uapi.SIGCHLD)
    if plan.spawns:
        _serve_spawning(control, plan, signals)
    (arriving,) = requests
    # Only who waits pays for the import; the fork server has imported it.
    from nono_sandbox import rehearsal

    while True:
        parked = _park(arriving, plan)
        attendance = Attendance(parked, signals, plan.tier, plan.places)
        rehearsal.of_lane(attendance)
        report = attend(attendance, parked, control, signals)
        if _took_back(arriving) and not attendance.limit:
            report = ("broken", "a worker died before its call")
        tell(control, report)
        if report[0] != "ended" or report[-1]:
            os._exit(1)


def _serve_spawning(control: _socket.socket, plan: Plan, signals: int) -> Never:
    """Run the calls that arrive, in this lane's own Landlock domain, most of them without a fork.

    A lane has as many pages as Python. To copy them for a process that executes another program at
    once costs more than all else that is done for a call. But till that is executed the lane
    attends to nothing, and if it's read from where nobody answers, not even to the call's time.
    """
    enter_domain(plan)
    while True:
        call, stdio = _next_call(control)
        started = exposed(call, stdio, plan, _started)
        for fd in stdio:
            os.close(fd)
        if not isinstance(started, Parked):
            tell(control, not_executed(started))
            continue
        attendance = Attendance(started, signals, plan.tier, plan.places)
        attendance.begin(call.limits)
        report = attend(attendance, started, control, signals)
        tell(control, report)
        if report[0] != "ended" or report[-1]:
            os._exit(1)


def enter_domain(plan: Plan) -> None:
    """Enter the domain of this lane's calls, so that `started` starts them without a fork.

    Raises:
        UnsupportedError: They would inherit what they mustn't. Exit.
        OSError: The kernel refused. Exit.
    """
    _see_nothing_inherited()
    _uapi.landlock_restrict_self(plan.ruleset_fd)
    worker.limit_cores()


def _see_nothing_inherited() -> None:
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd <= _STANDARD_MAX:
            continue
        try:
            inheritable = os.get_inheritable(fd)
        except OSError:
            continue  # the listing's own
        if inheritable:
            raise UnsupportedError(f"descriptor {fd} would be a program's too")


def _next_call(control: _socket.socket) -> tuple[Call, tuple[int, ...]]:
    """Wait for a call; what is said before it was meant for the one before.

    Raises:
        ClosedError: There will be none. Exit.
    """
    while True:
        message, fds = wire.receive(control)
        if message[0] == "call":
            return message[1], tuple(fds)


def exposed(call: Call, stdio: tuple[int, ...], plan: Plan, start: Start) -> Started:
    """*Start* a call, to be killed before this lane is where memory is short."""
    if plan.watch is None:
        return start(call, stdio, plan)
    plan.watch.expose()
    try:
        return start(call, stdio, plan)
    finally:
        plan.watch.spare()


def _started(call: Call, stdio: tuple[int, ...], plan: Plan) -> Parked | tuple[int, str]:
    """Start *call*; return its process, or a status and why nothing was executed."""
    if is_plain(call, plan):
        return spawned(call, stdio, plan)
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    pid = os.fork()
    if pid == 0:
        try:
            worker.prepare(plan.ruleset_fd)
        except OSError as error:
            worker.fail(write_end, worker.NOT_RUN, f"can't confine the worker: {error}")
        worker.execute(call, stdio, write_end, plan.tier, plan.narrowing)
    os.close(write_end)
    return Parked(pid, read_end, plan.word, plan.watch)


def spawned(call: Call, stdio: tuple[int, ...], plan: Plan) -> Parked | tuple[int, str]:
    """Start *call*, which is plain, in this process's domain, without a fork.

    Returns its process, or a status and why nothing was executed.
    """
    started = worker.spawn(call, stdio, plan.tier)
    if isinstance(started, tuple):
        return started[0], started[1][: worker.WHY_CHARACTERS_MAX]
    return Parked(started, -1, plan.word, plan.watch)


def not_executed(why: tuple[int, str]) -> tuple[object, ...]:
    """Return the report of a call that nothing was executed for, by its status and *why*."""
    return ("ended", why[0] << 8, "", why, (0.0, 0.0), 0, False)


def is_plain(call: Call, plan: Plan) -> bool:
    """Tell whether *call* sets a process nothing that its lane, which spawns, hasn't set itself."""
    limits, narrowing = call.limits, call.narrowing
    narrows = narrowing.network_closed or narrowing.writes is not None
    own = (limits.cpu_s, limits.open_files_max, limits.file_size_bytes_max)
    if narrows or call.tty or call.builtin or own != (None, None, None):
        return False
    if plan.watch is not None:
        return True
    # The lane's own PID namespace holds it to that, or it wouldn't start programs (`setup`).
    bounded = limits.processes_max in (None, plan.processes_max)
    return bounded and limits.memory_bytes_max is None


def tell(control: _socket.socket, report: tuple[object, ...]) -> None:
    """Send what `attend` returned."""
    wire.send(control, str(report[0]), *report[1:])


def _took_back(requests: _socket.socket) -> bool:
    """Take the call that no worker took, and that none may any more; tell whether there was one."""
    there = bool(select.select([requests], [], [], 0)[0])
    if there:
        _, fds = wire.receive(requests)
        for fd in fds:
            os.close(fd)
    return there


def _park(requests: _socket.socket, plan: Plan) -> Parked:
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    if plan.watch is not None:
        plan.watch.expose()
    pid = os.fork()
    if pid == 0:
        _wait_and_become(requests, write_end, plan)
    if plan.watch is not None:
        plan.watch.spare()
    os.close(write_end)
    return Parked(pid, read_end, plan.word, plan.watch)


def _wait_and_become(requests: _socket.socket, report: int, plan: Plan) -> Never:
    """Confine this process, take one request, execute it."""
    from nono_sandbox import rehearsal

    try:
        worker.prepare(plan.ruleset_fd)
        rehearsal.of_worker(plan)
        message, fds = wire.receive(requests)
    except wire.ClosedError:
        os._exit(0)
    except OSError as error:
        worker.fail(report, worker.NOT_RUN, f"can't confine a worker: {error}")
    worker.execute(message[1], fds, report, plan.tier, plan.narrowing)


def attend(
    call: Attendance,
    parked: Parked,
    control: _socket.socket,
    signals: int,
    waits: Callable[[select.poll, dict[int, int]], None] | None = None,
) -> tuple[object, ...]:
    """See a call to its end; return the report.

    *waits* is told of every event, and may poll for more.
    """
    poll = select.poll()
    poll.register(control.fileno(), select.POLLIN)
    poll.register(signals, select.POLLIN)
    if waits is not None:
        waits(poll, {})
    while not call.over:
        events = dict(poll.poll(call.timeout_ms()))
        if waits is not None:
            waits(poll, events)
        # All of it, before the program's end is looked at: the call's beginning may come behind
        # an order that was meant for the one before.
        while select.select([control], [], [], 0)[0]:
            _obey(call, control, parked)
        if signals in events:
            drain(signals)
            call.reap()
        call.look()
    return call.report(gone=call.sweep())


def _obey(call: Attendance, control: _socket.socket, parked: Parked) -> None:
    try:
        message, _ = wire.receive(control)
    except wire.ClosedError:
        call.sweep()
        os._exit(0)
    if message[0] == "begin":
        call.begin(message[1])
    elif not call.begun:
        return  # meant for the call before: it must not end the next one
    elif message[0] == "end":
        call.limit = message[1]
    elif message[0] == "pidfd":
        if call.status is None:  # else the number may be another's by now
            pidfd = os.pidfd_open(parked.pid)
            wire.send(control, "pidfd", fds=[pidfd], word=parked.word)
            os.close(pidfd)
    elif message[0] == "signal":
        # Just forked, it may lead no group yet.
        if not send_signal(-parked.pid, message[1]) and call.status is None:
            send_signal(parked.pid, message[1])
    elif message[0] == "signal-all":
        send_signal(-1, message[1])
