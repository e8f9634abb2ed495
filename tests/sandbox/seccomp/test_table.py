"""What the compiled filter says of calls, against a list written by hand.

Every refusal stands beside a neighbour that differs as little as possible and passes.
"""

import errno
from dataclasses import dataclass

import pytest

from nono_sandbox.confinement import OPEN, PORTS
from nono_sandbox.seccomp import ALLOW, Condition, Options, Row, base_filter, closed_network_filter
from nono_sandbox.seccomp import rows as rows_of
from nono_sandbox.seccomp.bpf import (
    SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO,
    SECCOMP_RET_USER_NOTIF,
)
from nono_sandbox.seccomp.rules import NOTIFY
from nono_sandbox.seccomp.simulate import simulate
from nono_sandbox.seccomp.syscalls import AARCH64, AUDIT_ARCH, X86_64, numbers

ARCHES = [X86_64, AARCH64]
GARBAGE = 0xDEAD_BEEF_DEAD_BEEF
UPPER_HALF = 0xDEAD_BEEF << 32

ALONE = Options()
ON_PORTS = Options(network=PORTS)
BINDING = Options(network=PORTS, binds=True)
ONLINE = Options(network=OPEN)
LOCAL = Options(unix_sockets=True)
JUDGED = Options(on_behalf=True)
JUDGED_ON_PORTS = Options(network=PORTS, on_behalf=True)
JUDGED_ONLINE = Options(network=OPEN, on_behalf=True)
WORD = 0x0123_4567_89AB_CDEF, 0xFEDC_BA98_7654_3210
VOUCHED = JUDGED.replace(word=WORD)
TRACING = Options(ptrace=True)
OWN = Options(own_network=True, own_ipc=True, own_pids=True)
OWN_JUDGED = OWN.replace(on_behalf=True)
ALL_OPTIONS = [ALONE, ON_PORTS, BINDING, ONLINE, LOCAL, TRACING, OWN]
EVERY_OPTIONS = [*ALL_OPTIONS, JUDGED, JUDGED_ON_PORTS, JUDGED_ONLINE, OWN_JUDGED, VOUCHED]

ALWAYS_REFUSED = {
    errno.ENOSYS: """
        io_uring_setup io_uring_enter io_uring_register clone3 open_tree open_tree_attr move_mount
        fsopen fsconfig fsmount fspick mount_setattr statmount listmount listns openat2 fchmodat2
        vmsplice
    """,
    errno.EOPNOTSUPP: """
        setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr
        removexattrat file_setattr
    """,
    errno.EPERM: """
        unshare setns mount umount2 pivot_root chroot pidfd_getfd kcmp process_madvise
        process_mrelease move_pages migrate_pages bpf perf_event_open userfaultfd keyctl add_key
        request_key lsm_set_self_attr fanotify_init fanotify_mark name_to_handle_at
        open_by_handle_at reboot kexec_load kexec_file_load init_module finit_module delete_module
        swapon swapoff acct quotactl quotactl_fd vhangup settimeofday clock_settime clock_adjtime
        adjtimex sethostname setdomainname syslog iopl ioperm modify_ldt lookup_dcookie nfsservctl
        uselib ustat sysfs _sysctl
    """,
}
TRACE = "ptrace process_vm_readv process_vm_writev"
SCHEDULING = "sched_setaffinity sched_setscheduler sched_setparam sched_setattr"
IPC = """
    shmget shmat shmctl shmdt semget semop semtimedop semctl msgget msgsnd msgrcv msgctl mq_open
    mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
"""
METADATA = "chown fchown lchown fchownat utime utimes futimesat utimensat"
EVERYDAY = """
    read write close mmap munmap mprotect brk futex stat fstat lstat newfstatat statx access
    faccessat faccessat2 readlink readlinkat getdents64 poll ppoll epoll_wait epoll_pwait select
    pselect6 execve execveat fork vfork wait4 waitid exit exit_group kill tgkill pidfd_open
    pidfd_send_signal rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat
    rmdir truncate ftruncate utimensat chown fchown fchownat umask setsid setpgid setuid setgid
    setrlimit getrlimit memfd_create inotify_init1 inotify_add_watch flock splice tee sendfile
    copy_file_range eventfd2 timerfd_create signalfd4 membarrier rseq mlock mbind set_mempolicy
    get_mempolicy sched_yield sched_getaffinity sched_getattr getpriority ioprio_get close_range
    landlock_create_ruleset landlock_add_rule landlock_restrict_self getrandom prctl arch_prctl
    connect bind accept accept4 recvfrom recvmsg recvmmsg getsockopt shutdown getxattr
    lgetxattr fgetxattr listxattr getxattrat file_getattr io_setup io_submit pkey_mprotect
    map_shadow_stack mseal uretprobe uprobe restart_syscall rt_sigreturn futex_waitv
"""


