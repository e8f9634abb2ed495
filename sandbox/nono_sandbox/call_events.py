"""Attending to a call: what a lane hears of it, from outside and from the kernel, until its end.

Architecture invariant: nothing is read that a worker writes, and when the other end of the control
channel is gone, the call is ended and so is this process.
"""

from __future__ import annotations

import posix as os
import select

from nono_sandbox import wire
from nono_sandbox.call_monitor import drain, send_signal
from nono_sandbox.confinement import GRANT_MOVED
from nono_sandbox.readable import is_readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from nono_sandbox.call_monitor import CallMonitor
    from nono_sandbox.spawning import WorkerProcess


def tell(control: _socket.socket, report: tuple[object, ...]) -> None:
    """Send what `attend` returned."""
    wire.send(control, str(report[0]), *report[1:])


def is_last(report: tuple[object, ...]) -> bool:
    """Tell whether a lane whose call ended so is to run no other."""
    return report[0] != "ended" or bool(report[-1]) or report[2] == GRANT_MOVED


def attend(
    call: CallMonitor,
    process: WorkerProcess,
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
    changed = -1
    if call.ways is not None:
        changed = call.ways.fd
        poll.register(changed, select.POLLIN)
    if waits is not None:
        waits(poll, {})
    while not call.over:
        events = dict(poll.poll(call.timeout_ms()))
        if waits is not None:
            waits(poll, events)
        # All of it, before the program's end is looked at: the call's beginning may come behind
        # an order that was meant for the one before.
        while is_readable(control.fileno()):
            _obey(call, control, process)
        if signals in events:
            drain(signals)
            call.reap()
        call.look()
        if changed in events:
            call.limit = GRANT_MOVED
    return call.report(gone=call.sweep())


def _obey(call: CallMonitor, control: _socket.socket, process: WorkerProcess) -> None:
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
            pidfd = os.pidfd_open(process.pid)
            wire.send(control, "pidfd", fds=[pidfd], word=process.word)
            os.close(pidfd)
    elif message[0] == "signal":
        # Just forked, it may lead no group yet.
        if not send_signal(-process.pid, message[1]) and call.status is None:
            send_signal(process.pid, message[1])
    elif message[0] == "signal-all":
        send_signal(-1, message[1])
