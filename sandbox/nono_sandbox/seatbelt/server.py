"""The fork server on macOS: a small process of one thread that makes a session's lanes.

It speaks to the supervisor as Linux's does. Its lanes are forks of it, which hold no agent's
program; they end when it does, by a pipe that nobody writes to.

Nobody has run it on a Mac. The tests run it on Linux, with a stand-in for sandbox-exec.

Architecture invariant: nothing is enforced here; what a call may do is in the text that
`launcher` hands to sandbox-exec.
"""

from __future__ import annotations

import _socket
import os
import select
import signal
import sys

from nono_sandbox import open_files_limit, wire
from nono_sandbox.confinement import SEATBELT
from nono_sandbox.errors import ConfinementError, SandboxError
from nono_sandbox.seatbelt import lane, launcher
from nono_sandbox.seatbelt.lane import Means
from nono_sandbox.seatbelt.places import check_places
from nono_sandbox.seatbelt.profile import profile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Never

    from nono_sandbox.confinement import Confinement

_SIGNALS_OF_TERMINALS = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGTSTP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGPIPE,
)


def boot() -> Never:
    """Start from the command line: the descriptor, the tier, the usual number of open files."""
    open_files_limit.put_back(open_files_limit.told(sys.argv[3]))
    main(int(sys.argv[1]), macos_means())


def macos_means() -> Means:
    """Return what macOS has."""
    from nono_sandbox.seatbelt import libproc

    return Means(launcher.SANDBOX_EXEC, libproc.processes)


def main(control_fd: int, means: Means) -> Never:
    """Serve one supervisor."""
    wire.fill_standard_streams()
    ignore_signals()
    control = _socket.socket(fileno=control_fd)
    try:
        wire.send(control, "ready", SEATBELT, "")
        message, _ = wire.receive(control)
        check(message[1], means)
        wire.send(control, "configured", False, False)  # noqa: FBT003 - no lane starts a program alone
        _serve(control, message[1], means)
    except wire.ClosedError:
        os._exit(0)
    except (SandboxError, OSError) as error:
        wire.send(control, "failed", str(error))
        os._exit(1)


def ignore_signals() -> None:
    """Leave what a terminal or a service manager sends to the supervisor to answer."""
    for number in _SIGNALS_OF_TERMINALS:
        signal.signal(number, signal.SIG_IGN)


def check(confinement: Confinement, means: Means) -> None:
    """Raise unless *confinement* can be enforced here; a call is checked again when it starts.

    Raises:
        SandboxError: The message says what can't.
    """
    if confinement.network.door_port:
        raise ConfinementError("a door needs a network of the session's own around it")
    text = profile(confinement)
    check_places(confinement)
    launcher.check_text(text, means.sandbox_exec)
    # Where it can't be told what a call has started, nothing is started.
    if not any(one.pid == os.getpid() for one in means.processes()):
        raise ConfinementError("the table of processes doesn't show this one")


def _serve(control: _socket.socket, confinement: Confinement, means: Means) -> Never:
    lifeline, held = os.pipe()
    # The lanes are collected by the system: nobody asks how they ended.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    poll = select.poll()
    poll.register(control.fileno(), select.POLLIN)
    while True:
        poll.poll()
        _, (lane_control, lane_requests) = wire.receive(control)
        if os.fork() == 0:
            os.close(held)
            _be_lane((lane_control, lane_requests, lifeline), confinement, means)
        os.close(lane_control)
        os.close(lane_requests)


def _be_lane(fds: tuple[int, int, int], confinement: Confinement, means: Means) -> Never:
    control_fd, requests_fd, lifeline = fds
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    wire.keep_only(*fds)
    control = _socket.socket(fileno=control_fd)
    try:
        requests = _socket.socket(fileno=requests_fd)
        lane.serve(control, requests, lifeline, confinement, means)
    except wire.ClosedError:
        os._exit(0)
    except (SandboxError, OSError) as error:
        wire.send(control, "broken", str(error))
        os._exit(1)
