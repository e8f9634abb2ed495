"""Which local socket an address leads to, and whether a session's workers may have it.

A path is looked up once, and what was found is judged and used by its descriptor. A name that
isn't a path (unix(7), abstract) is anybody's on the machine, whoever takes it first: so a session's
names are its own, by a beginning that no other program's have. Whoever binds, connects or sends to
a name does so to the session's of that name, and to no other.

Architecture invariant: no address of a worker's is used as it is.
"""

from __future__ import annotations

import errno
import os
import stat

from nono_sandbox.behalf import _syscalls, addresses, caller_socket, own_sockets
from nono_sandbox.behalf.own_sockets import OwnSockets
from nono_sandbox.confinement import OPEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from nono_sandbox.behalf._syscalls import Unprivileged
    from nono_sandbox.behalf.addresses import Kind
    from nono_sandbox.behalf.answerer import Terms
    from nono_sandbox.behalf.notifications import Caller

_THE_LINK_ITSELF = os.O_PATH | os.O_NOFOLLOW
_BEGINNING_BYTES = 8
_AUTOBIND_BYTES = 4
_AUTOBIND_TRIES_MAX = 16


class Reach:
    """The local sockets of one session."""

    def __init__(self, unprivileged: Unprivileged) -> None:
        self._own = OwnSockets()
        self._unprivileged = unprivileged
        self._beginning = b"\0nono-%s/" % os.urandom(_BEGINNING_BYTES).hex().encode()

    def address(
        self, caller: Caller, socket_fd: int, kind: Kind, raw: bytes, terms: Terms
    ) -> bytes:
        """Return the address of the local socket that *raw* leads to, which workers may have.

        Raises:
            OSError: They may not, or there is none.
        """
        if not _may_speak(kind, terms):
            raise OSError(errno.EACCES, "what it sends isn't judged")
        self._name_if_asked(socket_fd)
        if addresses.is_name(raw):
            return addresses.named(raw, self._beginning)
        path = addresses.path_of(raw)
        directory = caller.cwd
        with self._unprivileged:
            target = caller.keep(_syscalls.open_plainly(directory, path, os.O_PATH))
        if not _is_given(target, terms) and not self._own.knows(target):
            raise OSError(errno.EACCES, "a socket of others")
        return addresses.to_path(b"/proc/self/fd/%d" % target)

    def in_own_network(
        self, caller: Caller, raw: bytes, terms: Terms, asked: _socket.socket
    ) -> bytes:
        """Return the address of a descriptor of the local socket at the path *raw* (first tier).

        It's looked up in the caller's root: in the one here, /proc is the machine's.

        Raises:
            OSError: It isn't one of that network, or there is none.
        """
        path = addresses.path_of(raw)
        if not path.startswith(b"/"):
            path = caller.where + b"/" + path
        root = caller.root
        with self._unprivileged:
            target = caller.keep(_syscalls.open_in_root(root, path, os.O_PATH))
        mounts = f"/proc/{caller.tid}/mountinfo"
        if not _is_given(target, terms) and not own_sockets.are_all(asked, target, mounts):
            raise OSError(errno.EACCES, "a socket of others")
        return addresses.to_path(b"/proc/self/fd/%d" % target)

    def bind(self, caller: Caller, socket_fd: int, kind: Kind, raw: bytes, terms: Terms) -> int:
        """Bind a local socket, and return 0 or why not."""
        if not _may_speak(kind, terms):
            return errno.EACCES
        if addresses.asks_for_name(raw):
            return self._autobind(socket_fd)
        if addresses.is_name(raw):
            with self._unprivileged:
                _syscalls.bind(socket_fd, addresses.named(raw, self._beginning))
            return 0
        path = addresses.path_of(raw)
        error = caller_socket.bind_in_child(caller, socket_fd, raw, terms.ruleset_fd)
        if not error:
            try:
                with self._unprivileged:
                    bound = _syscalls.open_plainly(caller.cwd, path, _THE_LINK_ITSELF)
                self._own.add(socket_fd, bound)
            except OSError:
                return 0  # moved away already: it is bound, and nobody here will connect to it
        return error

    def _name_if_asked(self, socket_fd: int) -> None:
        """Name a socket that the kernel would name itself, so that it can be answered."""
        if caller_socket.wants_ids(socket_fd) and not caller_socket.has_name(socket_fd):
            self._autobind(socket_fd)

    def _autobind(self, socket_fd: int) -> int:
        if caller_socket.has_name(socket_fd):
            return 0
        for _ in range(_AUTOBIND_TRIES_MAX):
            name = self._beginning + os.urandom(_AUTOBIND_BYTES).hex().encode()
            try:
                with self._unprivileged:
                    _syscalls.bind(socket_fd, addresses.to_name(name))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return 0
        return errno.ENOSPC


def _may_speak(kind: Kind, terms: Terms) -> bool:
    """Tell whether all that a socket of *kind* sends to is judged: see `seccomp.sockets`."""
    return kind.local or (kind.datagrams and terms.network.mode != OPEN)


def _is_given(target: int, terms: Terms) -> bool:
    status = os.fstat(target)
    if not stat.S_ISSOCK(status.st_mode):
        raise OSError(errno.ECONNREFUSED, "no socket")
    return (status.st_dev, status.st_ino) in terms.sockets
