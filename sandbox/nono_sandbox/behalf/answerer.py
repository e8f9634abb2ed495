"""The calls of workers that wait for somebody to act on their behalf, each acted on and answered.

Architecture invariant: no call is ever let through; what can't be judged is refused. Nothing here
waits for long: what would block is tried again while others are served.
"""

from __future__ import annotations

import _socket
import errno
import os
import select

from nono_sandbox import _uapi, wire
from nono_sandbox.behalf import (
    _syscalls,
    addresses,
    caller_socket,
    messages,
    metadata,
    notifications,
    sending,
)
from nono_sandbox.behalf.connecting import Connecting
from nono_sandbox.behalf.local_addresses import Reach
from nono_sandbox.behalf.pending import Queue
from nono_sandbox.behalf.writable import Writable
from nono_sandbox.seccomp.syscalls import numbers
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from nono_sandbox.behalf.addresses import Kind
    from nono_sandbox.behalf.notifications import Caller, Notice
    from nono_sandbox.confinement import Network

_SENDS = ("sendto", "sendmsg", "sendmmsg")


class Terms(Value):
    """What the workers behind one listener may do."""

    network: Network
    writable: Writable
    sockets: frozenset[tuple[int, int]]
    """Those of others that may be connected to."""
    ruleset_fd: int
    asked: _socket.socket | None
    """In a network of their own: the channel to ask for its sockets on."""


