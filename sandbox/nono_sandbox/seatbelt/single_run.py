"""The lane of a single run on macOS: a process of its own beside the one that asked for it.

Nobody has run it on a Mac. The tests run it on Linux, with a stand-in for sandbox-exec.

Architecture invariant: it ends, with what it runs, when the process that asked for it does.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import sys
import termios

from nono_sandbox import wire
from nono_sandbox.errors import SandboxError
from nono_sandbox.seatbelt import server
from nono_sandbox.seatbelt.lane import Attended

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Never

    from nono_sandbox.seatbelt.lane import Means

_WINDOW_SIZE_BYTES = 8


def boot() -> Never:
    """Start from the command line, whose one argument is the descriptor to speak by."""
    main(int(sys.argv[1]), server.macos_means())


def main(control_fd: int, means: Means) -> Never:
    """Run the one call that the other end names, on this process's standard streams."""
    wire.fill_standard_streams()
    server.ignore_signals()
    os.set_inheritable(control_fd, False)  # noqa: FBT003 - positional only
    control = _socket.socket(fileno=control_fd)
    try:
        _serve(control, means)
    except wire.ClosedError:
        os._exit(0)
    except (SandboxError, OSError) as error:
        wire.send(control, "failed", str(error))
        os._exit(1)
    os._exit(0)


def _serve(control: _socket.socket, means: Means) -> None:
    wire.send(control, "ready")
    message, _ = wire.receive(control)
    if message[0] != "run":
        raise SandboxError("a door needs a network of the session's own around it")
    _, confinement, call, foreground = message
    server.check(confinement, means)
    master, slave = _terminal(as_ours=foreground) if call.tty else (-1, -1)
    wire.send(control, "running", fds=[master] if call.tty else [])
    if call.tty:
        os.close(master)
    attended = Attended(control, -1, means, call)
    attended.start(confinement, [slave if slave >= 0 and os.isatty(fd) else fd for fd in range(3)])
    wire.let_go_of_stdio()
    if slave >= 0:
        os.close(slave)
    wire.send(control, *attended.outcome())


def _terminal(*, as_ours: bool) -> tuple[int, int]:
    """Make a new terminal: its master and slave. The program will lead its session.

    Its settings are the kernel's for a new one or, *as_ours*, those of standard input.
    """
    master, slave = os.openpty()
    if as_ours:
        termios.tcsetattr(slave, termios.TCSANOW, termios.tcgetattr(0))
    size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(_WINDOW_SIZE_BYTES))
    fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
    return master, slave