@dataclass(frozen=True)
class Case:
    options: Options
    call: str
    answer: int
    args: tuple[int, ...]
    wide: bool = False
    """The kernel looks at whole registers, so their upper halves are part of the case."""


def case(options: Options, call: str, answer: int, *args: int, wide: bool = False) -> Case:
    return Case(options, call, answer, args, wide)


def everywhere(call: str, answer: int, *args: int) -> list[Case]:
    return [case(options, call, answer, *args) for options in ALL_OPTIONS]


def shared(call: str, answer: int, *args: int, wide: bool = False) -> list[Case]:
    """Return the case for all whose IPC and pids are the machine's."""
    return [
        case(options, call, answer, *args, wide=wide) for options in ALL_OPTIONS if options != OWN
    ]


NO, UNSUPPORTED, ABSENT = errno.EPERM, errno.EACCES, errno.ENOENT
CASES = [
    *(
        found
        for answer, calls in ALWAYS_REFUSED.items()
        for call in calls.split()
        for found in everywhere(call, answer)
    ),
    *(found for call in EVERYDAY.split() for found in everywhere(call, ALLOW)),
    *(found for call in IPC.split() for found in shared(call, NO)),
    *(
        case(options, call, NO)
        for options in ALL_OPTIONS
        for call in TRACE.split()
        if options != TRACING
    ),
    *(case(TRACING, call, ALLOW) for call in TRACE.split()),
    *(case(OWN, call, ALLOW) for call in IPC.split()),
    *everywhere("ioctl", NO, 3, 0x40047211),
    # clone: each CLONE_NEW flag, with SIGCHLD; the flags of a thread and of vfork.
    *everywhere("clone", NO, 0x0002_0000 | 17),
    *everywhere("clone", NO, 0x0200_0000 | 17),
    *everywhere("clone", NO, 0x0400_0000 | 17),
    *everywhere("clone", NO, 0x0800_0000 | 17),
    *everywhere("clone", NO, 0x1000_0000 | 17),
    *everywhere("clone", NO, 0x2000_0000 | 17),
    *everywhere("clone", NO, 0x4000_0000 | 17),
    *everywhere("clone", ALLOW, 17),
    *everywhere("clone", ALLOW, 0x003D_0F00),
    *everywhere("clone", ALLOW, 0x0100_4111),
    # set-id bits, where the register holds more than a umode_t.
    *everywhere("chmod", NO, GARBAGE, 0o4755),
    *everywhere("chmod", NO, GARBAGE, 0o2755),
    *everywhere("chmod", NO, GARBAGE, 0x1_0000 | 0o4755),
    *everywhere("chmod", NO, GARBAGE, 0x8000_0000 | 0o6000),
    *everywhere("chmod", ALLOW, GARBAGE, 0o1777),
    *everywhere("chmod", ALLOW, GARBAGE, 0x1_0000 | 0o755),
    *everywhere("fchmod", NO, 3, 0o4755),
    *everywhere("fchmod", ALLOW, 3, 0o755),
    *everywhere("fchmodat", NO, GARBAGE, GARBAGE, 0o2755),
    *everywhere("fchmodat", ALLOW, 0o6000, 0o6000, 0o755, 0o6000),
    *everywhere("creat", NO, GARBAGE, 0o4755),
    *everywhere("creat", ALLOW, GARBAGE, 0o644),
    *everywhere("mkdir", NO, GARBAGE, 0o2755),
    *everywhere("mkdir", ALLOW, GARBAGE, 0o1777),
    *everywhere("mkdirat", NO, GARBAGE, GARBAGE, 0o2755),
    *everywhere("mkdirat", ALLOW, GARBAGE, 0o6000, 0o755),
    *everywhere("open", NO, GARBAGE, 0o101, 0o4755),
    *everywhere("open", NO, GARBAGE, 0o20200002, 0o4755),
    *everywhere("open", ALLOW, GARBAGE, 0o101, 0o644),
    *everywhere("open", ALLOW, GARBAGE, 0o2002001, 0o6755),
    *everywhere("openat", NO, GARBAGE, GARBAGE, 0o102, 0o2755),
    *everywhere("openat", NO, GARBAGE, GARBAGE, 0o20000000, 0o2755),
    *everywhere("openat", ALLOW, GARBAGE, GARBAGE, 0o100, 0o1644),
    *everywhere("openat", ALLOW, GARBAGE, GARBAGE, 0, GARBAGE),
    *everywhere("openat", ALLOW, GARBAGE, GARBAGE, 0o200000, GARBAGE),
    # mknod: devices and set-id bits; regular files, FIFOs and sockets.
    *everywhere("mknod", NO, GARBAGE, 0o020644),
    *everywhere("mknod", NO, GARBAGE, 0o060644),
    *everywhere("mknod", NO, GARBAGE, 0x7_0000 | 0o020644),
    *everywhere("mknod", NO, GARBAGE, 0o104755),
    *everywhere("mknod", ALLOW, GARBAGE, 0o010644),
    *everywhere("mknod", ALLOW, GARBAGE, 0o100644),
    *everywhere("mknod", ALLOW, GARBAGE, 0o644),
    *everywhere("mknod", ALLOW, GARBAGE, 0o140644),
    *everywhere("mknodat", NO, GARBAGE, GARBAGE, 0o020000),
    *everywhere("mknodat", NO, GARBAGE, GARBAGE, 0o060000),
    *everywhere("mknodat", NO, GARBAGE, GARBAGE, 0o012755),
    *everywhere("mknodat", ALLOW, GARBAGE, 0o020000, 0o010755),
    # ioctl: TIOCSTI, TIOCLINUX, TIOCSETD; inode flags; snapshots; TUNSETIFF.
    *everywhere("ioctl", NO, 0, 0x5412),
    *everywhere("ioctl", NO, 0, 0x541C),
    *everywhere("ioctl", NO, 0, 0x5423),
    *everywhere("ioctl", ALLOW, 0, 0x5413),
    *everywhere("ioctl", ALLOW, 0, 0x5401),
    *everywhere("ioctl", ALLOW, 0, 0x540F),
    *everywhere("ioctl", NO, 3, 0x40086602),
    *everywhere("ioctl", NO, 3, 0x401C5820),
    *everywhere("ioctl", NO, 3, 0x40087602),
    *everywhere("ioctl", NO, 3, 0x40086604),
    *everywhere("ioctl", NO, 3, 0x40806685),
    *everywhere("ioctl", NO, 3, 0x800C6613),
    *everywhere("ioctl", NO, 3, 0xC0506617),
    *everywhere("ioctl", NO, 3, 0xC0406618),
    *everywhere("ioctl", ALLOW, 3, 0x80086601),
    *everywhere("ioctl", NO, 3, 0x50009401),
    *everywhere("ioctl", NO, 3, 0x50009417),
    *everywhere("ioctl", NO, 3, 0x5000940E),
    *everywhere("ioctl", NO, 3, 0x50009418),
    *everywhere("ioctl", NO, 3, 0x5000940F),
    *everywhere("ioctl", NO, 3, 0x5000943F),
    *everywhere("ioctl", NO, 3, 0x4008941A),
    *everywhere("ioctl", NO, 3, 0xC0C89425),
    *everywhere("ioctl", ALLOW, 3, 0x40049409),
    *everywhere("ioctl", NO, 3, 0x4020BC10),
    *everywhere("ioctl", NO, 3, 0x4020BC11),
    *everywhere("ioctl", ALLOW, 3, 0x4020BD10),
    *everywhere("ioctl", NO, 3, 0x400454CA),
    *everywhere("ioctl", ALLOW, 3, 0x800454CB),
    # fcntl: leases always, owners where other processes can be seen; locks never.
    *everywhere("fcntl", NO, 3, 1024),
    *everywhere("fcntl", NO, 3, 1040),
    *everywhere("fcntl", ALLOW, 3, 1025),
    *everywhere("fcntl", ALLOW, 3, 6),
    *everywhere("fcntl", ALLOW, 3, 38),
    *shared("fcntl", NO, 3, 8),
    *shared("fcntl", NO, 3, 15),
    *shared("fcntl", ALLOW, 3, 9),
    case(OWN, "fcntl", ALLOW, 3, 8),
    case(OWN, "fcntl", ALLOW, 3, 15),
    *shared("ioctl", NO, 3, 0x8901),
    *shared("ioctl", NO, 3, 0x8902),
    *shared("ioctl", ALLOW, 3, 0x8904),
    case(OWN, "ioctl", ALLOW, 3, 0x8901),
    # A filter of its own is anybody's right, a listener isn't.
    *everywhere("seccomp", NO, 1, 8),
    *everywhere("seccomp", NO, 1, 8 | 2),
    *everywhere("seccomp", ALLOW, 1, 2),
    *everywhere("seccomp", ALLOW, 0, 8),
    *everywhere("seccomp", ALLOW, 2, 0),
    *everywhere("personality", NO, 8),
    *everywhere("personality", NO, 0x0040_0008),
    *everywhere("personality", NO, 0x0040_0000),
    *everywhere("personality", ALLOW, 0),
    *everywhere("personality", ALLOW, 0x0004_0000),
    *everywhere("personality", ALLOW, 0xFFFF_FFFF),
    # Other processes, where they can be seen.
    *(
        found
        for call in SCHEDULING.split()
        for pid in (1, 0xFFFF_FFFF)
        for found in shared(call, NO, pid)
    ),
    *(
        case(options, call, answer, pid)
        for call in SCHEDULING.split()
        for options, pid, answer in (
            (ALONE, 0, ALLOW),
            (OWN, 0, ALLOW),
            (OWN, 7, ALLOW),
            (OWN, 1, NO),
        )
    ),
    *shared("setpriority", NO, 0, 1),
    *shared("setpriority", NO, 2, 0),
    *shared("setpriority", ALLOW, 0, 0),
    *shared("setpriority", ALLOW, 1, 0),
    case(OWN, "setpriority", ALLOW, 0, 7),
    case(OWN, "setpriority", NO, 0, 1),
    case(OWN, "setpriority", NO, 1, 1),
    case(OWN, "setpriority", NO, 2, 0),
    *shared("ioprio_set", NO, 1, 1),
    *shared("ioprio_set", NO, 3, 0),
    *shared("ioprio_set", ALLOW, 1, 0),
    *shared("ioprio_set", ALLOW, 2, 0),
    case(OWN, "ioprio_set", ALLOW, 1, 7),
    case(OWN, "ioprio_set", NO, 1, 1),
    case(OWN, "ioprio_set", NO, 3, 0),
    *shared("prlimit64", NO, 1, 7, 0x7FFF_0000),
    *shared("prlimit64", NO, 1, 7, 0x7FFF_0000_0000, wide=True),
    *shared("prlimit64", NO, UPPER_HALF | 1, 7, 0x7FFF_0000, wide=True),
    *shared("prlimit64", ALLOW, 1, 7, 0, wide=True),
    *shared("prlimit64", ALLOW, UPPER_HALF, 7, 0x7FFF_0000, wide=True),
    case(OWN, "prlimit64", ALLOW, 7, 7, 0x7FFF_0000),
    case(OWN, "prlimit64", ALLOW, 1, 7, 0, wide=True),
    case(OWN, "prlimit64", NO, 1, 7, 0x7FFF_0000),
    case(OWN, "prlimit64", NO, UPPER_HALF | 1, 7, 0x7FFF_0000, wide=True),
    # Sockets: the family, the type (with flags) and the protocol.
    *everywhere("socket", UNSUPPORTED, 17, 3, 768),
    *everywhere("socket", UNSUPPORTED, 40, 1, 0),
    *everywhere("socket", UNSUPPORTED, 38, 5, 0),
    *everywhere("socket", UNSUPPORTED, 31, 3, 1),
    *everywhere("socket", UNSUPPORTED, 0, 1, 0),
    *everywhere("socket", UNSUPPORTED, 2, 3, 255),
    *everywhere("socket", UNSUPPORTED, 2, 3, 6),
    *everywhere("socket", UNSUPPORTED, 2, 1, 262),
    *everywhere("socket", UNSUPPORTED, 10, 1, 132),
    *everywhere("socket", UNSUPPORTED, 2, 5, 132),
    *everywhere("socket", UNSUPPORTED, 2, 2, 136),
    *everywhere("socket", UNSUPPORTED, 2, 2, 1),
    *everywhere("socket", UNSUPPORTED, 10, 2, 58),
    *everywhere("socket", UNSUPPORTED, 2, 10, 768),
    *everywhere("socket", UNSUPPORTED, 16, 3, 4),
    *everywhere("socket", UNSUPPORTED, 16, 3, 15),
    *(
        case(options, "socket", ALLOW, family, flags | 1, protocol)
        for options in (ON_PORTS, BINDING, ONLINE, OWN)
        for family in (2, 10)
        for flags in (0, 0x800, 0x80000)
        for protocol in (0, 6)
    ),
    *(
        case(options, "socket", ALLOW, family, flags | 2, protocol)
        for options in (ONLINE, OWN)
        for family in (2, 10)
        for flags in (0, 0x80800)
        for protocol in (0, 17)
    ),
    *(case(ONLINE, "socket", ALLOW, 16, kind, 0) for kind in (2, 3, 0x80003)),
    *(case(OWN, "socket", ALLOW, 16, kind, 0) for kind in (2, 3, 0x80003)),
    *(case(options, "socket", UNSUPPORTED, 16, 3, 0) for options in (ALONE, ON_PORTS)),
    *(case(options, "socket", UNSUPPORTED, 2, 2, 17) for options in (ALONE, ON_PORTS, BINDING)),
    *(case(options, "socket", UNSUPPORTED, 10, 1, 6) for options in (ALONE, LOCAL)),
    *(case(options, "socket", UNSUPPORTED, 1, 1, 0) for options in (ALONE, ON_PORTS, ONLINE)),
    *(case(options, "socket", ALLOW, 1, kind, 0) for options in (LOCAL, OWN) for kind in (1, 2, 5)),
    *everywhere("socketpair", ALLOW, 1, 1, 0),
    *everywhere("socketpair", ALLOW, 1, 0x80805, 0),
    *everywhere("socketpair", UNSUPPORTED, 30, 1, 0),
    *(case(options, "socketpair", UNSUPPORTED, 1, 2, 0) for options in (ALONE, ON_PORTS, ONLINE)),
    *(case(options, "socketpair", ALLOW, 1, 2, 0) for options in (LOCAL, OWN)),
    *(
        found
        for options in (ALONE, ON_PORTS, BINDING, ONLINE, LOCAL, TRACING)
        for found in (
            case(options, "sendto", NO, GARBAGE, GARBAGE, GARBAGE, 0x2000_0000),
            case(options, "sendto", NO, GARBAGE, GARBAGE, GARBAGE, 0x2000_4040),
            case(options, "sendto", ALLOW, GARBAGE, GARBAGE, GARBAGE, 0x4040),
            case(options, "sendmmsg", NO, GARBAGE, GARBAGE, GARBAGE, 0x2000_0000),
            case(options, "sendmmsg", ALLOW, GARBAGE, GARBAGE, GARBAGE, 0x4000_0000),
            case(options, "sendmsg", NO, GARBAGE, GARBAGE, 0x2000_0000),
            case(options, "sendmsg", ALLOW, GARBAGE, GARBAGE, 0x4000_4000, 0x2000_0000),
            case(options, "setsockopt", ABSENT, GARBAGE, 6, 31),
            case(options, "setsockopt", ALLOW, GARBAGE, 6, 30),
            case(options, "setsockopt", ALLOW, GARBAGE, 1, 31),
        )
    ),
    case(OWN, "sendto", ALLOW, GARBAGE, GARBAGE, GARBAGE, 0x2000_0000),
    case(OWN, "setsockopt", ALLOW, GARBAGE, 6, 31),
    *(case(options, "listen", UNSUPPORTED) for options in (ALONE, ON_PORTS, TRACING)),
    *(case(options, "listen", ALLOW) for options in (BINDING, ONLINE, LOCAL, OWN)),
    # Where another acts on behalf, whatever the arguments; the calls around them pass.
    *(
        found
        for options in (JUDGED, JUDGED_ON_PORTS, JUDGED_ONLINE)
        for found in (
            *(case(options, call, NOTIFY, GARBAGE, GARBAGE) for call in ("connect", "bind")),
            *(case(options, call, ALLOW) for call in ("accept", "accept4", "shutdown")),
            *(case(options, "socket", ALLOW, 1, kind, 0) for kind in (1, 5, 0x80801)),
            *(case(options, "socketpair", ALLOW, 1, kind, 0) for kind in (1, 5)),
            *(case(options, "socket", UNSUPPORTED, 1, kind, 0) for kind in (3, 0x80803, 4)),
            case(options, "socketpair", UNSUPPORTED, 1, 3, 0),
            case(options, "sendto", ALLOW, 3, GARBAGE, 9, 0x4040, 0, wide=True),
            case(options, "sendto", NO, GARBAGE, GARBAGE, GARBAGE, 0x2000_0000),
            case(options, "pidfd_getfd", NO),
            case(options, "seccomp", NO, 1, 8),
            *(case(options, call, NOTIFY, GARBAGE) for call in METADATA.split()),
            *(case(options, call, NOTIFY, GARBAGE, 0o1777) for call in ("chmod", "fchmod")),
            *(case(options, call, NO, GARBAGE, 0o4755) for call in ("chmod", "fchmod")),
            case(options, "fchmodat", NOTIFY, GARBAGE, GARBAGE, 0o755),
            case(options, "fchmodat", NO, GARBAGE, GARBAGE, 0o2755),
            case(options, "fchmodat2", errno.ENOSYS),
            case(options, "fsetxattr", errno.EOPNOTSUPP),
        )
    ),
    # Datagrams, and so every message, where there are no others' to be sent besides.
    *(
        found
        for options in (JUDGED, JUDGED_ON_PORTS, VOUCHED)
        for found in (
            *(case(options, "socket", ALLOW, 1, kind, 0) for kind in (2, 0x80802)),
            case(options, "socketpair", ALLOW, 1, 2, 0),
            *(case(options, call, NOTIFY, 3, GARBAGE, 0) for call in ("sendmsg", "sendmmsg")),
            case(options, "sendto", NOTIFY, 3, GARBAGE, 9, 0x4040, 0x7FFF_0000, wide=True),
            case(options, "sendto", NOTIFY, 3, GARBAGE, 9, 0, 1 << 32, wide=True),
            case(options, "sendmsg", NO, 3, GARBAGE, 0x2000_0000),
        )
    ),
    case(VOUCHED, "sendmsg", ALLOW, 3, GARBAGE, 0, *WORD, wide=True),
    case(VOUCHED, "sendmsg", NOTIFY, 3, GARBAGE, 0, WORD[0], WORD[1] ^ 1 << 63, wide=True),
    case(VOUCHED, "sendmsg", NOTIFY, 3, GARBAGE, 0, WORD[0] ^ 1, WORD[1], wide=True),
    case(VOUCHED, "sendmsg", NOTIFY, 3, GARBAGE, 0, *reversed(WORD), wide=True),
    case(VOUCHED, "sendmmsg", NOTIFY, 3, GARBAGE, 0, *WORD, wide=True),
    case(JUDGED, "sendmsg", NOTIFY, 3, GARBAGE, 0, 0, 0, wide=True),
    *(case(JUDGED_ONLINE, "socket", UNSUPPORTED, 1, kind, 0) for kind in (2, 0x80802)),
    case(JUDGED_ONLINE, "socketpair", UNSUPPORTED, 1, 2, 0),
    *(case(JUDGED_ONLINE, call, ALLOW, 3, GARBAGE, 0) for call in ("sendmsg", "sendmmsg")),
    case(JUDGED_ONLINE, "sendto", ALLOW, 3, GARBAGE, 9, 0, GARBAGE),
    case(OWN_JUDGED, "connect", NOTIFY, GARBAGE, GARBAGE),
    *(case(OWN_JUDGED, call, ALLOW) for call in ("sendto", "sendmsg", "sendmmsg")),
    *(case(OWN_JUDGED, call, ALLOW) for call in ("bind", "listen", *METADATA.split())),
    case(OWN_JUDGED, "chmod", ALLOW, GARBAGE, 0o755),
    case(OWN_JUDGED, "chmod", NO, GARBAGE, 0o4755),
    *(case(OWN_JUDGED, "socket", ALLOW, 1, kind, 0) for kind in (1, 2, 5)),
    case(JUDGED, "listen", ALLOW),
    case(JUDGED_ON_PORTS, "listen", NOTIFY),
    case(JUDGED_ONLINE, "listen", ALLOW),
    case(JUDGED, "socket", UNSUPPORTED, 2, 1, 6),
    case(JUDGED_ON_PORTS, "socket", ALLOW, 2, 1, 6),
    case(JUDGED_ON_PORTS, "socket", UNSUPPORTED, 2, 2, 17),
]