class Answerer:
    """Whoever holds the listeners of a session's lanes."""

    def __init__(self, poll: select.poll, on_leading_out: Callable[[], None] | None = None) -> None:
        """Serve the listeners that *poll* watches.

        *on_leading_out* is called each time that a worker is about to be refused a host elsewhere.
        """
        self._poll = poll
        self._on_leading_out = on_leading_out
        self._unprivileged = _syscalls.Unprivileged()
        self._reach = Reach(self._unprivileged)
        self._changer = metadata.Changer(self._unprivileged)
        self._waiting = Queue(poll, self._unprivileged)
        self._introductions: dict[int, _socket.socket] = {}
        self._terms: dict[int, Terms] = {}
        self._name_of = {number: name for name, number in numbers(_uapi.MACHINE).items()}
        caller_socket.be_interruptible()

    def expect(self, introduction: _socket.socket) -> None:
        """Take over a channel on which a lane will `introduce` itself."""
        self._introductions[introduction.fileno()] = introduction
        self._poll.register(introduction.fileno(), select.POLLIN)

    @property
    def is_needed(self) -> bool:
        """Tell whether there is, or will be, a lane to act for."""
        return bool(self._terms or self._introductions)

    def timeout_ms(self) -> float | None:
        """Return how soon `attend` wants to be called though nothing has happened."""
        return self._waiting.timeout_ms()

    def attend(self, events: Iterable[tuple[int, int]]) -> None:
        """Do what *events*, of the poll, ask for."""
        ready = set()
        for fd, event in events:
            if self._waiting.wakes(fd):
                ready.add(fd)
            elif fd in self._introductions:
                self._meet(fd)
            elif fd in self._terms:
                if event & select.POLLIN:
                    self._answer(fd)
                elif event & (select.POLLHUP | select.POLLERR):
                    self._leave(fd)
        self._waiting.look(ready)

    def _meet(self, fd: int) -> None:
        introduction = self._introductions.pop(fd)
        self._poll.unregister(fd)
        try:
            self.meet(*wire.receive(introduction))
        except wire.ClosedError:
            return  # it failed, and has said why where it was asked to
        finally:
            introduction.close()

    def meet(self, message: tuple[Any, ...], fds: list[int]) -> None:
        """Act on behalf of the workers of the lane that said *message*."""
        listener, ruleset, *asked = fds
        channel = _socket.socket(fileno=asked[0]) if asked else None
        _, network, writable, sockets = message
        terms = Terms(network, Writable(writable), frozenset(sockets), ruleset, channel)
        self._terms[listener] = terms
        notifications.hasten(listener)
        self._poll.register(listener, select.POLLIN)

    def _leave(self, listener: int) -> None:
        """Forget a lane that has gone with all its workers."""
        self._poll.unregister(listener)
        terms = self._terms.pop(listener)
        os.close(terms.ruleset_fd)
        if terms.asked is not None:
            terms.asked.close()
        self._waiting.forget(listener)
        os.close(listener)

    def _answer(self, listener: int) -> None:
        notice = notifications.receive(listener)
        if notice is None:
            return
        caller = notifications.Caller(notice.tid)
        try:
            result = self._act(notice, caller)
        except OSError as refused:
            result = -(refused.errno or errno.EACCES)
        if result is not None:
            caller_socket.give_back(caller)
            notifications.answer(notice, result)

    def _act(self, notice: Notice, caller: Caller) -> int | None:
        """Return the call's result, negative an errno, or None: it is answered on its own."""
        call = self._name_of[notice.number]
        if call in metadata.CALLS:
            writable = self._terms[notice.listener].writable
            return -self._changer.change(call, notice, caller, writable)
        if call in _SENDS:
            return self._send(call, notice, caller)
        if self._terms[notice.listener].asked is None:
            try:
                caller.hold()
            except OSError:
                return -errno.EACCES
            if not notifications.valid(notice):
                return 0
        return self._act_on_socket(call, notice, caller)

    def _act_on_socket(self, call: str, notice: Notice, caller: Caller) -> int | None:
        terms = self._terms[notice.listener]
        socket_fd = caller.take(notifications.as_int(notice.args[0]))
        kind = caller_socket.kind(socket_fd)
        if call == "listen":
            return -caller_socket.listen(
                socket_fd, notifications.as_int(notice.args[1]), kind, terms.network
            )
        length = notifications.as_int(notice.args[2])
        if not 0 <= length <= addresses.ADDRESS_BYTES_MAX:
            return -errno.EINVAL
        raw = caller.read(notice.args[1], length)
        if call == "connect":
            return self._connect(notice, caller, socket_fd, kind, raw)
        if call == "bind":
            return -self._bind(caller, socket_fd, kind, raw, terms)
        return -errno.ENOSYS

    def _connect(
        self, notice: Notice, caller: Caller, socket_fd: int, kind: Kind, raw: bytes
    ) -> int | None:
        terms = self._terms[notice.listener]
        if self._on_leading_out is not None and addresses.leads_out(raw):
            self._on_leading_out()
        is_local = kind.domain == addresses.AF_UNIX
        if terms.asked is not None:
            # Whatever else there is in a network of their own is theirs.
            address = raw
            if is_local and addresses.is_path(raw):
                address = self._reach.in_own_network(caller, raw, terms, terms.asked)
        elif kind.datagrams and addresses.dissolves(raw):
            address = addresses.nobody()
        elif is_local:
            address = self._reach.address(caller, socket_fd, kind, raw, terms)
        else:
            address = addresses.connecting(raw, kind, terms.network)
        if not notifications.valid(notice):
            return 0
        act = Connecting(socket_fd, address, is_local=is_local)
        return self._waiting.begin(notice, caller, act)

    def _bind(self, caller: Caller, socket_fd: int, kind: Kind, raw: bytes, terms: Terms) -> int:
        if kind.domain == addresses.AF_UNIX:
            return self._reach.bind(caller, socket_fd, kind, raw, terms)
        both = kind.domain == addresses.AF_INET6 and not caller_socket.is_v6_only(socket_fd)
        address = addresses.binding(raw, kind, terms.network, both=both)
        with self._unprivileged:
            _syscalls.bind(socket_fd, address)
        return 0

    def _send(self, call: str, notice: Notice, caller: Caller) -> int | None:
        try:
            caller.hold_for_sending(told=call == "sendmmsg")
        except OSError:
            return -errno.EACCES
        if not notifications.valid(notice):
            return 0
        socket_fd = caller.take(notifications.as_int(notice.args[0]))
        kind = caller_socket.kind(socket_fd)
        message = messages.asked_for(call, notice.args, caller)
        if message is None:
            return 0
        sending.check(kind, message, socket_fd)
        is_local = kind.domain == addresses.AF_UNIX
        control = messages.handed_over(message.control, caller, is_local=is_local)
        act = sending.Sending(caller, socket_fd, kind, message, control)
        if message.name and kind.takes_addresses:
            terms = self._terms[notice.listener]
            act.address = self._reach.address(caller, socket_fd, kind, message.name, terms)
            # What it was looked up from was the caller's, if it still waits.
            if not notifications.valid(notice):
                return 0
        return self._waiting.begin(notice, caller, act)
