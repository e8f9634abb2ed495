"""The Landlock domain of a session's workers: one ruleset, built once, entered by each of them."""

from __future__ import annotations

import posix as os

from nono_sandbox import landlock
from nono_sandbox.confinement import LANDLOCK, NAMESPACES, OPEN, READ, WRITE, Grant
from nono_sandbox.errors import ConfinementError, UnsupportedError
from nono_sandbox.granted import open_judged
from nono_sandbox.opath import is_there
from nono_sandbox.own_places import DEVICES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nono_sandbox.confinement import Confinement

ABI_REQUIRED = {NAMESPACES: 3, LANDLOCK: 6}
"""Below 3 a read-only file can be truncated; below 6 the second tier can't confine signals."""

_ON_DEVICE = landlock.READ_FILE | landlock.WRITE_FILE | landlock.TRUNCATE
_ON_TERMINAL = _ON_DEVICE | landlock.IOCTL_DEV
_KERNELS_OWN = ("/dev", "/proc", "/sys")
_PROC_FILES = (
    "cpuinfo",
    "filesystems",
    "loadavg",
    "meminfo",
    "stat",
    "uptime",
    "version",
    "sys/kernel/ngroups_max",
    "sys/kernel/osrelease",
    "sys/kernel/pid_max",
    "sys/vm/max_map_count",
    "sys/vm/overcommit_memory",
)
"""What the second tier shows of /proc: nothing that tells of a process."""


def ruleset(confinement: Confinement, tier: str) -> int:
    """Return the descriptor of the ruleset for *confinement*.

    In the first tier this runs inside the fresh root, and `allow_proc` completes it.

    Raises:
        UnsupportedError: The kernel's Landlock is too old. Nothing was confined.
        ConfinementError: A grant isn't what was judged, or a denial can't be enforced.
    """
    abi = landlock.abi_version()
    if abi < ABI_REQUIRED[tier]:
        raise UnsupportedError(
            f"this kernel has Landlock ABI {abi}; this tier needs {ABI_REQUIRED[tier]} or later"
        )
    # In the first tier too, where only what may be read is mounted: a descriptor that was opened
    # outside leads past the mounts. It is most of what an open() costs (benchmarks.inside).
    rights, ports, scopes = landlock.handled(abi)
    own_network = tier == NAMESPACES and confinement.network.mode != OPEN
    if own_network or confinement.network.mode == OPEN:
        ports = 0
    if own_network:
        # Abstract names belong to the network namespace: there they are the session's own.
        scopes &= ~landlock.SCOPE_ABSTRACT_UNIX_SOCKET
    fd = landlock.create_ruleset(rights, ports, scopes)
    _allow_devices(fd, tier, rights)
    _allow_grants(fd, confinement, tier, rights)
    if ports:
        landlock.allow_ports(fd, confinement.network.connect_ports, landlock.CONNECT_TCP)
        landlock.allow_ports(fd, confinement.network.bind_ports, landlock.BIND_TCP)
    return fd


def writable(confinement: Confinement) -> tuple[Grant, ...]:
    """Return what the second tier lets workers write, each with the identity of what it names.

    No denial stands in it: `ruleset` refuses that.

    Raises:
        ConfinementError: A grant isn't what was judged.
    """
    found = []
    for grant in _reaching_no_kernel(confinement.grants, LANDLOCK):
        if grant.access & WRITE:
            fd = open_judged(grant)
            status = os.fstat(fd)
            os.close(fd)
            found.append(grant.replace(identity=(status.st_dev, status.st_ino)))
    return tuple(found)


def allow_proc(ruleset_fd: int) -> None:
    """Let workers read the /proc that is mounted now."""
    _allow(ruleset_fd, "/proc", landlock.ON_READ)


def _allow(ruleset_fd: int, path: str, rights: int) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    landlock.allow(ruleset_fd, fd, rights)
    os.close(fd)


def _allow_devices(ruleset_fd: int, tier: str, rights: int) -> None:
    for name in DEVICES:
        on_this = _ON_TERMINAL if name == "tty" else _ON_DEVICE
        _allow(ruleset_fd, f"/dev/{name}", on_this & rights)
    if tier == NAMESPACES:
        _allow(ruleset_fd, "/dev/pts", (landlock.READ_DIR | _ON_TERMINAL) & rights)
        _allow(ruleset_fd, "/dev/shm", landlock.rights_for(READ | WRITE) & rights)  # noqa: S108
        _allow(ruleset_fd, "/tmp", landlock.rights_for(READ | WRITE) & rights)  # noqa: S108
        _allow(ruleset_fd, "/dev", landlock.READ_DIR)
        return
    for name in _PROC_FILES:
        if is_there(f"/proc/{name}"):
            _allow(ruleset_fd, f"/proc/{name}", landlock.READ_FILE)


def _allow_grants(ruleset_fd: int, confinement: Confinement, tier: str, rights: int) -> None:
    if tier == LANDLOCK:
        _refuse_denials(confinement)
    elif all(grant.access & READ for grant in confinement.grants):
        # The skeleton above the grants: names that the grants' own paths tell anyway. A
        # write-only grant would become listable by it.
        _allow(ruleset_fd, "/", landlock.READ_DIR)
    for grant in _reaching_no_kernel(confinement.grants, tier):
        # In the fresh root a grant's source stands at its path, and what was bound there was
        # judged then.
        judged = grant if tier == LANDLOCK else grant.replace(source=None, identity=None)
        try:
            fd = open_judged(judged)
        except ConfinementError:
            if tier == NAMESPACES and _denied(confinement, grant.path):
                continue  # beneath a mask: out of reach by mount already
            raise
        landlock.allow(ruleset_fd, fd, landlock.rights_for(grant.access) & rights)
        os.close(fd)


def _reaching_no_kernel(grants: Sequence[Grant], tier: str) -> Iterator[Grant]:
    """Put, in the second tier, all that is in the root but the kernel's own in place of the root.

    Root without a capability still owns what is in /sys and /proc/sys, and some of it names
    programs that run outside. In the first tier it is mounted read-only.
    """
    for grant in grants:
        if tier == NAMESPACES or grant.path != "/":
            yield grant
            continue
        for entry in os.scandir("/"):
            if entry.path not in _KERNELS_OWN and not entry.is_symlink():
                exact = not entry.is_dir()
                yield Grant(entry.path, grant.access, exact)


def _refuse_denials(confinement: Confinement) -> None:
    """Refuse a denial inside a grant, which Landlock has no way to express."""
    for denial in confinement.denials:
        for grant in confinement.grants:
            if grant.access & denial.access and _is_beneath(denial.path, grant.path):
                raise ConfinementError(
                    f"{denial.path} can't be denied inside the grant of {grant.path} without "
                    f"namespaces; grant the directories beside it instead"
                )


def _denied(confinement: Confinement, path: str) -> bool:
    return any(_is_beneath(path, denial.path) for denial in confinement.denials)


def _is_beneath(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
