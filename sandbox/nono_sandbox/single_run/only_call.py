"""The one call of a single run: the lane gives up its privileges, starts it, and sees to its end.

Architecture invariant: the lane reads nothing that the call writes, save the message that says why
nothing was executed, and ends with the process that asked for the run.
"""

from __future__ import annotations

import gc
import posix as os
import select

from nono_sandbox import _uapi, call_events, call_monitor, sealing, spawning, wire
from nono_sandbox.spawning import WorkerProcess
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import signal as _signal
    from typing import Never

    from nono_sandbox.confinement import Call, Network
    from nono_sandbox.sealing import Plan
else:
    import _signal  # `signal` imports enum, which costs a bare start of Python

_SIGNALS = _signal.valid_signals()


class Sealed(Value):
    """A lane that has given up every privilege, and what it introduces itself by."""

    plan: Plan
    network: Network
    fds: tuple[int, ...]
    """What `sealing.seal` returned."""
    signals: int
    """By which it hears of processes that have ended."""


def seal(plan: Plan, network: Network) -> Sealed:
    """Turn the calling process into a lane, whose call is not to be run yet.

    If it starts that itself, it enters the domain of its call.

    Raises:
        SandboxError: It can't be one. Exit.
        OSError: The kernel refused. Exit.
    """
    fds = sealing.seal(plan)
    if plan.spawns:
        sealing.enter_domain(plan)
    return Sealed(plan, network, fds, _uapi.signalfd(_uapi.SIGCHLD))


def run(control: _socket.socket, call: Call, stdio: tuple[int, ...], sealed: Sealed) -> Never:
    """Run *call* and exit."""
    plan, signals = sealed.plan, sealed.signals
    started = spawning.exposed(call, stdio, plan, _started)
    wire.let_go_of_stdio()
    if not isinstance(started, WorkerProcess):
        call_events.tell(control, spawning.not_executed(started))
        os._exit(0)
    # Off for the start; from here to the end of the call may be days.
    gc.freeze()
    gc.enable()
    stops = control if call.tty else None
    monitor = call_monitor.CallMonitor(started, signals, plan.tier, plan.places, stops)
    monitor.ways = plan.ways
    monitor.begin(call.limits)
    waits = _Waits(control, sealed) if sealed.fds else None
    call_events.tell(control, call_events.attend(monitor, started, control, signals, waits))
    os._exit(0)


def _started(call: Call, stdio: tuple[int, ...], plan: Plan) -> WorkerProcess | tuple[int, str]:
    """Start *call*; return its process, or a status and why nothing was executed."""
    if plan.spawns:
        return spawning.spawned(call, stdio, plan)
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    # What is sent to the program from here on waits until it isn't this lane's to ignore any more.
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _SIGNALS)
    pid = os.fork()
    if pid == 0:
        _become(call, stdio, write_end, plan)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
    os.close(write_end)
    return WorkerProcess(pid, read_end, plan.word, plan.membership)


def _become(call: Call, stdio: tuple[int, ...], report: int, plan: Plan) -> Never:
    # It has been imported: in the fresh root it may not be there to be.
    from nono_sandbox import worker

    try:
        worker.prepare(plan.ruleset_fd, leader=not call.tty)
    except OSError as error:
        worker.fail(report, spawning.NOT_RUN, f"can't confine the worker: {error}")
    worker.execute(call, stdio, report, plan.tier, plan.narrowing)


class _Waits:
    """Calls that wait for somebody to act on their behalf, who is sent for with the first.

    From then on it is between the two; till then nobody but this lane could tell of it.
    """

    def __init__(self, control: _socket.socket, sealed: Sealed) -> None:
        self._control = control
        self._sealed = sealed
        self._listener = sealed.fds[0]

    def __call__(self, poll: select.poll, events: dict[int, int]) -> None:
        if self._listener in events:
            poll.unregister(self._listener)
            self._listener = -1
            sealed = self._sealed
            sealing.introduce(self._control, sealed.network, sealed.fds, sealed.plan)
        elif not events and self._listener >= 0:
            poll.register(self._listener, select.POLLIN)
