"""Acting on behalf of workers that connect, bind, listen or change metadata (second tier).

No filter sees where a pointer points, and what it points to changes under whoever looks. So such
a call waits, and this side copies the address once, judges the copy, and acts on the caller's own
socket. A local socket is connected to by the descriptor of what was judged, never by its name; it
is bound by a child that is in the workers' own Landlock domain, so that the kernel judges where.

Architecture invariant: no call is ever let through; what can't be judged is refused. Nothing here
waits for long: what would block is tried again while others are served.
"""

from __future__ import annotations

import _socket
import errno
import os
import select
import stat
import time

from nono_sandbox import _stead, _uapi, addresses, borrowed, metadata, notices, own_sockets, wire
from nono_sandbox.own_sockets import OwnSockets
from nono_sandbox.seccomp.syscalls import numbers
from nono_sandbox.values import Value
from nono_sandbox.writable import Writable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from nono_sandbox.addresses import Kind
    from nono_sandbox.confinement import Network
    from nono_sandbox.notices import Caller, Notice

WAITING_MAX = 64
"""Calls that wait for a server to take them; more are told to try again."""
_TRY_S = 0.002
"""How long one attempt may block."""
_AGAIN_S = 0.01
_ERESTARTSYS = 512
"""To the kernel: start the call over, or say EINTR, as the signal's handler wants it."""
_ANSWERED_ON_ITS_OWN = 255
_THE_LINK_ITSELF = os.O_PATH | os.O_NOFOLLOW


class _Terms(Value):
    """What the workers behind one listener may do."""

    network: Network
    writable: Writable
    sockets: frozenset[tuple[int, int]]
    """Those of others that may be connected to."""
    ruleset_fd: int
    asked: _socket.socket | None
    """In a network of their own: the channel to ask for its sockets on."""


class _Waiting(Value):
    """A call that has been begun and would block."""

    notice: Notice
    caller: Caller
    socket_fd: int
    address: bytes
    give_up_at: float
    on_giving_up: int


