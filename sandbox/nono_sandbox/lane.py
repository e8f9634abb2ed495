"""A lane: the process in charge of one call at a time, and of ending all that it started.

In the first tier a lane is process 1 of a PID namespace; in the second it is a child subreaper
in a Landlock domain that its signals can't leave. Either way every process of a call stays below
it, `kill(-1)` reaches those and no others, and `wait` says when none is left.

In the first tier a lane that serves enters the Landlock domain of its calls, which it runs one at a
time and shares with no other lane, and starts their programs itself (vfork(2)). What a process has
to set for a single call, such as a limit, is set in a worker forked for that call. A lane that is
asked for as one that waits, and elsewhere every one, keeps the next call's worker forked and
confined ahead of need, waiting for its program. From its calls it is kept apart by what process 1
is to them, by being undumpable, and by their filter.

Architecture invariant: a lane never reads what a worker writes, save the message that says why
nothing was executed, and ends with whoever holds the other end of its control channel.
"""

from __future__ import annotations

import posix as os

from nono_sandbox import _uapi, call_events, open_files_limit, sealing, spawning, wire, worker
from nono_sandbox.call_monitor import CallMonitor
from nono_sandbox.readable import is_readable
from nono_sandbox.spawning import WorkerProcess

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Never

    from nono_sandbox.confinement import Call
    from nono_sandbox.sealing import Plan


def serve(control: _socket.socket, requests: list[_socket.socket], plan: Plan) -> Never:
    """Run the calls that arrive, one after the other, until the other end is gone.

    They arrive by *requests*, which is one channel, or none if this lane starts their programs.
    """
    # It has few, and its programs start with what it has.
    open_files_limit.put_back(plan.open_files_usual)
    signals = _uapi.signalfd(_uapi.SIGCHLD)
    if not requests:
        _serve_spawning(control, plan, signals)
    (arriving,) = requests
    # Only who waits pays for the import; the fork server has imported it.
    from nono_sandbox import rehearsal

    while True:
        process = _fork_ahead(arriving, plan)
        monitor = CallMonitor(process, signals, plan.tier, plan.places)
        monitor.ways = plan.ways
        rehearsal.of_lane(monitor)
        report = call_events.attend(monitor, process, control, signals)
        if _took_back(arriving) and not monitor.limit:
            report = ("broken", "a worker died before its call")
        call_events.tell(control, report)
        if call_events.is_last(report):
            os._exit(1)


def _serve_spawning(control: _socket.socket, plan: Plan, signals: int) -> Never:
    """Run the calls that arrive, in this lane's own Landlock domain, most of them without a fork.

    A lane has as many pages as Python. To copy them for a process that executes another program at
    once costs more than all else that is done for a call. But till that is executed the lane
    attends to nothing, and if it's read from where nobody answers, not even to the call's time.
    """
    sealing.enter_domain(plan)
    while True:
        call, stdio = _next_call(control)
        started = spawning.exposed(call, stdio, plan, _started)
        for fd in stdio:
            os.close(fd)
        if not isinstance(started, WorkerProcess):
            call_events.tell(control, spawning.not_executed(started))
            continue
        monitor = CallMonitor(started, signals, plan.tier, plan.places)
        monitor.ways = plan.ways
        monitor.begin(call.limits)
        report = call_events.attend(monitor, started, control, signals)
        call_events.tell(control, report)
        if call_events.is_last(report):
            os._exit(1)


def _next_call(control: _socket.socket) -> tuple[Call, tuple[int, ...]]:
    """Wait for a call; what is said before it was meant for the one before.

    Raises:
        ClosedError: There will be none. Exit.
    """
    while True:
        message, fds = wire.receive(control)
        if message[0] == "call":
            return message[1], tuple(fds)


def _started(call: Call, stdio: tuple[int, ...], plan: Plan) -> WorkerProcess | tuple[int, str]:
    """Start *call*; return its process, or a status and why nothing was executed."""
    if spawning.is_plain(call, plan.processes_max, in_group=plan.membership is not None):
        return spawning.spawned(call, stdio, plan)
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    pid = os.fork()
    if pid == 0:
        try:
            worker.prepare(plan.ruleset_fd)
        except OSError as error:
            worker.fail(write_end, spawning.NOT_RUN, f"can't confine the worker: {error}")
        worker.execute(call, stdio, write_end, plan.tier, plan.narrowing)
    os.close(write_end)
    return WorkerProcess(pid, read_end, plan.word, plan.membership)


def _took_back(requests: _socket.socket) -> bool:
    """Take the call that no worker took, and that none may any more; tell whether there was one."""
    there = is_readable(requests.fileno())
    if there:
        _, fds = wire.receive(requests)
        for fd in fds:
            os.close(fd)
    return there


def _fork_ahead(requests: _socket.socket, plan: Plan) -> WorkerProcess:
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    if plan.membership is not None:
        plan.membership.expose()
    pid = os.fork()
    if pid == 0:
        _wait_and_become(requests, write_end, plan)
    if plan.membership is not None:
        plan.membership.spare()
    os.close(write_end)
    return WorkerProcess(pid, read_end, plan.word, plan.membership)


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
        worker.fail(report, spawning.NOT_RUN, f"can't confine a worker: {error}")
    worker.execute(message[1], fds, report, plan.tier, plan.narrowing)
