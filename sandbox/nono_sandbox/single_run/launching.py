"""The caller's side of a single run: it has a lane get ready, and has that run one program.

A session has a fork server and several lanes; here the calling process forks the one lane that it
needs (on macOS it spawns it, since there are no namespaces to be forked into). What a session does
once is done once here too, in the same order and by the same functions.

Architecture invariant: the calling process has one thread, and stays outside every namespace.
"""

from __future__ import annotations

import posix as os

from nono_sandbox import system, wire
from nono_sandbox.confinement import CLOSED, LANDLOCK, PROCESSES_USUAL, SEATBELT
from nono_sandbox.errors import ConfinementError, LaneLostError
from nono_sandbox.readable import is_readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Sequence
    from typing import Any

    from nono_sandbox.cgroups.run_group import RunGroup
    from nono_sandbox.confinement import Call, Confinement, Limits
    from nono_sandbox.sealing import Programs
    from nono_sandbox.single_run.processes import Lane

_LAST = ("ended", "failed")
"""What a lane says last."""
_LIMITS = 4
"""Where they are in a call, as `wire.plain` has it."""


class Launch:
    """A lane that waits for its confinement and its one call; made by `start`."""

    def __init__(self, tier: str | None, network: str, lane: Lane | None) -> None:
        self._insisted = tier is not None
        self.network = network
        """The kind that this lane has, or is getting."""
        self.tier = tier or system.BACKEND.tiers[0]
        """What was asked for, or is hoped for until `await_ready` has returned."""
        self.reason = ""
        """Why this isn't the first tier, if it isn't."""
        self._is_ready = False
        self.programs: Programs = b"", (), wire.NO_WORD
        """The seccomp programs of what `run` ran, on systems that have any."""
        self._is_running = False
        self._group: RunGroup | None = None
        """What holds the call to its limits, if there is anything to hold, and can be."""
        self._answerer: _socket.socket | None = None
        self._control, self._child = lane or _started(self.tier, network)

    def await_ready(self) -> None:
        """Wait until it is known which tier this machine gives, and is `tier`.

        Raises:
            ConfinementError: Namespaces were insisted on and there are none, or no lane can be
                started at all. Nothing is left.
            LaneLostError: The lane died. Nothing is left of it.
        """
        if self._is_ready:
            return
        message = self.receive()
        self._is_ready = True
        if message[0] == "ready":
            return
        self._control.close()
        self.reason = message[1]
        if self._insisted:
            raise ConfinementError(f"this machine gives no namespaces: {self.reason}")
        self.tier = LANDLOCK
        self._control, self._child = _started(LANDLOCK, self.network)
        message = self.receive()
        if message[0] == "failed":
            self._control.close()
            raise ConfinementError(message[1])

    def fileno(self) -> int:
        """Return the descriptor that is readable when `receive` has something."""
        return self._control.fileno()

    def fit(self, confinement: Confinement) -> None:
        """Take another lane if this one's namespaces aren't those that *confinement* needs.

        `run` does it too: this is for who has threads by then, and so can't fork any more.

        Raises:
            LaneLostError: The lane died. Nothing is left of it.
        """
        if confinement.network.mode != self.network and self.tier != SEATBELT:
            self._start_over(confinement.network.mode)

    def door(self, confinement: Confinement) -> int:
        """Return the listening socket inside the network that `run` of *confinement* will have.

        Raises:
            ConfinementError: There can't be one. Nothing is left.
            LaneLostError: The lane died. Nothing is left of it.
        """
        self.fit(confinement)
        wire.send(self._control, "door", confinement)
        message, fds = self._receive()
        if message[0] == "failed":
            raise ConfinementError(message[1])
        return fds[0]

    def run(
        self, confinement: Confinement, call: Call, meanwhile: Callable[[], None] | None = None
    ) -> int:
        """Run *call* on this process's standard streams.

        What is to be done *meanwhile* begins while the lane makes its root.
        With `call.tty`, those of them that are terminals are replaced by one of the call's own,
        whose master is returned; else -1 is.

        Raises:
            ConfinementError: It can't be enforced as it stands. Nothing ran.
            LaneLostError: The lane died. Nothing is left of it.
        """
        self.fit(confinement)
        self._ask(wire.plain(confinement), wire.plain(call))
        if self.tier == SEATBELT:
            return self.begun()
        # While the lane makes its root.
        self.programs = _programs(confinement, call, self.tier)
        self._tell("programs", self.programs)
        if meanwhile is not None:
            meanwhile()
        self.go_ahead()
        return self.begun()

    def ask(self, confinement: object, call: list[Any], programs: Programs) -> None:
        """Have the lane prepare for a call: the first two are as `wire.plain` has them.

        With its network as it was started for, and in the first tier, it may be asked before it's
        known to be ready. It prepares, and runs nothing until it's told to `go_ahead`.

        If it has ended, what there is to say of that is still to be received.

        Raises:
            LaneLostError: What is to hold the call to its limits couldn't be made.
        """
        self._ask(confinement, call)
        self._tell("programs", programs)

    def _ask(self, confinement: object, call: list[Any]) -> None:
        fds = self._entering(wire.whole(call[_LIMITS]))
        try:
            wire.send_plain(self._control, "run", confinement, call, in_foreground(), fds=fds)
        except wire.ClosedError:
            return

    def _entering(self, limits: Limits) -> Sequence[int]:
        """Return what the lane enters a control group by, if one is to hold its call to *limits*.

        What holds those that every call has isn't worth what a group costs.
        """
        usual = limits.processes_max in (None, PROCESSES_USUAL)
        if self.tier == SEATBELT or (limits.memory_bytes_max is None and usual):
            return ()
        if self._group is None:
            from nono_sandbox.cgroups import run_group

            self._group = run_group.make(self._child[0], limits)
        return () if self._group is None else self._group.joining

    def abandon(self) -> None:
        """Let go of the lane, which ends: whatever it was asked for hasn't run, and never will."""
        self._control.close()
        if self._group is not None:
            self._group.kill()
        self._leave_group()

    def go_ahead(self) -> None:
        """Have run what was asked for."""
        self._tell("go")

    def has_news(self) -> bool:
        """Tell whether it has said more: once it is ready, that it has prepared, or can't."""
        return is_readable(self._control.fileno())

    def begun(self) -> int:
        """Wait for the program to be about to run, and return what `run` does.

        Raises:
            ConfinementError: It can't be enforced as it stands. Nothing ran.
            LaneLostError: The lane died. Nothing is left of it.
        """
        message, fds = self._receive()
        if message[0] == "sealed":
            message, fds = self._receive()
        if message[0] == "failed":
            raise ConfinementError(message[1])
        self._is_running = True
        return fds[0] if fds else -1

    def _start_over(self, network: str) -> None:
        """Take another lane: this one's namespaces aren't those that are needed."""
        self._control.close()
        self.network = network
        self._control, self._child = _started(self.tier, network)
        self._is_ready = False
        self.await_ready()

    def receive(self) -> tuple[Any, ...]:
        """Wait for the lane's next message.

        Raises:
            LaneLostError: The lane died. Nothing is left of it.
        """
        return self._receive()[0]

    def _receive(self) -> tuple[tuple[Any, ...], list[int]]:
        try:
            message, fds = wire.receive(self._control)
        except wire.ClosedError as error:
            raise self._lost() from error
        if message[0] == "introduction":
            from nono_sandbox.single_run import processes

            # Not before a call waits for it: few runs connect to anything.
            self._answerer = processes.start_answerer(message, fds)
        elif message[0] in _LAST:
            if message[0] == "ended" and message[-1] and self.tier != SEATBELT:
                message = (*message[:-1], not self._is_ended())
            self._leave_group()
        return message, fds

    def led_out(self) -> bool:
        """Tell whether what it ran tried to connect to a host elsewhere, as far as was seen.

        Of a program that may not even have a socket for that, nothing is seen.
        """
        if self._answerer is None or not is_readable(self._answerer.fileno()):
            return False
        try:
            wire.receive(self._answerer)
        except wire.ClosedError:
            return False  # it had nothing to tell, and has ended
        return True

    def _is_ended(self) -> bool:
        """End what the lane couldn't, and it too; tell whether all of it is gone."""
        from nono_sandbox.single_run import orphans

        return orphans.end(*self._child)

    def _leave_group(self) -> None:
        if self._group is not None:
            self._group.leave()
            self._group = None

    def _lost(self) -> LaneLostError:
        """End what is left of a lane that has died; return what there is to say of it."""
        gone, starved = True, False
        if self._group is not None:
            starved = self._group.kill()
        if self.tier != SEATBELT:
            from nono_sandbox.single_run import orphans

            gone = orphans.end(*self._child)
        self._leave_group()
        if not gone:
            return LaneLostError("the sandbox died, and some of what it ran couldn't be ended")
        if self._is_running:
            why = " for want of memory" if starved else ""
            return LaneLostError(f"the sandbox died{why}; what it ran was killed")
        return LaneLostError("the sandbox died while it started; try again")

    def signal(self, number: int) -> None:
        """Send a signal to the program's process group."""
        self._tell("signal", number)

    def signal_all(self, number: int) -> None:
        """Send a signal to every process of the call."""
        self._tell("signal-all", number)

    def _tell(self, kind: str, *what: object) -> None:
        try:
            wire.send(self._control, kind, *what)
        except wire.ClosedError:
            return  # it has ended, and what there is to say of that is to be received


