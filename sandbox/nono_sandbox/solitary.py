"""The lane of a single run: a fork of the small process that asked for it, in its namespaces.

Architecture invariant: it ends when that process does, by whatever end. Little is imported before
the last fork: what a process has touched, its fork copies when it touches it.
"""

from __future__ import annotations

import os

from nono_sandbox import _uapi, namespaces, wire
from nono_sandbox.confinement import NAMESPACES, PORTS
from nono_sandbox.errors import SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Never

_SIGNALS_OF_TERMINALS = (1, 2, 3, 15, 20, 21, 22)
"""SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU."""


def serve(control: _socket.socket, tier: str, network: str) -> Never:
    """Be the lane of one call, whose network is closed or not; exit when it has ended."""
    # What a terminal sends is for the process outside to answer.
    _uapi.ignore_signals(*_SIGNALS_OF_TERMINALS)
    try:
        helper = _enter(control, network) if tier == NAMESPACES else _answered_for(control)
        from nono_sandbox import room

        room.serve(control, tier, network, helper)
    except wire.ClosedError:
        os._exit(0)
    except (SandboxError, OSError) as error:
        wire.send(control, "failed", str(error))
        os._exit(1)


def _enter(control: _socket.socket, network: str) -> _socket.socket | None:
    """Become process 1 in namespaces of its own; return the channel to who carries its ports."""
    namespaces.enter()
    helper = None
    if network == PORTS:
        # In the fresh root it may not be there to be imported.
        from nono_sandbox import forward

        helper = forward.start()
    _uapi.unshare(_uapi.CLONE_NEWPID)
    pid = os.fork()
    if pid:
        # The other end sees that the lane is gone by this one's being closed.
        control.close()
        if helper is not None:
            helper.close()
        wire.let_go_of_stdio()
        os.waitpid(pid, 0)
        os._exit(0)
    return helper


def _answered_for(control: _socket.socket) -> _socket.socket:
    """Go on as a child of whoever will act on behalf of the call; return the channel to it."""
    ours, theirs = wire.socket_pair()
    pid = os.fork()
    if pid:
        control.close()
        theirs.close()
        wire.let_go_of_stdio()
        _answer_until_ended(pid, ours)
    ours.close()
    return theirs


def _answer_until_ended(lane: int, introduction: _socket.socket) -> Never:
    # What is imported here is imported while the lane gets ready.
    import select

    from nono_sandbox import behalf

    _uapi.prctl(_uapi.PR_SET_DUMPABLE, 0)
    ended = os.pidfd_open(lane)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    answerer = behalf.Answerer(poll)
    answerer.expect(introduction)
    while True:
        events = dict(poll.poll(answerer.timeout_ms()))
        if ended in events:
            os.waitpid(lane, 0)
            os._exit(0)
        answerer.attend(events.items())
