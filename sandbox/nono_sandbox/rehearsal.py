"""What a waiting worker and its lane do ahead of need: they go through what a call will want.

After fork(2) the first use of almost every page is a fault, on both sides, and interpreting Python
touches many: of the time from a call's arrival to exec(3) it was four fifths. Who has gone through
it once has those faults behind it.

Architecture invariant: a rehearsal executes nothing and keeps nothing; what it changes of the
process its call will set anew.
"""

from __future__ import annotations

import os
from contextlib import suppress

from nono_sandbox import wire, worker
from nono_sandbox.call_monitor import CallMonitor, drain
from nono_sandbox.confinement import NAMESPACES, Call, Limits
from nono_sandbox.spawning import WorkerProcess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_sandbox.sealing import Plan

NOWHERE = "/.nono-nothing-is-here"
_NAMES = ("PATH", "HOME", "USER", "LANG", "TERM", "TZ", "TMPDIR", "SHELL")
_CALL = Call(
    argv=(NOWHERE, "-c", "true"),
    environment=tuple((name, "/usr/local/bin:/usr/bin:/bin") for name in _NAMES),
    cwd="/",
)


_LIMITS = Limits(wall_s=60.0, processes_max=1000)


def of_worker(plan: Plan) -> None:
    """Receive a call and go as far as exec(3), which fails."""
    ours, theirs = wire.socket_pair()
    # What can't be done now can't be done then: the call's own try says why.
    with suppress(OSError):
        wire.send(theirs, "call", _CALL, fds=(0, 1, 2), word=plan.word)
        message, fds = wire.receive(ours)
        worker.try_out(message[1], fds, plan.tier, plan.narrowing)
    ours.close()
    theirs.close()


def of_lane(call: CallMonitor) -> None:
    """See another call begin and end, with the worker of *call* still waiting."""
    ours, theirs = wire.socket_pair()
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    other = CallMonitor(WorkerProcess(0, read_end), read_end, NAMESPACES)
    with suppress(OSError):
        wire.send(theirs, "begin", _LIMITS)
        message, _ = wire.receive(ours)
        other.begin(message[1])
        other.timeout_ms()
        other.look()
        drain(read_end)
        # Its own: what has ended by now is seen in good time.
        call.reap()
        report = other.report(gone=True)
        wire.send(ours, str(report[0]), *report[1:])
    for each in (ours, theirs):
        each.close()
    os.close(write_end)