def naive(rows: tuple[Row, ...], call: str, args: tuple[int, ...]) -> Row | None:
    """Return the row that decides, by reading them one after another."""
    for row in rows:
        if call in row.calls.split() and all(fits(condition, args) for condition in row.when):
            return row
    return None


def fits(condition: Condition, args: tuple[int, ...]) -> bool:
    return (args[condition.arg] & condition.mask in condition.values) is condition.holds


def action(answer: int) -> int:
    if answer == NOTIFY:
        return SECCOMP_RET_USER_NOTIF
    return SECCOMP_RET_ALLOW if answer == ALLOW else SECCOMP_RET_ERRNO | answer


def filled(found: Case, fill: int) -> tuple[int, ...]:
    return (*found.args, *[fill] * (6 - len(found.args)))


@pytest.mark.parametrize("arch", ARCHES)
def test_the_filter_answers_as_the_list_says(arch: str) -> None:
    programs = {options: base_filter(options, arch) for options in EVERY_OPTIONS}
    wrong = []
    for found in CASES:
        if found.call not in numbers(arch):
            continue
        number = numbers(arch)[found.call]
        for fill in (0, GARBAGE):
            plain = filled(found, fill)
            upper = plain if found.wide else tuple(arg | UPPER_HALF for arg in plain)
            for args in (plain, upper):
                if found.call == "prlimit64" and not found.wide and args is upper:
                    continue
                said = simulate(programs[found.options], AUDIT_ARCH[arch], number, args)
                if said != action(found.answer):
                    wrong.append((found, fill, said))
    assert wrong == []