def start(tier: str | None, network: str = CLOSED, lane: Lane | None = None) -> Launch:
    """Fork a lane that gets ready while this process goes on; *tier* insists on one.

    *network* is what its confinement is likely to say; being right saves time. `await_ready`
    tells whether the tier could be had. A *lane* for these may have been begun.
    """
    return Launch(tier, network, lane)


def _programs(confinement: Confinement, call: Call, tier: str) -> Programs:
    """Return the seccomp programs for *call*: the base, and those that narrow it, if it is."""
    from nono_sandbox import filters

    narrowing: tuple[bytes, ...] = (b"", b"", b"")
    if call.narrowing.network_closed or call.narrowing.writes is not None:
        narrowing = filters.narrowing_programs()
    word = wire.new_word() if tier == LANDLOCK else wire.NO_WORD
    return filters.session_program(confinement, tier, word), narrowing, word


def in_foreground() -> bool:
    """Tell whether standard input is a terminal whose settings are this process's to use.

    While we are in the background they are those of whoever is in the foreground.
    """
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        # Not this session's terminal: it has no foreground for us to be in.
        return True


def _started(tier: str, network: str) -> Lane:
    # Most runs have begun theirs before this is imported.
    from nono_sandbox.single_run import processes

    return processes.start_lane(tier, network)
