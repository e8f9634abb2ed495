"""Ports of the machine's loopback in a session's own network, and of that on the machine's.

In the first tier a session has a network of its own, so a port that is granted is carried: one
process that stayed outside takes connections on either side and makes those on the other. A
connection is carried by a process of its own, which holds no privilege.

A port that is granted to connect to is served inside, whether or not anybody serves it outside: if
nobody does, the connection is taken and reset. One that is granted to listen on is served outside
on loopback alone, from the moment that no other program has it.

Architecture invariant: bytes are carried and never looked at, and no address but loopback's is
bound or connected to.
"""

from __future__ import annotations

import _socket
import errno
import os
import select
import struct

from nono_sandbox import _uapi, wire
from nono_sandbox.errors import ConfinementError
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Never

    from nono_sandbox.confinement import Network

CONNECTIONS_MAX = 128
"""Connections that are carried at once; more wait to be taken."""
_BUFFER_BYTES = 64 * 1024
_BACKLOG = 128
_AGAIN_MS = 500
"""How often a port that others have is tried again, and a connection while too many are open."""
_FINISH_MS = 2000
"""How long what was sent by programs that have ended is carried on."""
_IPPROTO_IPV6, _IPV6_V6ONLY = 41, 26
_LOOPBACKS = ((_socket.AF_INET, "127.0.0.1"), (_socket.AF_INET6, "::1"))
_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class _Way(Value):
    """Where connections to a listening socket are carried to."""

    listener: _socket.socket
    port: int
    inward: bool


def start() -> _socket.socket:
    """Fork whoever will carry, in this process's network; return the channel to `hand_over` on.

    It ends when that channel is closed, and what had been sent by then is carried.
    """
    ours, theirs = wire.socket_pair()
    if os.fork():
        theirs.close()
        return ours
    wire.let_go_of_stdio()
    wire.keep_only(theirs.fileno())
    _uapi.prctl(_uapi.PR_SET_DUMPABLE, 0)
    carry(theirs)
    os._exit(0)


def hand_over(channel: _socket.socket, network: Network) -> None:
    """From inside the session's own network: say what is to be carried, and wait until it is.

    The channel is kept open for as long as this process lives.

    Raises:
        ConfinementError: A port can't be served. Exit.
        OSError: The kernel refused. Exit.
    """
    for port in network.connect_ports:
        # A server inside takes precedence where one is granted: it can't have two meanings.
        if port not in network.bind_ports:
            for listener in _listeners(port):
                wire.send(channel, "inside", port, fds=[listener.fileno()])
                listener.close()
    inside = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    wire.send(channel, "outside", network.bind_ports, fds=[inside])
    os.close(inside)
    message, _ = wire.receive(channel)
    channel.detach()
    if message[0] == "failed":
        raise ConfinementError(message[1])


def _listeners(port: int) -> list[_socket.socket]:
    """Return sockets that listen on *port* of this process's loopback."""
    found = []
    for family, address in _LOOPBACKS:
        try:
            sock = _socket.socket(family, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK)
            if family == _socket.AF_INET6:
                sock.setsockopt(_IPPROTO_IPV6, _IPV6_V6ONLY, 1)
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
            sock.listen(_BACKLOG)
        except OSError as error:
            if error.errno not in _NO_SUCH_FAMILY:
                raise
        else:
            found.append(sock)
    return found


def carry(channel: _socket.socket) -> None:
    """Carry what `hand_over` says, until the channel is closed."""
    carrier = _Carrier()
    while True:
        events = carrier.wait(channel)
        if channel.fileno() in events:
            try:
                carrier.heed(channel, *wire.receive(channel))
            except wire.ClosedError:
                carrier.finish()
                return
        carrier.take(events)


