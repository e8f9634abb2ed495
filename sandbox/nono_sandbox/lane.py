"""A lane: the process in charge of one call at a time, and of ending all that it started.

In the first tier a lane is process 1 of a PID namespace; in the second it is a child subreaper
in a Landlock domain that its signals can't leave. Either way every process of a call stays below
it, `kill(-1)` reaches those and no others, and `wait` says when none is left.

A lane keeps the next call's worker forked and confined ahead of need, waiting for its program.

Architecture invariant: a lane never reads what a worker writes, save the message that says why
nothing was executed, and ends with whoever holds the other end of its control channel.
"""

from __future__ import annotations

import errno
import marshal
import os
import select
import time

from nono_sandbox import _uapi, landlock, namespaces, sample, wire, worker
from nono_sandbox.confinement import LANDLOCK, NAMESPACES, Call, Limits
from nono_sandbox.errors import UnsupportedError
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Never

SWEEP_S_MAX = 5.0
"""How long a lane waits for killed processes to be gone before it says that some aren't."""
_LOOK_S = 0.025
_LOOK_S_LATER = 0.1
_SIGHUP, _SIGINT, _SIGQUIT, _SIGPIPE, _SIGTERM = 1, 2, 3, 13, 15
_SIGXCPU, _SIGXFSZ = 24, 25
_CAPABILITIES_MAX = 64
_CAP_SETPCAP = 8


class Plan(Value):
    """What the workers of a session have in common, ready for use by any of its lanes."""

    tier: str
    ruleset_fd: int
    filter: bytes
    """The base seccomp program."""
    closed_network: bytes
    """The program for a call that gives up its network."""


class _Parked(Value):
    """A worker that waits for its program, or runs it."""

    pid: int
    report_fd: int