class Answerer:
    """Whoever holds the listeners of a session's lanes."""

    def __init__(self, poll: select.poll) -> None:
        self._poll = poll
        self._own = OwnSockets()
        self._unprivileged = _stead.Unprivileged()
        self._changer = metadata.Changer(self._unprivileged)
        self._introductions: dict[int, _socket.socket] = {}
        self._terms: dict[int, _Terms] = {}
        self._waiting: list[_Waiting] = []
        self._again_at = 0.0
        self._name_of = {number: name for name, number in numbers(_uapi.MACHINE).items()}
        borrowed.be_interruptible()

    def expect(self, introduction: _socket.socket) -> None:
        """Take over a channel on which a lane will `introduce` itself."""
        self._introductions[introduction.fileno()] = introduction
        self._poll.register(introduction.fileno(), select.POLLIN)

    def timeout_ms(self) -> float | None:
        """Return how soon `attend` wants to be called though nothing has happened."""
        if not self._waiting:
            return None
        return max(0.0, self._again_at - time.monotonic()) * 1000

    def attend(self, events: Iterable[tuple[int, int]]) -> None:
        """Do what *events*, of the poll, ask for."""
        for fd, event in events:
            if fd in self._introductions:
                self._meet(fd)
            elif fd in self._terms:
                if event & select.POLLIN:
                    self._answer(fd)
                elif event & (select.POLLHUP | select.POLLERR):
                    self._leave(fd)
        if self._waiting and time.monotonic() >= self._again_at:
            self._try_again()
            self._again_at = time.monotonic() + _AGAIN_S

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
        terms = _Terms(network, Writable(writable), frozenset(sockets), ruleset, channel)
        self._terms[listener] = terms
        notices.hasten(listener)
        self._poll.register(listener, select.POLLIN)

    def _leave(self, listener: int) -> None:
        """Forget a lane that has gone with all its workers."""
        self._poll.unregister(listener)
        terms = self._terms.pop(listener)
        os.close(terms.ruleset_fd)
        if terms.asked is not None:
            terms.asked.close()
        for one in [one for one in self._waiting if one.notice.listener == listener]:
            self._waiting.remove(one)
            borrowed.give_back(one.caller)
        os.close(listener)

    def _answer(self, listener: int) -> None:
        notice = notices.receive(listener)
        if notice is None:
            return
        caller = notices.Caller(notice.tid)
        try:
            error = self._act(notice, caller)
        except OSError as refused:
            error = refused.errno or errno.EACCES
        if error != _ANSWERED_ON_ITS_OWN:
            borrowed.give_back(caller)
            notices.answer(notice, error)

    def _act(self, notice: Notice, caller: Caller) -> int:
        call = self._name_of[notice.number]
        if call in metadata.CALLS:
            writable = self._terms[notice.listener].writable
            return self._changer.change(call, notice, caller, writable)
        if self._terms[notice.listener].asked is None:
            try:
                caller.hold()
            except OSError:
                return errno.EACCES
            if not notices.valid(notice):
                return 0
        return self._act_on_socket(call, notice, caller)

    def _act_on_socket(self, call: str, notice: Notice, caller: Caller) -> int:
        terms = self._terms[notice.listener]
        socket_fd = caller.take(notices.as_int(notice.args[0]))
        kind = borrowed.kind(socket_fd)
        if call == "listen":
            return borrowed.listen(socket_fd, notices.as_int(notice.args[1]), kind, terms.network)
        length = notices.as_int(notice.args[2])
        if not 0 <= length <= addresses.ADDRESS_BYTES_MAX:
            return errno.EINVAL
        raw = caller.read(notice.args[1], length)
        if call == "connect":
            return self._connect(notice, caller, socket_fd, kind, raw)
        if call == "bind":
            return self._bind(caller, socket_fd, kind, raw, terms)
        return errno.ENOSYS

    def _connect(
        self, notice: Notice, caller: Caller, socket_fd: int, kind: Kind, raw: bytes
    ) -> int:
        terms = self._terms[notice.listener]
        if terms.asked is not None:
            local = kind.domain == addresses.AF_UNIX and addresses.is_path(raw)
            # Whatever else there is in a network of their own is theirs.
            address = self._in_own_network(caller, raw, terms, terms.asked) if local else raw
        elif kind.domain == addresses.AF_UNIX:
            address = self._judged(caller, kind, raw, terms)
        else:
            address = addresses.connecting(raw, kind, terms.network)
        if not notices.valid(notice):
            return 0
        try:
            with self._unprivileged:
                return borrowed.connect_for(_TRY_S, socket_fd, address)
        except InterruptedError:
            if len(self._waiting) >= WAITING_MAX:
                return errno.EAGAIN
        given_up = errno.EAGAIN if kind.domain == addresses.AF_UNIX else errno.EINPROGRESS
        give_up_at = time.monotonic() + borrowed.patience_s(socket_fd)
        one = _Waiting(notice, caller, socket_fd, address, give_up_at, given_up)
        self._waiting.append(one)
        return _ANSWERED_ON_ITS_OWN

    def _in_own_network(
        self, caller: Caller, raw: bytes, terms: _Terms, asked: _socket.socket
    ) -> bytes:
        """Return the address of a descriptor of the local socket that *raw* leads to (first tier).

        It's looked up in the caller's root: in the one here, /proc is the machine's.
        """
        path = addresses.path_of(raw)
        if not path.startswith(b"/"):
            path = caller.where + b"/" + path
        root = caller.root
        with self._unprivileged:
            target = caller.keep(_stead.open_in_root(root, path, os.O_PATH))
        mounts = f"/proc/{caller.tid}/mountinfo"
        if not _is_given(target, terms) and not own_sockets.are_all(asked, target, mounts):
            raise OSError(errno.EACCES, "a socket of others")
        return addresses.to_path(b"/proc/self/fd/%d" % target)

    def _judged(self, caller: Caller, kind: Kind, raw: bytes, terms: _Terms) -> bytes:
        """Return the address of a descriptor of the local socket that *raw* leads to."""
        path = addresses.path_of(raw)
        if not kind.local:
            raise OSError(errno.EACCES, "it could be sent to any path")
        directory = caller.cwd
        with self._unprivileged:
            target = caller.keep(_stead.open_plainly(directory, path, os.O_PATH))
        if not _is_given(target, terms) and not self._own.knows(target):
            raise OSError(errno.EACCES, "a socket of others")
        return addresses.to_path(b"/proc/self/fd/%d" % target)

    def _bind(self, caller: Caller, socket_fd: int, kind: Kind, raw: bytes, terms: _Terms) -> int:
        if kind.domain != addresses.AF_UNIX:
            both = kind.domain == addresses.AF_INET6 and not borrowed.is_v6_only(socket_fd)
            address = addresses.binding(raw, kind, terms.network, both=both)
            with self._unprivileged:
                _stead.bind(socket_fd, address)
            return 0
        path = addresses.path_of(raw)
        if not kind.local:
            return errno.EACCES
        error = borrowed.bind_in_child(caller, socket_fd, raw, terms.ruleset_fd)
        if not error:
            try:
                with self._unprivileged:
                    bound = _stead.open_plainly(caller.cwd, path, _THE_LINK_ITSELF)
                self._own.add(socket_fd, bound)
            except OSError:
                return 0  # moved away already: it is bound, and nobody here will connect to it
        return error

    def _try_again(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not notices.valid(one.notice):
                borrowed.give_back(one.caller)
                continue
            with self._unprivileged:
                error = _tried(one)
            if error is None:
                self._waiting.append(one)
                continue
            borrowed.give_back(one.caller)
            notices.answer(one.notice, error)


def _is_given(target: int, terms: _Terms) -> bool:
    status = os.fstat(target)
    if not stat.S_ISSOCK(status.st_mode):
        raise OSError(errno.ECONNREFUSED, "no socket")
    return (status.st_dev, status.st_ino) in terms.sockets


def _tried(one: _Waiting) -> int | None:
    """Try again, and return the errno to answer with, or None while it still blocks."""
    try:
        return borrowed.connect_for(_TRY_S / 4, one.socket_fd, one.address)
    except InterruptedError:
        pass
    if time.monotonic() >= one.give_up_at:
        return one.on_giving_up
    if one.caller.interrupted():
        return _ERESTARTSYS if one.give_up_at == float("inf") else errno.EINTR
    return None
