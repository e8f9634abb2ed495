"""Namespaces of a session: entered once, inherited by every lane and worker.

Specified by user_namespaces(7), mount_namespaces(7), pid_namespaces(7), network_namespaces(7).
An ordinary user gets them by way of a user namespace that maps nobody but themselves. Root
needs none, and keeps everybody's name on files that way.

Architecture invariant: nothing here is undone. A process that entered and failed half-way exits.
"""

from __future__ import annotations

import _socket
import _struct as struct
import fcntl
import posix as os

from nono_sandbox import _mounting, _uapi, kernel_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Ids: TypeAlias = tuple[int, int] | tuple[()]

CAP_SYS_ADMIN = 21
_EACH = _uapi.CLONE_NEWNS | _uapi.CLONE_NEWIPC | _uapi.CLONE_NEWCGROUP
PIDS_BOUND_SINCE = (6, 14)
"""The kernel from which pid_max is a PID namespace's own; before, it was the machine's."""
PIDS_MAX = 1 << 22
"""PID_MAX_LIMIT of a 64-bit Linux."""
_PIDS_RESERVED = 300
_SPARE = 512
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_LOOPBACK = "127.0.0.1"
_BACKLOG = 1024
_NETLINK_SOCK_DIAG = 4


def enter() -> None:
    """Move this process into user, mount, IPC and cgroup namespaces of its own.

    Raises:
        OSError: This machine gives no such namespaces. The process may have entered some
            of them and must exit.
    """
    ids = _to_map()
    _uapi.unshare(_EACH | (_uapi.CLONE_NEWUSER if ids else 0))
    settle_in(ids)


def fork_first(*, network: bool) -> tuple[int, Ids]:
    """Fork process 1 of a PID namespace into that and what `enter` enters; it has to `settle_in`.

    With a *network* namespace of its own too, it has to `start_loopback`.

    Returns its process id, 0 in itself, and what it is told there.

    Raises:
        OSError: This machine gives no such namespaces. Nothing was forked.
    """
    ids = _to_map()
    # All at once: each call of its own would make and drop a set of all of them.
    kinds = _uapi.CLONE_NEWPID | _EACH | (_uapi.CLONE_NEWUSER if ids else 0)
    kinds |= _uapi.CLONE_NEWNET if network else 0
    return _uapi.fork_into(kinds), ids


def settle_in(ids: Ids) -> None:
    """Make a process that has just come into such namespaces at home there.

    Raises:
        OSError: This machine gives no such namespaces. Exit.
    """
    if ids:
        uid, gid = ids
        # Without this the kernel lets nobody but a privileged parent map groups.
        kernel_file.write("/proc/self/setgroups", "deny")
        kernel_file.write("/proc/self/uid_map", f"{uid} {uid} 1")
        kernel_file.write("/proc/self/gid_map", f"{gid} {gid} 1")
    # AppArmor on some distributions lets the unshare pass and refuses this.
    _mounting.mount_private()


def _to_map() -> Ids:
    """Return the user and group to keep in a user namespace, if it takes one."""
    if _uapi.effective_capabilities() >> CAP_SYS_ADMIN & 1:
        return ()
    return os.geteuid(), os.getegid()


def new_proc() -> int:
    """Return a detached /proc of this process's PID namespace, which has to be `shut`.

    Raises:
        OSError: The machine's own /proc is partly covered, as in a container, and the kernel
            gives no complete one to such a namespace.
    """
    inert = _mounting.MOUNT_ATTR_NOSUID | _mounting.MOUNT_ATTR_NODEV | _mounting.MOUNT_ATTR_NOEXEC
    return _mounting.new_mount("proc", inert)


def shut(proc: int, processes_max: int | None) -> None:
    """Make the mount *proc* of `new_proc` read-only, once it has bound the namespace's processes.

    Read-only because root without capabilities still owns /proc/sys and /proc/sysrq-trigger.

    Raises:
        OSError: The kernel refused. Exit.
    """
    if processes_max is not None:
        _bound_pids(proc, processes_max)
    _mounting.mount_setattr(proc, _mounting.MOUNT_ATTR_RDONLY, 0)


def tasks_max(processes_max: int) -> int:
    """Return how many processes and threads the kernel lets a call have that may have so many.

    More than its lane does, which ends it and says why, and than there are beside it in its
    session.
    """
    return processes_max + _SPARE


def bounds_pids(release: str) -> bool:
    """Tell whether the kernel *release* can bound the processes of one PID namespace."""
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    version = (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)
    return version >= PIDS_BOUND_SINCE


def _bound_pids(proc: int, processes_max: int) -> None:
    """Bound the processes and threads of the PID namespace of the mount *proc*, root's too.

    On a kernel that can't, nothing is done.
    """
    if not bounds_pids(os.uname().release):
        return
    # The lowest numbers are given out once only.
    pid_max = _PIDS_RESERVED + tasks_max(processes_max)
    kernel_file.write("sys/kernel/pid_max", str(min(pid_max, PIDS_MAX)), proc)


def close_network() -> None:
    """Move this process into a network namespace that has `lo` and nothing else."""
    _uapi.unshare(_uapi.CLONE_NEWNET)
    start_loopback()


def start_loopback() -> None:
    """Have `lo` carry what is sent, as it doesn't in a new network namespace."""
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        request = struct.pack("16sH22x", b"lo", 0)
        flags = struct.unpack("16xH22x", fcntl.ioctl(sock.fileno(), _SIOCGIFFLAGS, request))[0]
        up = struct.pack("16sH22x", b"lo", flags | _IFF_UP)
        fcntl.ioctl(sock.fileno(), _SIOCSIFFLAGS, up)
    finally:
        sock.close()


def listener(port: int) -> _socket.socket:
    """Return a socket that listens on *port* of the loopback of this process's network.

    It stays in that network, whoever it's handed to (network_namespaces(7)).

    Raises:
        OSError: The port can't be had.
    """
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        sock.bind((_LOOPBACK, port))
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def asking() -> _socket.socket:
    """Return a channel on which the kernel tells of the local sockets of this process's network."""
    return _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
