"""What the seccomp filter of a worker refuses, and why.

Landlock judges files and ports, namespaces hide the rest of the machine; this table takes what
neither sees: calls that make new namespaces, reach other processes, bypass the filter itself,
plant set-id bits, or are nothing but kernel for an exploit to work on. EPERM is for what a
person should read about; ENOSYS where libraries have an older call to fall back on; EOPNOTSUPP
for extended attributes, so that `cp`, `tar` and `install` take the place for a file system that
has none.

What isn't here is allowed on purpose, because everyday tools need it: chown and utimensat (no
path can be seen from here; see `metadata`), kill (Landlock's scope, or a PID namespace),
inotify, memfd_create, execveat, FIFOs, pidfd_open, landlock_* and seccomp itself, whose further
filters only take away.

Not promised: a set-gid directory looks like a set-gid program from here (`chmod 2775`), so
`git init --shared` and `chmod g+s` are refused; one that exists stays, and hands its bit to new
directories in it.

Architecture invariant: data, and one function that picks from it; no row depends on the
machine.
"""

from __future__ import annotations

from errno import ENOSYS, EOPNOTSUPP, EPERM

from nono_sandbox.confinement import CLOSED
from nono_sandbox.seccomp import metadata, sockets
from nono_sandbox.seccomp.rules import INT, POINTER, Row, any_bit, none_of, one_of
from nono_sandbox.values import Value

SET_ID = 0o6000
"""S_ISUID | S_ISGID. A umode_t has 16 bits; what is above them in the register is ignored."""
_S_IFMT = 0o170000
_DEVICES = (0o020000, 0o060000)
"""S_IFCHR and S_IFBLK."""
_CREATES = 0o100 | 0o20000000
"""O_CREAT | __O_TMPFILE: without one of them open() doesn't look at its mode argument."""

_CLONE_NEW = 0x7E02_0000
"""CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}. NEWTIME (0x80) is the exit signal's in clone()."""

_TERMINAL = (0x5412, 0x541C, 0x5423)
"""TIOCSTI, TIOCLINUX, TIOCSETD."""
_INODE = (
    0x4008_6602,  # FS_IOC_SETFLAGS
    0x401C_5820,  # FS_IOC_FSSETXATTR
    0x4008_7602,  # FS_IOC_SETVERSION
    0x4008_6604,  # EXT4_IOC_SETVERSION_OLD
    0x4004_7211,  # FAT_IOCTL_SET_ATTRIBUTES
    0x4080_6685,  # FS_IOC_ENABLE_VERITY
    0x800C_6613,  # FS_IOC_SET_ENCRYPTION_POLICY
    0xC050_6617,  # FS_IOC_ADD_ENCRYPTION_KEY
    0xC040_6618,  # FS_IOC_REMOVE_ENCRYPTION_KEY
)
_SUBVOLUMES = (
    0x5000_9401,  # BTRFS_IOC_SNAP_CREATE
    0x5000_9417,  # BTRFS_IOC_SNAP_CREATE_V2
    0x5000_940E,  # BTRFS_IOC_SUBVOL_CREATE
    0x5000_9418,  # BTRFS_IOC_SUBVOL_CREATE_V2
    0x5000_940F,  # BTRFS_IOC_SNAP_DESTROY
    0x5000_943F,  # BTRFS_IOC_SNAP_DESTROY_V2
    0x4008_941A,  # BTRFS_IOC_SUBVOL_SETFLAGS
    0xC0C8_9425,  # BTRFS_IOC_SET_RECEIVED_SUBVOL
)
_IOC_TYPE = 0xFF00
_BCACHEFS = 0xBC00
_TUNSETIFF = 0x4004_54CA
_SIGNAL_OWNER = (0x8901, 0x8902)
"""FIOSETOWN, SIOCSPGRP: F_SETOWN by another name."""

_F_SETOWN, _F_SETOWN_EX, _F_SETLEASE, _F_SETDELEG = 8, 15, 1024, 1040
_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_NEW_LISTENER = 1, 1 << 3
_PER_LINUX, _ADDR_NO_RANDOMIZE, _PERSONALITY_QUERY = 0, 0x0040000, INT
_PRIO_USER, _IOPRIO_WHO_USER = 2, 3


