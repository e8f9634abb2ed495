"""One program, confined, started from a small process: the machinery of `nono run`.

No fork server and no lane pool: the calling process forks the one lane it needs. What a session
does once is done once here too, in the same order and by the same functions.

Architecture invariant: the calling process has one thread, and stays outside every namespace.
"""

from __future__ import annotations

import fcntl
import os
import struct

from nono_sandbox import _uapi, lane, namespaces, setup, wire
from nono_sandbox.confinement import LANDLOCK, NAMESPACES
from nono_sandbox.errors import ConfinementError, LaneLostError, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any, Never

    from nono_sandbox.confinement import Call, Confinement


_TIOCSPTLCK = 0x40045431
_TIOCGPTN = 0x80045430


class Launch:
    """A lane that waits for its confinement and its one call."""

    def __init__(self, control: _socket.socket, tier: str, reason: str) -> None:
        self._control = control
        self.tier = tier
        self.reason = reason
        """Why this isn't the first tier, if it isn't."""

    def fileno(self) -> int:
        """Return the descriptor that is readable when `receive` has something."""
        return self._control.fileno()

    def run(self, confinement: Confinement, call: Call) -> int:
        """Run *call* on this process's standard streams, or on a terminal of its own.

        Returns the master of that terminal if `call.tty`, else -1.

        Raises:
            ConfinementError: It can't be enforced as it stands. Nothing ran.
            LaneLostError: The lane died. Nothing is left of it.
        """
        wire.send(self._control, "run", confinement, call)
        message, fds = self._receive()
        if message[0] == "failed":
            raise ConfinementError(message[1])
        return fds[0] if fds else -1

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
        wire.send(self._control, "signal", number)


def start(tier: str | None) -> Launch:
    """Fork a lane, in namespaces if this machine has them or *tier* insists.

    Raises:
        ConfinementError: *tier* insists on namespaces and there are none. Nothing is left.
        LaneLostError: The lane died. Nothing is left of it.
    """
    reason = ""
    if tier != LANDLOCK:
        launch = _forked(NAMESPACES)
        message = launch.receive()
        if message[0] == "ready":
            return launch
        reason = message[1]
        if tier == NAMESPACES:
            raise ConfinementError(f"this machine gives no namespaces: {reason}")
    launch = _forked(LANDLOCK)
    launch.receive()
    launch.reason = reason
    return launch


def _forked(tier: str) -> Launch:
    ours, theirs = wire.socket_pair()
    # Whoever is between this process and the lane exits; what it leaves comes here to be collected.
    _uapi.prctl(_uapi.PR_SET_CHILD_SUBREAPER, 1)
    if os.fork() == 0:
        ours.close()
        _be_lane(theirs, tier)
    theirs.close()
    return Launch(ours, tier, "")


def _be_lane(control: _socket.socket, tier: str) -> Never:
    try:
        proc = _enter() if tier == NAMESPACES else -1
        wire.send(control, "ready")
        message, _ = wire.receive(control)
        confinement, call = message[1:]
        plan = _settle(confinement, tier, proc)
        terminal = _terminal() if call.tty else ()
        lane.seal(plan)
        wire.send(control, "running", fds=terminal[:1])
        slave = terminal[1:]
        lane.run_one(control, call, slave * 3 or (0, 1, 2), plan)
    except wire.ClosedError:
        os._exit(0)
    except (SandboxError, OSError) as error:
        wire.send(control, "failed", str(error))
        os._exit(1)


def _enter() -> int:
    """Become process 1 in namespaces of its own; return a mount of its /proc."""
    namespaces.enter()
    _uapi.unshare(_uapi.CLONE_NEWPID)
    if os.fork():
        os._exit(0)
    return namespaces.new_proc()


def _settle(confinement: Confinement, tier: str, proc: int) -> lane.Plan:
    if tier == NAMESPACES:
        setup.settle(confinement)
    plan = setup.plan_for(confinement, tier)
    if tier == NAMESPACES:
        setup.show_proc(proc, plan)
    return plan


def _terminal() -> tuple[int, int]:
    """Open a new terminal on the /dev/pts of this mount namespace: its master and its slave."""
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    number = struct.unpack("i", fcntl.ioctl(master, _TIOCGPTN, bytes(4)))[0]
    return master, os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
