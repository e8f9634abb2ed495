"""System calls the standard library has no names for; a wrapper adds errno as OSError, no more.

Names, values and layouts are those of the kernel's headers (include/uapi). Numbers that are
the same on every architecture stand alone; the others are looked up by machine.

Architecture invariant: no policy and no state. Meaning belongs in the modules that call.
"""

from __future__ import annotations

import _struct as struct
import posix as os
import sys

from nono_sandbox import _foreign

MACHINE = os.uname().machine
_NUMBERS = {
    "x86_64": {
        "clone": 56,
        "pivot_root": 155,
        "seccomp": 317,
        "capget": 125,
        "capset": 126,
        "keyctl": 250,
        "renameat2": 316,
        "sendmsg": 46,
    },
    "aarch64": {
        "clone": 220,
        "pivot_root": 41,
        "seccomp": 277,
        "capget": 90,
        "capset": 91,
        "keyctl": 219,
        "renameat2": 276,
        "sendmsg": 211,
    },
}
SYS_CLOSE_RANGE = 436
SYS_OPENAT2 = 437
SYS_LANDLOCK_CREATE_RULESET = 444
SYS_LANDLOCK_ADD_RULE = 445
SYS_LANDLOCK_RESTRICT_SELF = 446

CLOSE_RANGE_CLOEXEC = 1 << 2

LANDLOCK_CREATE_RULESET_VERSION = 1 << 0
LANDLOCK_CREATE_RULESET_ERRATA = 1 << 1
LANDLOCK_RULE_PATH_BENEATH = 1
LANDLOCK_RULE_NET_PORT = 2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
SECBITS_NOROOT_AND_LOCKED = 0x2F

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 1 << 5
KEYCTL_JOIN_SESSION_KEYRING = 1

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

IPC_RMID = 0
SHM_INFO = 14
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

RLIMIT_CPU = 0
RLIMIT_FSIZE = 1
RLIMIT_DATA = 2
RLIMIT_CORE = 4
RLIMIT_NPROC = 6
RLIMIT_NOFILE = 7

SIGKILL = 9
SIGCHLD = 17
SIG_BLOCK = 0
SIG_SETMASK = 2
SFD_CLOEXEC = 0o2000000
SFD_NONBLOCK = 0o4000
SIGNALS_MAX = 64
SIGNAL_SET_BYTES = 128

_LIMITS = struct.Struct("=QQ")
_ECHILD = 10
_STATUS = struct.Struct("=i")
_USAGE = struct.Struct("=18q")
_SHM_INFO = struct.Struct("@i5L")
"""`struct shm_info` of bits/shm.h, whose first member is how many segments there are."""
CAPABILITIES = struct.Struct("=6I")
THIS_THREAD = struct.pack("=Ii", 0x20080522, 0)
"""Of _LINUX_CAPABILITY_VERSION_3."""

LIBC = _foreign.Library()
_raw = LIBC.returning_long("syscall")
_signal = LIBC.returning_long("signal")
_prctl = LIBC.returning_int("prctl")
_NONE = _foreign.ULong(0)
_NAMES = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()


def encoded(name: str) -> bytes:
    """Return *name* as `os.fsencode` does."""
    return name.encode(*_NAMES)


def checked(result: int, call: str) -> int:
    """Return the *result* of a C function, unless it tells of an error: that is raised."""
    if result < 0:
        code = _foreign.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}")
    return result


def syscall(call: str, number: int, *arguments: object) -> int:
    """Make the system call *number*, which an error names *call*."""
    return checked(_raw(_foreign.Long(number), *arguments), call)


def number_of(call: str) -> int:
    """Return the number of a system call that has another one on each architecture."""
    return _NUMBERS[MACHINE][call]


def landlock_create_ruleset(attr: bytes | None, flags: int) -> int:
    """Return a ruleset's file descriptor, or what *flags* asks for instead."""
    size = _foreign.ULong(len(attr) if attr else 0)
    return syscall("landlock_create_ruleset", SYS_LANDLOCK_CREATE_RULESET, attr, size, flags)


