"""One program, confined, started from a small process: the machinery of `nono run`.

No fork server and no lane pool: the calling process forks the one lane it needs; on macOS it
spawns it, since there it needn't be in anybody's namespaces. What a session
does once is done once here too, in the same order and by the same functions.

Architecture invariant: the calling process has one thread, and stays outside every namespace.
"""

from __future__ import annotations

import os
import sys

from nono_sandbox import system, wire
from nono_sandbox.confinement import CLOSED, LANDLOCK, SEATBELT
from nono_sandbox.errors import ConfinementError, LaneLostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import signal as _signal
    from typing import Any, Never

    from nono_sandbox.confinement import Call, Confinement
    from nono_sandbox.lane import Programs
else:
    import _signal  # `signal` imports enum, which costs a bare start of Python


class Launch:
    """A lane that waits for its confinement and its one call; made by `start`."""

    def __init__(self, tier: str | None, network: str) -> None:
        self._insisted = tier is not None
        self._network = network
        self.tier = tier or system.BACKEND.tiers[0]
        """What was asked for, or is hoped for until `await_ready` has returned."""
        self.reason = ""
        """Why this isn't the first tier, if it isn't."""
        self._control = _forked(self.tier, network)

    def await_ready(self) -> None:
        """Wait until it is known which tier this machine gives, and is `tier`.

        Raises:
            ConfinementError: Namespaces were insisted on and there are none. Nothing is left.
            LaneLostError: The lane died. Nothing is left of it.
        """
        message = self.receive()
        if message[0] == "ready":
            return
        self._control.close()
        self.reason = message[1]
        if self._insisted:
            raise ConfinementError(f"this machine gives no namespaces: {self.reason}")
        self.tier = LANDLOCK
        self._control = _forked(LANDLOCK, self._network)
        self.receive()

    def fileno(self) -> int:
        """Return the descriptor that is readable when `receive` has something."""
        return self._control.fileno()

    def fit(self, confinement: Confinement) -> None:
        """Take another lane if this one's namespaces aren't those that *confinement* needs.

        `run` does it too: this is for who has threads by then, and so can't fork any more.

        Raises:
            LaneLostError: The lane died. Nothing is left of it.
        """
        if confinement.network.mode != self._network and self.tier != SEATBELT:
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

    def run(self, confinement: Confinement, call: Call) -> int:
        """Run *call* on this process's standard streams.

        With `call.tty`, those of them that are terminals are replaced by one of the call's own,
        whose master is returned; else -1 is.

        Raises:
            ConfinementError: It can't be enforced as it stands. Nothing ran.
            LaneLostError: The lane died. Nothing is left of it.
        """
        self.fit(confinement)
        wire.send(self._control, "run", confinement, call, in_foreground())
        if self.tier != SEATBELT:
            # While the lane makes its root.
            self._tell("programs", _programs(confinement, call, self.tier))
        message, fds = self._receive()
        if message[0] == "failed":
            raise ConfinementError(message[1])
        return fds[0] if fds else -1

    def _start_over(self, network: str) -> None:
        """Take another lane: this one's namespaces aren't those that are needed."""
        self._control.close()
        self._network = network
        self._control = _forked(self.tier, network)
        self.await_ready()

    def receive(self) -> tuple[Any, ...]:
        """Wait for the lane's next message.

        Raises:
            LaneLostError: The lane died. Nothing is left of it.
        """
        return self._receive()[0]

    def _receive(self) -> tuple[tuple[Any, ...], list[int]]:
        try:
            return wire.receive(self._control)
        except wire.ClosedError as error:
            raise LaneLostError("the sandbox died while it started; try again") from error

    def signal(self, number: int) -> None:
        """Send a signal to the program's process group."""
        self._tell("signal", number)

    def signal_all(self, number: int) -> None:
        """Send a signal to every process of the call."""
        self._tell("signal-all", number)

    def _tell(self, kind: str, what: object) -> None:
        try:
            wire.send(self._control, kind, what)
        except wire.ClosedError:
            return  # it has ended, and what there is to say of that is to be received


def start(tier: str | None, network: str = CLOSED) -> Launch:
    """Fork a lane that gets ready while this process goes on; *tier* insists on one.

    *network* is what its confinement is likely to say; being right saves time. `await_ready`
    tells whether the tier could be had.
    """
    return Launch(tier, network)


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


def _forked(tier: str, network: str) -> _socket.socket:
    ours, theirs = wire.socket_pair()
    if tier == SEATBELT:
        _spawn(theirs)
        return ours
    if os.fork() == 0:
        # Before the handler of Python's own could print a traceback.
        _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
        # What the other process is told by is its own.
        _signal.set_wakeup_fd(-1)
        ours.close()
        _be_lane(theirs, tier, network)
    theirs.close()
    return ours


def _spawn(control: _socket.socket) -> None:
    """Start the lane as a program of its own, in this process's session, on its streams."""
    os.set_inheritable(control.fileno(), True)  # noqa: FBT003 - positional only
    source_root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    argv = [sys.executable, "-I", "-S", "-c", system.BACKEND.single, source_root]
    # An empty environment: what isn't there can't be read from its memory.
    os.posix_spawn(sys.executable, [*argv, str(control.fileno())], {})
    control.close()


def _be_lane(control: _socket.socket, tier: str, network: str) -> Never:
    # Imported here, beside what the other process does meanwhile.
    from nono_sandbox import solitary

    solitary.serve(control, tier, network)