@pytest.mark.parametrize("options", ALL_OPTIONS, ids=repr)
def test_no_row_goes_without_a_case(options: Options) -> None:
    rows = rows_of(options)
    mine = [found for found in CASES if found.options == options]
    decided = {id(naive(rows, found.call, filled(found, GARBAGE))) for found in mine}
    assert [row for row in rows if row.answer != ALLOW and id(row) not in decided] == []


@pytest.mark.parametrize("options", ALL_OPTIONS, ids=repr)
def test_no_row_can_be_cut_out_unnoticed(options: Options) -> None:
    rows = rows_of(options)
    mine = [found for found in CASES if found.options == options]
    for cut in rows:
        rest = tuple(row for row in rows if row is not cut)
        answers = [naive(rest, found.call, filled(found, GARBAGE)) for found in mine]
        assert [found.answer for found in mine] != [row.answer if row else ALLOW for row in answers]


@pytest.mark.parametrize("options", ALL_OPTIONS, ids=repr)
def test_rows_are_well_formed(options: Options) -> None:
    known = set(numbers(X86_64)) | set(numbers(AARCH64))
    for row in rows_of(options):
        assert row.why
        assert set(row.calls.split()) <= known
        assert 0 <= row.answer < 4096
        for condition in row.when:
            assert 0 <= condition.arg < 6
            assert condition.values
            assert all(value & ~condition.mask == 0 for value in condition.values)


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize(
    ("args", "answer"),
    [
        ((1, 1, 0), ALLOW),
        ((1, 2, 0), ALLOW),
        ((2, 1, 6), errno.EACCES),
        ((10, 2, 17), errno.EACCES),
        ((16, 3, 0), errno.EACCES),
        ((17, 3, 768), errno.EACCES),
        ((UPPER_HALF | 2, 1, 0), errno.EACCES),
    ],
)
def test_a_call_without_network_makes_local_sockets_alone(
    arch: str, args: tuple[int, ...], answer: int
) -> None:
    program = closed_network_filter(arch)
    number = numbers(arch)["socket"]
    assert simulate(program, AUDIT_ARCH[arch], number, (*args, 0, 0, 0)) == action(answer)


@pytest.mark.parametrize("arch", ARCHES)
def test_a_call_without_network_is_otherwise_as_before(arch: str) -> None:
    program = closed_network_filter(arch)
    for name, number in numbers(arch).items():
        if name != "socket":
            assert simulate(program, AUDIT_ARCH[arch], number, ()) == SECCOMP_RET_ALLOW


@pytest.mark.parametrize("own_network", [False, True])
def test_an_unknown_network_mode_is_an_error(own_network: bool) -> None:  # noqa: FBT001  # pytest passes it by name
    with pytest.raises(ValueError, match="half-open"):
        rows_of(Options(own_network=own_network, network="half-open"))