def landlock_add_path_rule(ruleset_fd: int, allowed_access: int, parent_fd: int) -> None:
    """Add a rule of type LANDLOCK_RULE_PATH_BENEATH; its struct is packed."""
    attr = struct.pack("=Qi", allowed_access, parent_fd)
    kind = LANDLOCK_RULE_PATH_BENEATH
    syscall("landlock_add_rule", SYS_LANDLOCK_ADD_RULE, ruleset_fd, kind, attr, 0)


def landlock_add_port_rule(ruleset_fd: int, allowed_access: int, port: int) -> None:
    """Add a rule of type LANDLOCK_RULE_NET_PORT; the port is in host order."""
    attr = struct.pack("=QQ", allowed_access, port)
    kind = LANDLOCK_RULE_NET_PORT
    syscall("landlock_add_rule", SYS_LANDLOCK_ADD_RULE, ruleset_fd, kind, attr, 0)


def landlock_restrict_self(ruleset_fd: int) -> None:
    """Enforce a ruleset on the calling thread, for good."""
    syscall("landlock_restrict_self", SYS_LANDLOCK_RESTRICT_SELF, ruleset_fd, 0)


def prctl(option: int, first: int = 0, second: int = 0) -> int:
    """Call `prctl`, its unused arguments zero, as newer options demand."""
    arguments = _foreign.ULong(first), _foreign.ULong(second), _NONE, _NONE
    return checked(_prctl(option, *arguments), "prctl")