def seal(plan: Plan) -> None:
    """Give up every privilege of the calling process, on the way to being a lane.

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
    _uapi.seccomp_filter(plan.filter)


def _drop_privileges() -> None:
    _uapi.prctl(_uapi.PR_CAP_AMBIENT, _uapi.PR_CAP_AMBIENT_CLEAR_ALL)
    try:
        for capability in range(_CAPABILITIES_MAX):
            _uapi.prctl(_uapi.PR_CAPBSET_DROP, capability)
    except OSError as error:
        # EINVAL: past the last one. EPERM: an ordinary user, who has none to give.
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
    if namespaces.effective_capabilities() >> _CAP_SETPCAP & 1:
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


def serve(control: _socket.socket, requests: _socket.socket, plan: Plan) -> Never:
    """Run the calls that arrive, one after the other, until the other end is gone."""
    signals = _uapi.signalfd(_uapi.SIGCHLD)
    while True:
        parked = _park(requests, plan, control)
        report = _attend(_Attendance(parked, signals, plan), parked, control, signals)
        _tell(control, report)
        if report[0] != "ended" or report[-1]:
            os._exit(1)


def run_one(control: _socket.socket, call: Call, stdio: tuple[int, ...], plan: Plan) -> Never:
    """Run *call* and exit."""
    signals = _uapi.signalfd(_uapi.SIGCHLD)
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    pid = os.fork()
    if pid == 0:
        _become(call, stdio, write_end, plan)
    os.close(write_end)
    let_go_of_stdio()
    parked = _Parked(pid, read_end)
    attendance = _Attendance(parked, signals, plan, control if call.tty else None)
    attendance.begin(call.limits)
    _tell(control, _attend(attendance, parked, control, signals))
    os._exit(0)


def let_go_of_stdio() -> None:
    """Have nothing open for standard input, output and error any more.

    Who waits for the end of a pipe waits for everyone who holds it.
    """
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for fd in range(3):
        os.dup2(null, fd)
    os.close(null)


def _tell(control: _socket.socket, report: tuple[object, ...]) -> None:
    wire.send(control, str(report[0]), *report[1:])


def _park(requests: _socket.socket, plan: Plan, control: _socket.socket) -> _Parked:
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    pid = os.fork()
    if pid == 0:
        _wait_and_become(requests, write_end, plan)
    os.close(write_end)
    pidfd = os.pidfd_open(pid)
    wire.send(control, "parked", fds=[pidfd])
    os.close(pidfd)
    return _Parked(pid, read_end)


def _wait_and_become(requests: _socket.socket, report: int, plan: Plan) -> Never:
    """Confine this process, take one request, execute it."""
    try:
        worker.prepare(plan.ruleset_fd)
        message, fds = wire.receive(requests)
    except wire.ClosedError:
        os._exit(0)
    except OSError as error:
        worker.fail(report, worker.NOT_RUN, f"can't confine a worker: {error}")
    worker.execute(message[1], fds, report, plan.tier, plan.closed_network)


def _become(call: Call, stdio: tuple[int, ...], report: int, plan: Plan) -> Never:
    try:
        worker.prepare(plan.ruleset_fd, leader=not call.tty)
    except OSError as error:
        worker.fail(report, worker.NOT_RUN, f"can't confine the worker: {error}")
    worker.execute(call, stdio, report, plan.tier, plan.closed_network)


class _Attendance:
    """One call as its lane sees it, from the parked worker to the last reaped process."""

    def __init__(
        self, parked: _Parked, signals: int, plan: Plan, stops: _socket.socket | None = None
    ) -> None:
        self._parked = parked
        # Who is told that the program was stopped: with a terminal, that's a person's doing.
        self._stops = stops
        self._signals = signals
        self._own_pids = plan.tier == NAMESPACES
        self._limits: Limits | None = None
        self._began_at = 0.0
        self._look_at = float("inf")
        self._cpu_s = (0.0, 0.0)
        self._memory_kib_max = 0
        self.status: int | None = None
        self.limit = ""

    @property
    def begun(self) -> bool:
        """Tell whether the worker has been given its program."""
        return self._limits is not None

    def begin(self, limits: Limits) -> None:
        """Start the clocks of the call."""
        self._limits = limits
        self._began_at = time.monotonic()
        self._look_at = self._next_look(self._began_at)

    def _next_look(self, now: float) -> float:
        limits = self._limits
        if limits is None:
            return float("inf")
        end = float("inf") if limits.wall_s is None else self._began_at + limits.wall_s
        if not sample.needed(limits):
            return end
        return min(end, now + (_LOOK_S if now - self._began_at < 1 else _LOOK_S_LATER))

    def timeout_ms(self) -> float | None:
        """Return how long only an event needs attention; None is for ever."""
        if self._look_at == float("inf"):
            return None
        return max(0.0, self._look_at - time.monotonic()) * 1000

    def look(self) -> None:
        """Name the limit that the call is over by now, if it is time to look and it is."""
        now, limits = time.monotonic(), self._limits
        if limits is None or now < self._look_at:
            return
        if limits.wall_s is not None and now - self._began_at >= limits.wall_s:
            self.limit = "wall"
        elif sample.needed(limits):
            self.limit = self._over(limits)
        self._look_at = self._next_look(now)

    def _over(self, limits: Limits) -> str:
        usage = sample.usage(own_pids=self._own_pids)
        over = sample.exceeded(limits, usage, sum(self._cpu_s))
        if over == "memory":
            usage = sample.usage(own_pids=self._own_pids, proportional=True)
            over = sample.exceeded(limits, usage, sum(self._cpu_s))
        return over

    def reap(self) -> bool:
        """Collect every process that has ended; tell whether there are others."""
        options = os.WNOHANG if self._stops is None else os.WNOHANG | os.WUNTRACED
        while True:
            try:
                pid, status, usage = os.wait4(-1, options)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if os.WIFSTOPPED(status):
                if pid == self._parked.pid:
                    self._say_stopped(os.WSTOPSIG(status))
                continue
            user, system = self._cpu_s
            self._cpu_s = (user + usage.ru_utime, system + usage.ru_stime)
            self._memory_kib_max = max(self._memory_kib_max, usage.ru_maxrss)
            if pid == self._parked.pid:
                self.status = status
                self._judge(status)

    def _say_stopped(self, number: int) -> None:
        if self._stops is None:
            return
        try:
            wire.send(self._stops, "stopped", number)
        except wire.ClosedError:
            return  # the control channel's end says it too, and there it is heeded

    def _judge(self, status: int) -> None:
        """Name the limit whose signal ended the program, directly or by way of a shell."""
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status) - 128
        cpu_s_max = self._limits.cpu_s if self._limits else None
        if not self.limit and number == _SIGXFSZ:
            self.limit = "file-size"
        elif not self.limit and cpu_s_max is not None and number in (_uapi.SIGKILL, _SIGXCPU):
            self.limit = "cpu" if sum(self._cpu_s) >= 0.9 * cpu_s_max else ""

    def sweep(self) -> bool:
        """Kill what is left of the call; tell whether all of it is gone."""
        deadline = time.monotonic() + SWEEP_S_MAX
        while self.reap():
            _kill_all()
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            select.select([self._signals], [], [], min(remaining, 0.05))
            drain(self._signals)
        return True

    def report(self, *, gone: bool) -> tuple[object, ...]:
        """Close the books: how the call ended, or why its worker died before there was one."""
        failure = _failure(self._parked.report_fd)
        if self._limits is None:
            return ("broken", failure[1] if failure else "a worker died before its call")
        peak = self._memory_kib_max
        return ("ended", self.status, self.limit, failure, self._cpu_s, peak, not gone)


def _attend(
    call: _Attendance, parked: _Parked, control: _socket.socket, signals: int
) -> tuple[object, ...]:
    """See a call to its end; return the report."""
    poll = select.poll()
    poll.register(control.fileno(), select.POLLIN)
    poll.register(signals, select.POLLIN)
    while call.status is None and not call.limit:
        events = dict(poll.poll(call.timeout_ms()))
        if control.fileno() in events:
            _obey(call, control, parked)
        if signals in events:
            drain(signals)
            call.reap()
        call.look()
    return call.report(gone=call.sweep())


def _obey(call: _Attendance, control: _socket.socket, parked: _Parked) -> None:
    try:
        message, _ = wire.receive(control)
    except wire.ClosedError:
        call.sweep()
        os._exit(0)
    if message[0] == "begin":
        call.begin(message[1])
    elif message[0] == "end" and call.begun:
        # One that comes too late must not end the next call.
        call.limit = message[1]
    elif message[0] == "signal":
        _signal(-parked.pid, message[1])
    elif message[0] == "signal-all":
        _signal(-1, message[1])


def _kill_all() -> None:
    """Kill every process that this one's signals reach: those of its call."""
    _signal(-1, _uapi.SIGKILL)


def _signal(target: int, number: int) -> None:
    try:
        os.kill(target, number)
    except ProcessLookupError:
        return  # only ended ones, not collected yet


def drain(signals: int) -> None:
    """Read away what a signalfd holds."""
    try:
        os.read(signals, 128 * 64)
    except BlockingIOError:
        return


def _failure(report_fd: int) -> tuple[int, str] | None:
    """Return why nothing was executed, if that is so."""
    try:
        message = os.read(report_fd, 65536)
    except BlockingIOError:
        message = b""
    finally:
        os.close(report_fd)
    if not message:
        return None
    status, text = marshal.loads(message)  # noqa: S302 - written before exec, by our own code
    return int(status), str(text)
