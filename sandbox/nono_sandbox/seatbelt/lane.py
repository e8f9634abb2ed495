"""A lane on macOS: the process in charge of one call at a time, and of ending all that it started.

It speaks to the supervisor as Linux's lanes do. It forks nothing: `launcher` starts a call,
`exits` tells its end, `tree` finds and ends what it left behind.

Nobody has run it on a Mac. The tests run it on Linux, with a stand-in for sandbox-exec.

Architecture invariant: one thread; it ends, with what it runs, when the supervisor or the fork
server does.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

from nono_sandbox import call_end, wire
from nono_sandbox.errors import SandboxError, StartError
from nono_sandbox.seatbelt import launcher, tree
from nono_sandbox.seatbelt.exits import Exit
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Iterable, Sequence
    from typing import Never

    from nono_sandbox.confinement import Call, Confinement
    from nono_sandbox.seatbelt.tree import Process

_LOOK_S = 0.025
_LOOK_S_LATER = 0.1
_NOT_RUN = 126
_FAILURE_CHARACTERS_MAX = 4000


class Means(Value):
    """What this system has for starting a call and for finding what came of it."""

    sandbox_exec: str
    processes: Callable[[], Iterable[Process]]


def serve(
    control: _socket.socket,
    requests: _socket.socket,
    lifeline: int,
    confinement: Confinement,
    means: Means,
) -> Never:
    """Run the calls that arrive, one after the other, until an end of *lifeline* or they is gone.

    Raises:
        ClosedError: The supervisor is gone, or done with this lane. Exit.
    """
    poll = select.poll()
    poll.register(requests.fileno(), select.POLLIN)
    poll.register(lifeline, select.POLLIN)
    while True:
        if lifeline in dict(poll.poll()):
            os._exit(0)
        message, stdio = wire.receive(requests)
        # What came before it was meant for the call before.
        while wire.receive(control)[0][0] != "begin":
            continue
        call = Attended(control, lifeline, means, message[1])
        call.start(confinement, stdio)
        for fd in stdio:
            os.close(fd)
        wire.send(control, *call.outcome())


class Attended:
    """One call, from its start to the last process that came of it."""

    def __init__(self, control: _socket.socket, lifeline: int, means: Means, call: Call) -> None:
        self._control = control
        self._lifeline = lifeline
        self._means = means
        self._call = call
        self._pid = 0
        self._began_at = time.monotonic()
        self._known: frozenset[int] = frozenset()
        self._limit = ""
        self._failure: tuple[int, str] | None = None

    def start(self, confinement: Confinement, stdio: Sequence[int]) -> None:
        """Start the call on *stdio*, which the caller may close then."""
        first, second, third = stdio
        try:
            self._pid = launcher.launch(
                self._call,
                confinement,
                (first, second, third),
                self._means.sandbox_exec,
                began=self._know,
            )
        except StartError as error:
            self._failure = error.status, str(error)[:_FAILURE_CHARACTERS_MAX]
        except SandboxError as error:
            self._failure = _NOT_RUN, str(error)[:_FAILURE_CHARACTERS_MAX]

    def _know(self, pid: int) -> None:
        """Keep the identity of the program: children tell whose they are after its end, too."""
        self._known = frozenset(one.identity for one in self._means.processes() if one.pid == pid)

    def outcome(self) -> tuple[str, *tuple[object, ...]]:
        """See the call to its end; return the report.

        Raises:
            ClosedError: The supervisor is gone; nothing is left of the call.
        """
        if self._failure is not None:
            return ("ended", self._failure[0] << 8, "", self._failure, (0.0, 0.0), 0, False)
        self._known |= {one.identity for one in self._family()}
        with Exit(self._pid) as exited:
            try:
                self._wait(exited)
            except wire.ClosedError:
                self._sweep()
                raise
        return self._collected(leftovers=not self._sweep())

    def _wait(self, exited: Exit) -> None:
        """Heed orders and limits until the program has ended or is to be."""
        poll = select.poll()
        poll.register(exited.fileno(), select.POLLIN)
        poll.register(self._control.fileno(), select.POLLIN)
        if self._lifeline >= 0:
            poll.register(self._lifeline, select.POLLIN)
        while not self._limit:
            events = dict(poll.poll(self._timeout_ms()))
            if self._lifeline in events:
                raise wire.ClosedError("the fork server is gone")
            if self._control.fileno() in events:
                self._obey(wire.receive(self._control)[0])
            if exited.fileno() in events:
                return
            self._look()

    def _obey(self, message: tuple[object, ...]) -> None:
        kind, what = message
        if kind == "end":
            self._limit = str(what)
        elif kind == "signal" and isinstance(what, int):
            _to_group(self._pid, what)
        elif kind == "signal-all" and isinstance(what, int):
            for one in self._family():
                _to(one.pid, what)

    def _look(self) -> None:
        """Name the limit that the call is over by now, if it is."""
        limits = self._call.limits
        if limits.wall_s is not None and time.monotonic() - self._began_at >= limits.wall_s:
            self._limit = "wall"
        elif limits.processes_max is not None:
            family = self._family()
            # What was seen once is known by itself, wherever it goes.
            self._known |= {one.identity for one in family}
            if len(family) > limits.processes_max:
                self._limit = "processes"

    def _timeout_ms(self) -> float | None:
        limits, elapsed_s = self._call.limits, time.monotonic() - self._began_at
        waits = []
        if limits.wall_s is not None:
            waits.append(limits.wall_s - elapsed_s)
        if limits.processes_max is not None:
            waits.append(_LOOK_S if elapsed_s < 1 else _LOOK_S_LATER)
        return max(0.0, min(waits)) * 1000 if waits else None

    def _family(self) -> tuple[Process, ...]:
        return tree.family(self._pid, self._known, self._means.processes())

    def _sweep(self) -> bool:
        """Kill what is left of the call; tell whether all of it is gone."""
        try:
            tree.end_tree(self._pid, self._means.processes, known=self._known)
        except tree.SurvivorsError:
            return False
        return True

    def _collected(self, *, leftovers: bool) -> tuple[str, *tuple[object, ...]]:
        pid, status, usage = os.wait4(self._pid, os.WNOHANG if leftovers else 0)
        known = status if pid else None
        if not self._limit and known is not None:
            self._limit = call_end.limit_of(
                known, self._call.limits, signal.SIGXCPU, signal.SIGXFSZ
            )
        # getrusage(2) of macOS counts bytes.
        peak_kib = usage.ru_maxrss // 1024 if sys.platform == "darwin" else usage.ru_maxrss
        times = usage.ru_utime, usage.ru_stime
        return ("ended", known, self._limit, None, times, peak_kib, leftovers)


def _to_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return  # macOS says EPERM of a group that holds nothing but zombies


def _to(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
