"""The lane of a single run: made ready in a fork of the small process that asked for it.

Architecture invariant: it ends when that process does, by whatever end.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios

from nono_sandbox import _uapi, domain, fresh_root, lane, namespaces, setup, wire
from nono_sandbox.confinement import CLOSED, NAMESPACES, Confinement, Network
from nono_sandbox.errors import ConfinementError, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Never

_TIOCSPTLCK = 0x40045431
_TIOCGPTN = 0x80045430
_WINDOW_SIZE_BYTES = 8
_SIGNALS_OF_TERMINALS = (1, 2, 3, 15, 20, 21, 22)
"""SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU."""


def serve(control: _socket.socket, tier: str, network: str) -> Never:
    """Be the lane of one call, whose network is closed or not; exit when it has ended."""
    # What a terminal sends is for the process outside to answer.
    _uapi.ignore_signals(*_SIGNALS_OF_TERMINALS)
    try:
        room = _Room(control, tier, network)
        wire.send(control, "ready")
        room.make_ready()
        message, _ = wire.receive(control)
        confinement, call = message[1:]
        plan = room.settle(confinement)
        master, slave = _terminal() if call.tty else (-1, -1)
        lane.seal(plan)
        wire.send(control, "running", fds=[master] if call.tty else [])
        if call.tty:
            os.close(master)
        lane.run_one(control, call, _stdio(slave), plan)
    except wire.ClosedError:
        os._exit(0)
    except (SandboxError, OSError) as error:
        wire.send(control, "failed", str(error))
        os._exit(1)


class _Room:
    """What a lane has around it: as much as can be is made before the confinement is known."""

    def __init__(self, control: _socket.socket, tier: str, network: str) -> None:
        self._tier = tier
        self._guess = Confinement(cwd="/", network=Network(network))
        self._root = -1
        self._programs = (b"", b"")
        if tier == NAMESPACES:
            _enter(control)
            self._root = fresh_root.begin(namespaces.new_proc())

    def make_ready(self) -> None:
        """Do what doesn't tell whether this machine gives the tier."""
        if self._tier == NAMESPACES and self._guess.network.mode == CLOSED:
            namespaces.close_network()
        self._programs = setup.programs_for(self._guess, self._tier)

    def settle(self, confinement: Confinement) -> lane.Plan:
        """Make the rest: what *confinement* says."""
        if (confinement.network.mode == CLOSED) != (self._guess.network.mode == CLOSED):
            raise ConfinementError("the network isn't what this lane was made for")
        if self._tier == NAMESPACES and not fresh_root.finish(self._root, confinement):
            fresh_root.build(confinement)
            fresh_root.replace_proc(namespaces.new_proc())
        guessed = confinement.network == self._guess.network and not confinement.ptrace
        programs = self._programs if guessed else None
        plan = setup.plan_for(confinement, self._tier, programs)
        if self._tier == NAMESPACES:
            domain.allow_proc(plan.ruleset_fd)
        return plan


def _enter(control: _socket.socket) -> None:
    """Become process 1 in namespaces of its own."""
    namespaces.enter()
    _uapi.unshare(_uapi.CLONE_NEWPID)
    pid = os.fork()
    if pid:
        # The other end sees that the lane is gone by this one's being closed.
        control.close()
        lane.let_go_of_stdio()
        os.waitpid(pid, 0)
        os._exit(0)


def _terminal() -> tuple[int, int]:
    """Make a new terminal this process's own, set as standard input is: its master and slave.

    The lane leads the terminal's session, as a shell would: a program that led it itself could
    not be stopped by the key for that.
    """
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    number = struct.unpack("i", fcntl.ioctl(master, _TIOCGPTN, bytes(4)))[0]
    slave = os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    termios.tcsetattr(slave, termios.TCSANOW, termios.tcgetattr(0))
    size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(_WINDOW_SIZE_BYTES))
    fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    return master, slave


def _stdio(slave: int) -> tuple[int, ...]:
    """Return what the program's standard streams are: *slave*, if any, for each terminal."""
    return tuple(slave if slave >= 0 and os.isatty(fd) else fd for fd in range(3))
