"""The lane of a single run: it makes its root, /proc, network and terminal, and runs its one call.

Architecture invariant: imported inside the namespaces, by process 1: a process that has imported
all this is dear to fork.
"""

from __future__ import annotations

import _struct as struct
import fcntl
import posix as os

from nono_sandbox import domain, fresh_root, namespaces, setup, wire
from nono_sandbox.confinement import CLOSED, NAMESPACES, PORTS
from nono_sandbox.errors import ConfinementError
from nono_sandbox.single_run import only_call

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Never

    from nono_sandbox.confinement import Confinement
    from nono_sandbox.sealing import Plan, Programs
    from nono_sandbox.ways import Ways

_TIOCSPTLCK = 0x40045431
_TIOCGPTN = 0x80045430
_WINDOW_SIZE_BYTES = 8


def serve(
    control: _socket.socket,
    tier: str,
    network: str,
    carrier: _socket.socket | None,
) -> Never:
    """Run the call that *control* names, whose network is as said; exit when it has ended.

    *carrier* is the channel to whoever carries ports, if somebody does.

    Raises:
        SandboxError: It can't be confined as it stands. Exit.
        OSError: The kernel refused. Exit.
        ClosedError: The other end is gone. Exit.
    """
    surroundings = _Surroundings(tier, network)
    wire.send(control, "ready")
    surroundings.make_ready()
    message, group = wire.receive(control)
    if message[0] == "door":
        surroundings.open_door(control, message[1])
        message, group = wire.receive(control)
    confinement, call, foreground = message[1:]
    spawns = setup.spawns(confinement, tier, call, in_group=bool(group))
    # Only who needs it pays for it; in the fresh root it may not be there to be imported.
    if not spawns:
        import nono_sandbox.worker
    if call.tty:
        import termios  # noqa: F401
    if group:
        import nono_sandbox.cgroups.membership  # noqa: F401
    surroundings.settle(confinement, carrier)
    message, _ = wire.receive(control)
    plan = surroundings.plan_for(confinement, message[1])
    if group:
        plan = _in_group(plan, group)
    master, slave = _terminal(as_ours=foreground) if call.tty else (-1, -1)
    sealed = only_call.seal(plan.replace(spawns=spawns), confinement.network)
    # All is in place. Who asked for it may be looking still whether that is to be had.
    wire.send(control, "sealed")
    wire.receive(control)
    wire.send(control, "running", fds=[master] if call.tty else [], word=plan.word)
    if call.tty:
        os.close(master)
    only_call.run(control, call, _stdio(slave), sealed)


class _Surroundings:
    """What a lane has around it: as much as can be is made before the confinement is known."""

    def __init__(self, tier: str, network: str) -> None:
        self._tier = tier
        self._network = network
        self._root = -1
        self._door_port = 0
        self._ways: Ways | None = None
        if tier == NAMESPACES:
            self._root = fresh_root.begin(namespaces.new_proc())

    def make_ready(self) -> None:
        """Do what doesn't tell whether this machine gives the tier."""
        if self._tier != NAMESPACES:
            return
        if self._network == CLOSED:
            namespaces.start_loopback()
        elif self._network == PORTS:
            namespaces.close_network()

    def open_door(self, control: _socket.socket, confinement: Confinement) -> None:
        """Hand out the listening socket of *confinement*."""
        self._check(confinement)
        self._door_port = confinement.network.door_port
        (sock,) = setup.door(confinement, self._tier)
        wire.send(control, "open", fds=[sock.fileno()])
        sock.close()

    def _check(self, confinement: Confinement) -> None:
        if confinement.network.mode != self._network:
            raise ConfinementError("the network isn't what this lane was made for")

    def settle(self, confinement: Confinement, carrier: _socket.socket | None) -> None:
        """Make the rest: what *confinement* says."""
        self._check(confinement)
        if confinement.network.door_port != self._door_port:
            raise ConfinementError("the door isn't the one that was opened")
        if self._tier == NAMESPACES:
            self._ways = setup.ways_of(confinement)
            if not fresh_root.finish(self._root, confinement, self._ways):
                fresh_root.build(confinement)
                fresh_root.replace_proc(namespaces.new_proc())
        if carrier is not None:
            from nono_sandbox import forward

            forward.hand_over(carrier, confinement.network)

    def plan_for(self, confinement: Confinement, programs: Programs) -> Plan:
        """Return the plan for *confinement* and its seccomp *programs*, with what is around it."""
        plan = setup.plan_for(confinement, self._tier, programs)
        if self._tier == NAMESPACES:
            domain.allow_proc(plan.ruleset_fd)
            proc = os.open("/proc", os.O_PATH | os.O_CLOEXEC)
            namespaces.shut(proc, plan.processes_max)
            os.close(proc)
        return plan if self._ways is None else plan.replace(ways=self._ways)


def _in_group(plan: Plan, group: list[int]) -> Plan:
    """Enter the control group that *group* is of, as `membership.join` takes it."""
    from nono_sandbox.cgroups import membership

    plan, kept = membership.join(plan, group)
    for fd in group:
        if fd not in kept:
            os.close(fd)
    return plan


def _terminal(*, as_ours: bool) -> tuple[int, int]:
    """Make a new terminal this process's own: its master and slave.

    Its settings are the kernel's for a new one or, *as_ours*, those of standard input.

    The lane leads the terminal's session, as a shell would: a program that led it itself could
    not be stopped by the key for that.
    """
    import termios

    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    number = struct.unpack("i", fcntl.ioctl(master, _TIOCGPTN, bytes(4)))[0]
    slave = os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    if as_ours:
        try:
            termios.tcsetattr(slave, termios.TCSANOW, termios.tcgetattr(0))
        except termios.error as error:
            raise OSError(*error.args) from error  # it isn't one; the terminal was hung up
    size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(_WINDOW_SIZE_BYTES))
    fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    return master, slave


def _stdio(slave: int) -> tuple[int, ...]:
    """Return what the program's standard streams are: *slave*, if any, for each terminal."""
    return tuple(slave if slave >= 0 and os.isatty(fd) else fd for fd in range(3))
