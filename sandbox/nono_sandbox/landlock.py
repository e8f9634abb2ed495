"""Landlock rulesets; importable on Linux only.

A kernel ABI is one row of a table: what it added is what a ruleset handles from then on.
Specified by Documentation/userspace-api/landlock.rst and include/uapi/linux/landlock.h.

Architecture invariant: never best effort. A ruleset handles every right the running kernel
knows; whether that is enough is judged in `support`, before anything is confined.
"""

from __future__ import annotations

import _stat as stat
import _struct as struct
import errno
import posix as os

from nono_sandbox import _uapi
from nono_sandbox.confinement import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
REMOVE_DIR = 1 << 4
REMOVE_FILE = 1 << 5
MAKE_CHAR = 1 << 6
MAKE_DIR = 1 << 7
MAKE_REG = 1 << 8
MAKE_SOCK = 1 << 9
MAKE_FIFO = 1 << 10
MAKE_BLOCK = 1 << 11
MAKE_SYM = 1 << 12
REFER = 1 << 13
TRUNCATE = 1 << 14
IOCTL_DEV = 1 << 15
RESOLVE_UNIX = 1 << 16

BIND_TCP = 1 << 0
CONNECT_TCP = 1 << 1

SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0
SCOPE_SIGNAL = 1 << 1

ABI_ADDED = (
    # (ABI, file system rights, network rights, scopes)
    (1, (1 << 13) - 1, 0, 0),
    (2, REFER, 0, 0),
    (3, TRUNCATE, 0, 0),
    (4, 0, BIND_TCP | CONNECT_TCP, 0),
    (5, IOCTL_DEV, 0, 0),
    (6, 0, 0, SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL),
    (9, RESOLVE_UNIX, 0, 0),
)

ON_READ = EXECUTE | READ_FILE | READ_DIR
# No device node is ever made, and none is driven: MAKE_CHAR, MAKE_BLOCK and IOCTL_DEV are in
# no grant. A terminal's IOCTL_DEV is given device by device.
ON_WRITE = (
    WRITE_FILE
    | REMOVE_DIR
    | REMOVE_FILE
    | MAKE_DIR
    | MAKE_REG
    | MAKE_SOCK
    | MAKE_FIFO
    | MAKE_SYM
    | REFER
    | TRUNCATE
    | RESOLVE_UNIX
)
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV | RESOLVE_UNIX


def abi_version() -> int:
    """Return the kernel's Landlock ABI, or 0 where there is none."""
    return _asked(_uapi.LANDLOCK_CREATE_RULESET_VERSION)


def errata() -> int:
    """Return the kernel's bit mask of fixed Landlock errata, or 0 where it can't tell."""
    return _asked(_uapi.LANDLOCK_CREATE_RULESET_ERRATA)


def _asked(flag: int) -> int:
    try:
        return _uapi.landlock_create_ruleset(None, flag)
    except OSError as error:
        # Not built in; off at boot; a question this kernel doesn't know yet.
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL):
            return 0
        raise


def handled(abi: int) -> tuple[int, int, int]:
    """Return all file system rights, network rights and scopes that ABI *abi* knows."""
    rights, ports, scopes = 0, 0, 0
    for version, added_rights, added_ports, added_scopes in ABI_ADDED:
        if version <= abi:
            rights |= added_rights
            ports |= added_ports
            scopes |= added_scopes
    return rights, ports, scopes


def rights_for(access: int) -> int:
    """Return the file system rights that a grant of *access* means."""
    return (ON_READ if access & READ else 0) | (ON_WRITE if access & WRITE else 0)


def create_ruleset(rights: int, ports: int, scopes: int) -> int:
    """Return the descriptor of a ruleset that handles exactly these.

    Raises:
        OSError: The kernel doesn't know one of them. Nothing was made.
    """
    # An older kernel takes a longer struct as long as what it doesn't know is zero.
    return _uapi.landlock_create_ruleset(struct.pack("=QQQ", rights, ports, scopes), 0)


def allow(ruleset_fd: int, path_fd: int, rights: int) -> None:
    """Add a rule for the object that the O_PATH descriptor *path_fd* refers to.

    Raises:
        OSError: The kernel refused; the ruleset is as it was.
    """
    if not stat.S_ISDIR(os.fstat(path_fd).st_mode):
        rights &= ON_FILES  # EINVAL otherwise
    if rights:
        _uapi.landlock_add_path_rule(ruleset_fd, rights, path_fd)


def allow_ports(ruleset_fd: int, ports: Iterable[int], right: int) -> None:
    """Add a rule for each TCP port of *ports*."""
    for port in ports:
        _uapi.landlock_add_port_rule(ruleset_fd, right, port)


def signal_scope() -> int:
    """Return a ruleset that restricts nothing but signals to the domain it makes."""
    fd = create_ruleset(REFER, 0, SCOPE_SIGNAL)
    # A layer that says nothing of REFER denies it, and every rename to another directory.
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    allow(fd, root, REFER)
    os.close(root)
    return fd
