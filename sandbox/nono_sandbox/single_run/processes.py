"""The processes that a single run starts: its lane, and who acts on behalf of what that runs.

Architecture invariant: what is started has an empty environment, and one channel to this process.
"""

from __future__ import annotations

import posix as os
import sys

from nono_sandbox import system, wire
from nono_sandbox.confinement import SEATBELT

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any, TypeAlias

    Lane: TypeAlias = tuple[_socket.socket, tuple[int, float]]
    """The channel to it, and what is told of its process in `forking.begin`."""


def start_lane(tier: str, network: str) -> Lane:
    """Start a lane for one call, whose network is of the kind said.

    Where it can't be had, that is what its channel says.
    """
    if tier == SEATBELT:
        ours, theirs = wire.socket_pair()
        _spawn(theirs, "", system.BACKEND.single_run)
        return ours, (0, 0.0)
    from nono_sandbox.single_run import forking

    return forking.begin(tier, network)


def start_answerer(introduction: tuple[Any, ...], fds: list[int]) -> _socket.socket | None:
    """Start who acts on behalf of workers; *introduction* and *fds* are what the lane sent for it.

    Return the channel by which it tells of them. If it can't be started, which None says, calls
    that wait for it fail (ENOSYS). The descriptors are closed.
    """
    try:
        ours, theirs = wire.socket_pair()
        _spawn(theirs, "/dev/null", system.BACKEND.answerer)
        wire.send(ours, *introduction, fds=fds)
    except (OSError, wire.ClosedError):
        return None  # or it was ended at once
    else:
        return ours
    finally:
        for fd in fds:
            os.close(fd)


def _spawn(control: _socket.socket, streams: str, program: str) -> None:
    """Start *program*, what Python is told, with the channel *control*.

    It has this process's streams and session, or the file *streams* and a session of its own.
    """
    os.set_inheritable(control.fileno(), True)  # noqa: FBT003 - positional only
    from os.path import abspath, dirname

    source_root = dirname(dirname(dirname(abspath(__file__))))
    argv = [sys.executable, "-I", "-S", "-c", program, source_root, str(control.fileno())]
    actions = [(os.POSIX_SPAWN_OPEN, fd, streams, os.O_RDWR, 0) for fd in range(3) if streams]
    # An empty environment: what isn't there can't be read from its memory.
    os.posix_spawn(sys.executable, argv, {}, file_actions=actions, setsid=bool(streams))
    control.close()