def seccomp_filter(program: bytes, flags: int = 0) -> int:
    """Install a classic BPF program, given as an array of struct sock_filter.

    Returns its listener, if *flags* ask for one.
    """
    body = (_foreign.Char * len(program)).from_buffer_copy(program)
    fprog = struct.pack("@HP", len(program) // 8, _foreign.addressof(body))
    return syscall("seccomp", number_of("seccomp"), SECCOMP_SET_MODE_FILTER, flags, fprog)


def effective_capabilities() -> int:
    """Return the effective capability set of the calling thread."""
    sets = (_foreign.Char * CAPABILITIES.size)()
    syscall("capget", number_of("capget"), THIS_THREAD, sets)
    lower, _, _, upper, _, _ = CAPABILITIES.unpack(sets)
    return int(upper << 32 | lower)


def drop_capabilities() -> None:
    """Empty the effective, permitted and inheritable sets of the calling thread."""
    set_capabilities(bytes(CAPABILITIES.size))


def set_capabilities(sets: bytes) -> None:
    """Set the capability sets of the calling thread."""
    syscall("capset", number_of("capset"), THIS_THREAD, sets)


def join_new_session_keyring() -> None:
    """Leave the session keyring that was inherited, with the keys in it."""
    syscall("keyctl", number_of("keyctl"), KEYCTL_JOIN_SESSION_KEYRING, None)


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    """Close every descriptor from *first* to *last*, both included, or do as *flags* say."""
    syscall("close_range", SYS_CLOSE_RANGE, _foreign.UInt(first), _foreign.UInt(last), flags)


def unshare(flags: int) -> None:
    """Move the caller (or, for CLONE_NEWPID, its next children) into new namespaces."""
    checked(LIBC.call("unshare", flags), "unshare")


def fork_into(flags: int) -> int:
    """Fork a child into new namespaces, as fork(2) with the CLONE_NEW* of *flags*.

    `unshare` moves the children of its caller alone into a PID namespace, and so costs a fork more.
    Of what Python does around a fork nothing is done: the calling process has one thread.
    """
    flags_and_signal = _foreign.ULong(flags | SIGCHLD)
    return syscall("clone", number_of("clone"), flags_and_signal, _NONE, _NONE, _NONE, _NONE)


def processor() -> int:
    """Return the number of the processor that the calling thread runs on."""
    return checked(LIBC.call("sched_getcpu"), "sched_getcpu")


def setns(fd: int, kind: int) -> None:
    """Move the calling thread into the namespace *fd* refers to, which is of *kind*."""
    checked(LIBC.call("setns", fd, kind), "setns")


def remove_segment(number: int) -> None:
    """Remove a System V shared memory segment; it goes when nobody is attached any more."""
    LIBC.call("shmctl", number, IPC_RMID, None)


def may_have_segments() -> bool:
    """Tell whether there may be System V shared memory segments in this IPC namespace."""
    info = (_foreign.Char * _SHM_INFO.size)()
    # EPERM, ENOSYS: who doesn't say so may have some.
    return LIBC.call("shmctl", 0, SHM_INFO, info) < 0 or _SHM_INFO.unpack(info)[0] > 0


def open_beneath(directory_fd: int, path: str, flags: int) -> int:
    """Open *path*, relative, without leaving *directory_fd* or following any symlink."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    size = _foreign.ULong(len(how))
    return syscall("openat2", SYS_OPENAT2, directory_fd, encoded(path), how, size)


def rename_in(directory_fd: int, old: str, new: str, flags: int) -> None:
    """Rename *old* to *new* within one directory, as RENAME_NOREPLACE or RENAME_EXCHANGE says."""
    names = encoded(old), encoded(new)
    arguments = (directory_fd, names[0], directory_fd, names[1], _foreign.UInt(flags))
    syscall("renameat2", number_of("renameat2"), *arguments)


def wait4(options: int) -> tuple[int, int, tuple[float, float], int] | None:
    """Collect a child that has ended, or as *options* say, without waiting (WNOHANG is among them).

    Returns its number or 0, its status, the time it took as a user and in the system, in seconds,
    and its most memory in KiB; or None: there is no child, and to raise that costs more than to
    ask. `os.wait4` would import `resource` for these.
    """
    status, usage = (_foreign.Char * _STATUS.size)(), (_foreign.Char * _USAGE.size)()
    pid = LIBC.call("wait4", -1, status, options, usage)
    if pid < 0 and _foreign.get_errno() == _ECHILD:
        return None
    checked(pid, "wait4")
    user_s, user_us, system_s, system_us, memory_kib, *_ = _USAGE.unpack(usage)
    cpu_s = user_s + user_us / 1e6, system_s + system_us / 1e6
    return pid, _STATUS.unpack(status)[0], cpu_s, memory_kib


def hard_limit(which: int) -> int:
    """Return the bound up to which this process may raise a limit (RLIMIT_*)."""
    limits = (_foreign.Char * _LIMITS.size)()
    checked(LIBC.call("prlimit", 0, which, None, limits), "prlimit")
    return int(_LIMITS.unpack(limits)[1])


def set_limit(which: int, soft: int, hard: int) -> None:
    """Set a limit of this process (RLIMIT_*), and the bound up to which it may raise it."""
    checked(LIBC.call("prlimit", 0, which, _LIMITS.pack(soft, hard), None), "prlimit")


def inotify() -> int:
    """Return a new inotify instance, which doesn't wait where there is nothing to read."""
    flags = os.O_CLOEXEC | os.O_NONBLOCK
    return checked(LIBC.call("inotify_init1", flags), "inotify_init1")


def inotify_add_watch(instance: int, path: str, mask: int) -> None:
    """Have *instance* told of what *mask* says of the object at *path*."""
    arguments = instance, encoded(path), _foreign.UInt(mask)
    checked(LIBC.call("inotify_add_watch", *arguments), "inotify_add_watch")


def _signal_set(*numbers: int) -> bytes:
    mask = sum(1 << (number - 1) for number in numbers)
    return mask.to_bytes(SIGNAL_SET_BYTES, "little")


def signalfd(*numbers: int) -> int:
    """Block the signals and return a descriptor that reads them."""
    mask = _signal_set(*numbers)
    checked(LIBC.call("sigprocmask", SIG_BLOCK, mask, None), "sigprocmask")
    return checked(LIBC.call("signalfd", -1, mask, SFD_CLOEXEC | SFD_NONBLOCK), "signalfd")


def reset_signals() -> None:
    """Give every signal its default action and block none, as a new program expects."""
    for number in range(1, SIGNALS_MAX + 1):
        _signal(number, None)  # EINVAL for SIGKILL, SIGSTOP and libc's own two
    checked(LIBC.call("sigprocmask", SIG_SETMASK, _signal_set(), None), "sigprocmask")


def ignore_signals(*numbers: int) -> None:
    """Ignore the signals, until `reset_signals`."""
    for number in numbers:
        _signal(number, _foreign.Pointer(1))
