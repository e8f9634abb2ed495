"""What is asked of a caller's own socket, which it shares with us while it waits, and done to it.

Architecture invariant: nothing that changes how its owner finds it, but for what was asked.
"""

from __future__ import annotations

import _socket
import errno
import os

from nono_sandbox import _uapi
from nono_sandbox.behalf import _syscalls
from nono_sandbox.behalf.addresses import Kind
from nono_sandbox.confinement import CLOSED

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal

    from nono_sandbox.behalf.notifications import Caller
    from nono_sandbox.confinement import Network
else:
    import _signal  # `signal` imports enum, which costs a bare start of Python

SOL_SOCKET = _socket.SOL_SOCKET
_SO_PASSCRED, _SO_PASSPIDFD = 16, 76
_SO_DOMAIN, _SO_PROTOCOL = 39, 38
_IPPROTO_IPV6, _IPV6_V6ONLY = 41, 26
_TIMEVAL_BYTES = 16
_CLOSE_S = 0.002


def option(socket_fd: int, level: int, name: int) -> int:
    """Return an option that is a number.

    Raises:
        OSError: It isn't a socket, or one that has no such option.
    """
    borrowed = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fileno=socket_fd)
    try:
        return borrowed.getsockopt(level, name)
    finally:
        borrowed.detach()


def kind(socket_fd: int) -> Kind:
    """Return what the socket is.

    Raises:
        OSError: It isn't one.
    """
    names = (_SO_DOMAIN, _socket.SO_TYPE, _SO_PROTOCOL)
    return Kind(*(option(socket_fd, _socket.SOL_SOCKET, name) for name in names))


def has_name(socket_fd: int) -> bool:
    """Tell whether a local socket is bound."""
    borrowed = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fileno=socket_fd)
    try:
        return bool(borrowed.getsockname())
    finally:
        borrowed.detach()


def has_peer(socket_fd: int) -> bool:
    """Tell whether a socket is connected."""
    borrowed = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fileno=socket_fd)
    try:
        borrowed.getpeername()
    except OSError:
        return False
    finally:
        borrowed.detach()
    return True


def wants_ids(socket_fd: int) -> bool:
    """Tell whether a local socket asks who sends: the kernel gives one a name as it connects."""
    if option(socket_fd, SOL_SOCKET, _SO_PASSCRED):
        return True
    try:
        return bool(option(socket_fd, SOL_SOCKET, _SO_PASSPIDFD))
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
        return False  # before Linux 6.5


def is_v6_only(socket_fd: int) -> bool:
    """Tell whether a socket of IPv6 serves nothing else."""
    return bool(option(socket_fd, _IPPROTO_IPV6, _IPV6_V6ONLY))


def bind_in_child(caller: Caller, socket_fd: int, raw: bytes, ruleset_fd: int) -> int:
    """Bind as the caller would: in its domain and directory, with its umask and no privilege."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    error = errno.EACCES
    try:
        os.fchdir(caller.cwd)
        os.umask(caller.umask)
        _uapi.prctl(_uapi.PR_SET_NO_NEW_PRIVS, 1)
        _uapi.landlock_restrict_self(ruleset_fd)
        _uapi.drop_capabilities()
        _syscalls.bind(socket_fd, raw)
        error = 0
    except OSError as refused:
        error = refused.errno or errno.EACCES
    finally:
        os._exit(error)


def listen(socket_fd: int, backlog: int, kind: Kind, network: Network) -> int:
    """Have the socket take connections, if it may, and return 0 or why not."""
    if not kind.local:
        if network.mode == CLOSED or not kind.tcp:
            return errno.EACCES
        borrowed = _socket.socket(kind.domain, kind.type, 0, fileno=socket_fd)
        port = borrowed.getsockname()[1]
        borrowed.detach()
        if port not in network.bind_ports:
            return errno.EACCES  # unbound, it would take a port of its own
    _syscalls.listen(socket_fd, backlog)
    return 0


def be_interruptible() -> None:
    """Have an alarm interrupt a system call of this process: that is all it is for."""
    _signal.signal(_signal.SIGALRM, lambda *_: None)


def give_back(caller: Caller) -> None:
    """Close what was taken of *caller*, in no time.

    If it has closed a socket meanwhile, closing ours ends that, and a socket may linger
    (socket(7), SO_LINGER) for as long as its owner has said.
    """
    if not caller.has_lent:
        caller.close()
        return
    _signal.setitimer(_signal.ITIMER_REAL, _CLOSE_S, _CLOSE_S)
    try:
        caller.close()
    finally:
        _signal.setitimer(_signal.ITIMER_REAL, 0)


def connect_for(time_s: float, socket_fd: int, address: bytes) -> int:
    """Connect and return the errno, or 0.

    Raises:
        InterruptedError: It blocks. What was begun goes on; try again.
    """
    # Again and again: the first alarm may come before the call that it is to end.
    _signal.setitimer(_signal.ITIMER_REAL, time_s, time_s)
    try:
        _syscalls.connect(socket_fd, address)
    except InterruptedError:
        raise
    except OSError as error:
        return error.errno or errno.EACCES
    finally:
        _signal.setitimer(_signal.ITIMER_REAL, 0)
    return 0


def patience_s(socket_fd: int) -> float:
    """Return the socket's timeout for sending, which is the one for connecting too."""
    borrowed = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fileno=socket_fd)
    try:
        told = borrowed.getsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, _TIMEVAL_BYTES)
    finally:
        borrowed.detach()
    seconds = int.from_bytes(told[:8], "little") + int.from_bytes(told[8:], "little") / 1e6
    return seconds or float("inf")