class Options(Value):
    """What else holds a worker, so that the filter needn't. The defaults rely on nothing."""

    own_network: bool = False
    """It is in a network namespace of the sandbox, with loopback alone; *network* is moot."""
    network: str = CLOSED
    """Its mode, as in `confinement.Network`, where the network is the machine's."""
    binds: bool = False
    """In mode PORTS: it may listen."""
    unix_sockets: bool = False
    """No local socket outside the sandbox can be reached, by path or by abstract name."""
    on_behalf: bool = False
    """The filter has a listener; who holds it connects, binds, listens and changes metadata.

    In a network of the sandbox's own it does nothing but connect."""
    word: tuple[int, int] = (0, 0)
    """What a lane, whose filter its workers inherit, says in arguments that mean nothing."""
    ptrace: bool = False
    """It may trace what else Landlock or its PID namespace lets it see."""
    own_ipc: bool = False
    """It is in an IPC namespace of the sandbox."""
    own_pids: bool = False
    """It is in a PID namespace of the sandbox, whose process 1 is in charge of it."""


_KERNEL = (
    Row(
        "io_uring_setup io_uring_enter io_uring_register",
        ENOSYS,
        "what is queued there passes no seccomp filter; users fall back to plain calls",
    ),
    Row("clone3", ENOSYS, "its flags are behind a pointer; libraries fall back to clone"),
    Row(
        "clone",
        EPERM,
        "a user namespace gives every capability over the namespaces made in it",
        (any_bit(0, _CLONE_NEW),),
    ),
    Row("unshare setns", EPERM, "makes namespaces, or joins somebody's"),
    Row("mount umount2 pivot_root chroot", EPERM, "changes what paths mean"),
    Row(
        "open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick mount_setattr",
        ENOSYS,
        "mounts by another interface (CVE-2021-41133); libmount falls back to mount",
    ),
    Row("statmount listmount listns", ENOSYS, "tells of mounts and namespaces of the machine"),
    Row(
        "pidfd_getfd kcmp process_madvise process_mrelease move_pages migrate_pages",
        EPERM,
        "takes descriptors or memory of other processes, or compares with theirs",
    ),
    Row("bpf perf_event_open userfaultfd", EPERM, "the kernel's attack surface; helps win races"),
    Row("keyctl add_key request_key", EPERM, "the session keyring is the user's, with its keys"),
    Row(
        "seccomp",
        EPERM,
        "there is one listener for a process, and it is the supervisor's",
        (
            one_of(0, _SECCOMP_SET_MODE_FILTER),
            any_bit(1, _SECCOMP_FILTER_FLAG_NEW_LISTENER),
        ),
    ),
    Row(
        "personality",
        EPERM,
        "weakens the address space; without ASLR is for gdb and the thread sanitizer",
        (none_of(0, _PER_LINUX, _ADDR_NO_RANDOMIZE, _PERSONALITY_QUERY),),
    ),
    Row("lsm_set_self_attr", EPERM, "changes the profile of another security module"),
    Row("vmsplice", ENOSYS, "gives pages away by reference; uutils fall back on ENOSYS alone"),
)

_FILES = (
    Row(
        "fanotify_init fanotify_mark name_to_handle_at open_by_handle_at",
        EPERM,
        "names or watches files by handle, past Landlock",
    ),
    Row(
        "setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr "
        "removexattrat file_setattr",
        EOPNOTSUPP,
        "Landlock has no right for metadata; a descriptor open for reading is enough for them",
    ),
    Row(
        "chmod fchmod creat mkdir mknod",
        EPERM,
        "a set-id program planted here would run with its owner's rights outside",
        (any_bit(1, SET_ID),),
    ),
    Row(
        "fchmodat mkdirat mknodat",
        EPERM,
        "a set-id program planted here would run with its owner's rights outside",
        (any_bit(2, SET_ID),),
    ),
    Row(
        "open",
        EPERM,
        "a set-id program planted here would run with its owner's rights outside",
        (any_bit(1, _CREATES), any_bit(2, SET_ID)),
    ),
    Row(
        "openat",
        EPERM,
        "a set-id program planted here would run with its owner's rights outside",
        (any_bit(2, _CREATES), any_bit(3, SET_ID)),
    ),
    Row("openat2", ENOSYS, "its mode is behind a pointer; callers fall back to openat"),
    Row("fchmodat2", ENOSYS, "glibc falls back to fchmodat, and on ENOSYS alone"),
    Row(
        "mknod",
        EPERM,
        "a device; the whiteout, 0:0, needs no capability",
        (one_of(1, *_DEVICES, mask=_S_IFMT),),
    ),
    Row(
        "mknodat",
        EPERM,
        "a device; the whiteout, 0:0, needs no capability",
        (one_of(2, *_DEVICES, mask=_S_IFMT),),
    ),
    Row(
        "ioctl",
        EPERM,
        "types into the terminal it was handed (CVE-2017-5226), or loads a line discipline",
        (one_of(1, *_TERMINAL),),
    ),
    Row(
        "ioctl",
        EPERM,
        "makes a file immutable, sealed or encrypted; open for reading is enough",
        (one_of(1, *_INODE),),
    ),
    Row(
        "ioctl",
        EPERM,
        "a snapshot holds what the sandbox hides, and until Linux 6.8 any descriptor will do",
        (one_of(1, *_SUBVOLUMES),),
    ),
    Row(
        "ioctl",
        EPERM,
        "bcachefs' snapshots, in all their versions",
        (one_of(1, _BCACHEFS, mask=_IOC_TYPE),),
    ),
    Row("ioctl", EPERM, "makes a network interface", (one_of(1, _TUNSETIFF),)),
    Row(
        "fcntl",
        EPERM,
        "a lease holds up everybody's open() of a file that is merely readable here",
        (one_of(1, _F_SETLEASE, _F_SETDELEG),),
    ),
)

