"""What a waiting worker does ahead of need: it goes through what its call will begin with.

After fork(2) the first use of almost every page is a fault, and interpreting Python touches many:
of the time from a call's arrival to exec(3) it was four fifths. A worker that has gone through it
once has those faults behind it.

Architecture invariant: a rehearsal executes nothing and keeps nothing; what it changes of the
process its call will set anew.
"""

from __future__ import annotations

from contextlib import suppress

from nono_sandbox import wire, worker
from nono_sandbox.confinement import Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_sandbox.lane import Plan

NOWHERE = "/.nono-nothing-is-here"
_NAMES = ("PATH", "HOME", "USER", "LANG", "TERM", "TZ", "TMPDIR", "SHELL")
_CALL = Call(
    argv=(NOWHERE, "-c", "true"),
    environment=tuple((name, "/usr/local/bin:/usr/bin:/bin") for name in _NAMES),
    cwd="/",
)


def rehearse(plan: Plan) -> None:
    """Receive a call and go as far as exec(3), which fails."""
    ours, theirs = wire.socket_pair()
    # What can't be done now can't be done then: the call's own try says why.
    with suppress(OSError):
        wire.send(theirs, "call", _CALL, fds=(0, 1, 2))
        message, fds = wire.receive(ours)
        worker.try_out(message[1], fds, plan.tier, plan.narrowing)
    ours.close()
    theirs.close()