class _Carrier:
    """What is carried, by whom."""

    def __init__(self) -> None:
        self._ways: dict[int, _Way] = {}
        self._unserved: set[int] = set()
        self._inside = -1
        self._children: set[int] = set()
        self._gone, self._held = os.pipe2(os.O_CLOEXEC)
        """The end of one tells that all are gone who have the other: those that carry."""

    def wait(self, channel: _socket.socket) -> set[int]:
        """Return the descriptors that something has happened on."""
        full = len(self._children) >= CONNECTIONS_MAX
        poll = select.poll()
        for fd in (channel.fileno(), *(() if full else self._ways)):
            poll.register(fd, select.POLLIN)
        found = poll.poll(_AGAIN_MS if full or self._unserved else None)
        self._children -= {pid for pid in self._children if os.waitpid(pid, os.WNOHANG)[0]}
        return {fd for fd, _ in found}

    def heed(self, channel: _socket.socket, message: tuple[object, ...], fds: list[int]) -> None:
        """Do as a message says."""
        if message[0] == "inside":
            self._add(_socket.socket(fileno=fds[0]), int(str(message[1])), inward=False)
            return
        (self._inside,) = fds
        self._unserved.update(message[1])  # type: ignore[arg-type]  # ports, as hand_over sent them
        try:
            self._serve()
        except OSError as error:
            wire.send(channel, "failed", f"can't serve a port of the machine's: {error}")
            return
        wire.send(channel, "carried")

    def take(self, events: set[int]) -> None:
        """Take the connections that wait, and have each carried."""
        for fd in events & set(self._ways):
            way = self._ways[fd]
            try:
                accepted, _ = way.listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - C's accept
            except OSError:
                continue  # whoever it was has gone again
            pid = os.fork()
            if pid == 0:
                _carry_one(accepted, way, self._inside, self._held)
            self._children.add(pid)
            os.close(accepted)
        if self._unserved:
            self._serve()

    def finish(self) -> None:
        """Carry what was said by those that have ended, as a kernel sends it: for a while."""
        self._unserved.clear()
        outward = [fd for fd, way in self._ways.items() if not way.inward]
        while len(self._children) < CONNECTIONS_MAX:
            waiting = _readable(outward, 0)
            if not waiting:
                break
            self.take(waiting)
        for way in self._ways.values():
            way.listener.close()
        os.close(self._held)
        _readable([self._gone], _FINISH_MS)

    def _serve(self) -> None:
        """Listen on the machine's loopback for what isn't listened for yet."""
        for port in sorted(self._unserved):
            try:
                listeners = _listeners(port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            for listener in listeners:
                self._add(listener, port, inward=True)
            self._unserved.discard(port)

    def _add(self, listener: _socket.socket, port: int, *, inward: bool) -> None:
        self._ways[listener.fileno()] = _Way(listener, port, inward)


def _readable(fds: list[int], timeout_ms: int) -> set[int]:
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll(timeout_ms)}


def _carry_one(accepted: int, way: _Way, inside: int, held: int) -> Never:
    _uapi.prctl(_uapi.PR_SET_PDEATHSIG, _uapi.SIGKILL)
    try:
        wire.keep_only(accepted, inside, held)
        one = _socket.socket(fileno=accepted)
        if way.inward:
            _uapi.setns(inside, _uapi.CLONE_NEWNET)
        _uapi.prctl(_uapi.PR_SET_NO_NEW_PRIVS, 1)
        _uapi.drop_capabilities()
        other = _connected(way.port)
        if other is None:
            # Closed at once and with nothing more to say, it is reset.
            one.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            _exchange(one, other)
    except OSError:
        pass  # a connection that broke is closed on either side
    finally:
        os._exit(0)


def _connected(port: int) -> _socket.socket | None:
    for family, address in _LOOPBACKS:
        try:
            sock = _socket.socket(family, _socket.SOCK_STREAM)
            sock.connect((address, port))
        except OSError:
            continue
        return sock
    return None


def _exchange(one: _socket.socket, other: _socket.socket) -> None:
    """Carry bytes both ways until both have said all."""
    streams = [_Stream(one, other), _Stream(other, one)]
    for sock in (one, other):
        sock.setblocking(False)  # noqa: FBT003 - positional only
    while streams:
        wanted: dict[int, int] = {}
        for stream in streams:
            fd, event = stream.waits_for()
            wanted[fd] = wanted.get(fd, 0) | event
        poll = select.poll()
        for fd, event in wanted.items():
            poll.register(fd, event)
        poll.poll()
        streams = [stream for stream in streams if stream.go_on()]


class _Stream:
    """One direction of a connection."""

    def __init__(self, source: _socket.socket, sink: _socket.socket) -> None:
        self._source = source
        self._sink = sink
        self._held = b""

    def waits_for(self) -> tuple[int, int]:
        """Return a descriptor and the event on it that `go_on` can do something about."""
        if self._held:
            return self._sink.fileno(), select.POLLOUT
        return self._source.fileno(), select.POLLIN

    def go_on(self) -> bool:
        """Carry what can be carried now; tell whether there may be more."""
        try:
            if not self._held:
                self._held = self._source.recv(_BUFFER_BYTES)
                if not self._held:
                    self._sink.shutdown(_socket.SHUT_WR)
                    return False
            self._held = self._held[self._sink.send(self._held) :]
        except BlockingIOError:
            pass  # not now
        return True
