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
    import select
    from typing import Any, Never

    from nono_sandbox.behalf import Answerer

_SIGNALS_OF_TERMINALS = (1, 2, 3, 15, 20, 21, 22)
"""SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU."""


def serve(control: _socket.socket, tier: str, network: str) -> Never:
    """Be the lane of one call, whose network is closed or not; exit when it has ended."""
    # What a terminal sends is for the process outside to answer.
    _uapi.ignore_signals(*_SIGNALS_OF_TERMINALS)
    try:
        if tier == NAMESPACES:
            carrier, introduction = _enter(control, network)
        else:
            carrier, introduction = None, _answered_for(control)
        from nono_sandbox import room

        room.serve(control, tier, network, (carrier, introduction))
    except wire.ClosedError:
        os._exit(0)
    except (SandboxError, OSError) as error:
        wire.send(control, "failed", str(error))
        os._exit(1)


def _enter(control: _socket.socket, network: str) -> tuple[_socket.socket | None, _socket.socket]:
    """Become process 1 in namespaces of its own.

    Returns the channels to who carries its ports, if somebody does, and who will act on its behalf.
    """
    namespaces.enter()
    helper = None
    if network == PORTS:
        # In the fresh root it may not be there to be imported.
        from nono_sandbox import forward

        helper = forward.start()
    _uapi.unshare(_uapi.CLONE_NEWPID)
    ours, theirs = wire.socket_pair()
    pid = os.fork()
    if pid:
        # The other end sees that the lane is gone by this one's being closed.
        control.close()
        theirs.close()
        if helper is not None:
            helper.close()
        wire.let_go_of_stdio()
        _answer_if_asked(pid, ours)
    ours.close()
    # Whoever acts on behalf keeps the machine's root, with what is to be imported and its /proc.
    _uapi.unshare(_uapi.CLONE_NEWNS)
    return helper, theirs


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
    """Act on behalf of the workers of *lane*, from now on."""
    # What is imported here is imported while the lane gets ready.
    import select

    from nono_sandbox import behalf

    ended = _watched(lane)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    answerer = behalf.Answerer(poll)
    answerer.expect(introduction)
    _answer(answerer, poll, ended, lane)


def _answer_if_asked(lane: int, introduction: _socket.socket) -> Never:
    """Act on behalf of the workers of *lane*, from the first call of theirs that waits.

    Few runs connect to anything, and most are over sooner than this would be ready.
    """
    import select

    ended = _watched(lane)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    awaited = introduction.fileno()
    poll.register(awaited, select.POLLIN)
    introduced: tuple[tuple[Any, ...], list[int]] | None = None
    while True:
        events = dict(poll.poll())
        if ended in events:
            _end_with(lane)
        poll.unregister(awaited)
        if introduced is not None:
            break
        try:
            introduced = wire.receive(introduction)
        except wire.ClosedError:
            continue  # nobody is to, or it failed
        awaited = introduced[1][0]
        poll.register(awaited, select.POLLIN)
    from nono_sandbox import behalf

    answerer = behalf.Answerer(poll)
    answerer.meet(*introduced)
    _answer(answerer, poll, ended, lane)


def _watched(lane: int) -> int:
    _uapi.prctl(_uapi.PR_SET_DUMPABLE, 0)
    return os.pidfd_open(lane)


def _answer(answerer: Answerer, poll: select.poll, ended: int, lane: int) -> Never:
    while True:
        events = dict(poll.poll(answerer.timeout_ms()))
        if ended in events:
            _end_with(lane)
        answerer.attend(events.items())


def _end_with(lane: int) -> Never:
    os.waitpid(lane, 0)
    os._exit(0)