_ADMINISTRATION = (
    Row(
        "reboot kexec_load kexec_file_load init_module finit_module delete_module swapon swapoff "
        "acct quotactl quotactl_fd vhangup",
        EPERM,
        "for the administrator of the machine",
    ),
    Row(
        "settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname",
        EPERM,
        "the machine's clock and name",
    ),
    Row("syslog", EPERM, "the kernel's log, with its addresses"),
    Row("iopl ioperm modify_ldt", EPERM, "the processor's ports and segments"),
    Row(
        "lookup_dcookie nfsservctl uselib ustat sysfs _sysctl",
        EPERM,
        "abandoned; where a kernel still has them, exploits are what is left of their users",
    ),
)

_OTHERS_MEMORY = (
    Row(
        "ptrace process_vm_readv process_vm_writev",
        EPERM,
        "reads and changes other processes; gdb and strace need it",
    ),
)

_OTHERS_IPC = (
    Row(
        "shmget shmat shmctl shmdt semget semop semtimedop semctl msgget msgsnd msgrcv msgctl "
        "mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr",
        EPERM,
        "named for the whole machine, and no path shows it",
    ),
)

_OTHERS_PIDS = (
    Row(
        "fcntl",
        EPERM,
        "has the kernel send signals to processes of others",
        (one_of(1, _F_SETOWN, _F_SETOWN_EX),),
    ),
    Row(
        "ioctl",
        EPERM,
        "has the kernel send signals to processes of others",
        (one_of(1, *_SIGNAL_OWNER),),
    ),
    Row(
        "prlimit64",
        EPERM,
        "changes limits of other processes; reading them (no new limit) harms nobody",
        (none_of(0, 0), none_of(2, 0, mask=POINTER)),
    ),
    Row(
        "sched_setaffinity sched_setscheduler sched_setparam sched_setattr",
        EPERM,
        "other processes of the user; 0 is oneself, but so may be a pid (pthread_setaffinity_np)",
        (none_of(0, 0),),
    ),
    Row(
        "setpriority ioprio_set",
        EPERM,
        "other processes of the user; 0 is oneself or one's group",
        (none_of(1, 0),),
    ),
    Row("setpriority", EPERM, "all of the user's processes", (one_of(0, _PRIO_USER),)),
    Row("ioprio_set", EPERM, "all of the user's processes", (one_of(0, _IOPRIO_WHO_USER),)),
)

_LANE_WHY = "process 1 of the namespace looks after the limits, and starves or fails by this"
_LANE_PID = (
    Row("prlimit64", EPERM, _LANE_WHY, (one_of(0, 1), none_of(2, 0, mask=POINTER))),
    Row(
        "sched_setaffinity sched_setscheduler sched_setparam sched_setattr",
        EPERM,
        _LANE_WHY,
        (one_of(0, 1),),
    ),
    Row("setpriority ioprio_set", EPERM, _LANE_WHY, (one_of(1, 1),)),
    Row("setpriority", EPERM, _LANE_WHY, (one_of(0, _PRIO_USER),)),
    Row("ioprio_set", EPERM, _LANE_WHY, (one_of(0, _IOPRIO_WHO_USER),)),
)


def rows(options: Options) -> tuple[Row, ...]:
    """Return every row for a worker that *options* describe, in the order they are tried.

    Raises:
        ValueError: The network mode is none that is known; nothing was decided.
    """
    return (
        *_KERNEL,
        *_FILES,
        *(metadata.ON_BEHALF if options.on_behalf and not options.own_network else ()),
        *_ADMINISTRATION,
        *(() if options.ptrace else _OTHERS_MEMORY),
        *(() if options.own_ipc else _OTHERS_IPC),
        *(_LANE_PID if options.own_pids else _OTHERS_PIDS),
        *sockets.rows(options),
    )
