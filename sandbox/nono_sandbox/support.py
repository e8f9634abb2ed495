"""What this machine can enforce: facts found by trying, guarantees that follow from them.

`probe` asks the kernel; `guarantees` says what each tier then gives, by which mechanism, and why
not where it doesn't. What is said here is what the code enforces, no more.

Architecture invariant: all but `probe` is a function of values.
"""

from __future__ import annotations

import os

from nono_sandbox import system
from nono_sandbox.cgroups import session_groups
from nono_sandbox.confinement import CLOSED, LANDLOCK, NAMESPACES, OPEN, SEATBELT
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nono_sandbox.seatbelt.table import Facts

ENFORCED = "enforced"
PARTLY = "partly"
NOT = "not"


class Support(Value):
    """The facts about a machine."""

    kernel: str
    machine: str
    landlock_abi: int
    landlock_errata: int
    """A bit for each mistake of the kernel's that is known to be mended."""
    namespaces_reason: str
    """Why a process can't have namespaces of its own, or nothing."""
    filter_known: bool = True
    """There is a table of system calls for this machine."""
    groups_reason: str = "they weren't looked for"
    """Why there can be no control groups to hold a session's calls by, or nothing."""
    macos: Facts | None = None
    """What there is to know of a Mac; the Linux kernel's facts are nothing then."""


class Guarantee(Value):
    """One thing a person is told, and how far it holds here."""

    id: str
    text: str
    state: str
    """ENFORCED, PARTLY or NOT."""
    mechanism: str
    reason: str = ""
    """What is missing, unless it is ENFORCED."""


class _Row(Value):
    id: str
    text: str
    namespaces: tuple[str, str, str]
    """(state, mechanism, reason) in the first tier."""
    landlock: tuple[str, str, str]


_COUNTED = (
    PARTLY,
    "rlimits, supervisor",
    "memory, processes and disk of a whole call are counted 10 to 40 times a second",
)
_BY_GROUPS = (
    PARTLY,
    "control groups, rlimits, supervisor",
    "disk, and which tasks are processes, are counted 10 to 40 times a second",
)
_TABLE = (
    _Row(
        "files",
        "what isn't granted can't be read or written, nor seen",
        (ENFORCED, "fresh root, Landlock", ""),
        (PARTLY, "Landlock", "stat and inotify still show names, sizes and attributes"),
    ),
    _Row(
        "deny-inside-allow",
        "a path inside a grant stays closed",
        (
            PARTLY,
            "mounts over the denied paths",
            "what somebody outside puts under a denied name is open to the calls that run then",
        ),
        (
            PARTLY,
            "its siblings are granted instead",
            "inside what may be written it can't be, and is refused",
        ),
    ),
    _Row(
        "metadata",
        "modes, owners, times and attributes outside write grants stay as they are",
        (ENFORCED, "read-only mounts", ""),
        (ENFORCED, "changed on behalf, seccomp", ""),
    ),
    _Row(
        "network",
        "nothing reaches or is reached by the network",
        (ENFORCED, "network namespace, seccomp", ""),
        (ENFORCED, "Landlock, seccomp", ""),
    ),
    _Row(
        "unix-sockets",
        "sockets of programs outside are out of reach",
        (
            PARTLY,
            "fresh root, network namespace, connect on behalf",
            "datagrams can be sent to a socket inside a grant",
        ),
        (ENFORCED, "connect, bind and send on behalf, seccomp", ""),
    ),
    _Row(
        "processes",
        "other processes can't be seen, signalled, traced or read",
        (ENFORCED, "PID namespace, Landlock's scopes", ""),
        (PARTLY, "Landlock's scopes, no /proc", "that a process exists can be found out"),
    ),
    _Row(
        "leftovers",
        "nothing that a call started survives it",
        (ENFORCED, "PID namespace", ""),
        (ENFORCED, "subreaper, kill within the call's Landlock domain", ""),
    ),
    _Row(
        "private-tmp",
        "temporary files, shared memory and System V IPC are its own",
        (ENFORCED, "mount and IPC namespaces", ""),
        (PARTLY, "a TMPDIR of its own, seccomp", "programs that insist on /tmp or /dev/shm fail"),
    ),
    _Row(
        "limits",
        "time, processor, memory, processes, open files and file size are bounded",
        (
            PARTLY,
            "PID namespace, rlimits, supervisor",
            "memory and disk of a whole call are counted 10 to 40 times a second",
        ),
        _COUNTED,
    ),
    _Row(
        "privilege",
        "no capability, no set-id program, no inherited descriptor, variable or core dump",
        (ENFORCED, "no_new_privs, empty capability sets, seccomp", ""),
        (ENFORCED, "no_new_privs, empty capability sets, seccomp", ""),
    ),
)

_OPENED = (NOT, "", "the policy opens it")
_BY_PORTS = {
    NAMESPACES: (PARTLY, "network namespace, seccomp", "the named loopback ports are carried"),
    LANDLOCK: (PARTLY, "connect and bind on behalf, seccomp", "the named loopback ports are open"),
}
_ABSTRACT = (NOT, "fresh root", "abstract sockets need a closed network or Landlock ABI 6")
_BY_SCOPES = (
    PARTLY,
    "fresh root, Landlock's scopes",
    "a socket inside a grant can be connected to where the network is open",
)
_SCOPES_ABI = 6


def probe() -> Support:
    """Find out what this machine gives, by having processes try it."""
    machine = os.uname()
    if SEATBELT in system.BACKEND.tiers:
        from nono_sandbox.seatbelt import asking

        return Support(machine.release, machine.machine, 0, 0, "", macos=asking.ask())
    from nono_sandbox import forkserver, landlock
    from nono_sandbox.seccomp.syscalls import AUDIT_ARCH

    return Support(
        kernel=machine.release,
        machine=machine.machine,
        landlock_abi=landlock.abi_version(),
        landlock_errata=landlock.errata(),
        namespaces_reason=forkserver.trial(),
        filter_known=machine.machine in AUDIT_ARCH,
        groups_reason=session_groups.why_none(),
    )


def unavailable(support: Support, tier: str) -> str:
    """Return why *tier* can't be had on this machine, or nothing."""
    if tier == SEATBELT:
        from nono_sandbox.seatbelt import table

        return "this isn't macOS" if support.macos is None else table.unusable(support.macos)
    from nono_sandbox.domain import ABI_REQUIRED

    if not support.filter_known:
        return f"no table of system calls for {support.machine}"
    if tier == NAMESPACES and support.namespaces_reason:
        return support.namespaces_reason
    if not support.landlock_abi:
        return "Landlock isn't in this kernel, or wasn't turned on at boot (lsm=landlock,...)"
    needed = ABI_REQUIRED[tier]
    if support.landlock_abi < needed:
        return f"Landlock ABI {support.landlock_abi}, and {needed} is needed"
    return ""


def best_tier(support: Support) -> str:
    """Return the tier that is taken where none is insisted on; nothing if there is none."""
    return next((tier for tier in system.BACKEND.tiers if not unavailable(support, tier)), "")


def guarantees(support: Support, tier: str, network: str = CLOSED) -> tuple[Guarantee, ...]:
    """Return what *tier* gives on this machine, for a policy whose network is as said."""
    missing = unavailable(support, tier)
    rows = []
    for row in _TABLE:
        held = (NOT, "", missing) if missing else _held(row, support, tier, network)
        rows.append(Guarantee(row.id, row.text, *held))
    return tuple(rows)


def _held(row: _Row, support: Support, tier: str, network: str) -> tuple[str, str, str]:
    """Return state, mechanism and reason of one guarantee in a tier that can be had."""
    if tier == SEATBELT:
        from nono_sandbox.seatbelt import table

        return table.held(row.id, network)
    if row.id == "network" and network != CLOSED:
        return _OPENED if network == OPEN else _BY_PORTS[tier]
    if row.id == "limits" and not support.groups_reason:
        return _BY_GROUPS
    from nono_sandbox.namespaces import bounds_pids

    if row.id == "limits" and not bounds_pids(support.kernel):
        return _COUNTED
    own_network = tier == NAMESPACES and network != OPEN
    scoped = support.landlock_abi >= _SCOPES_ABI
    if row.id == "unix-sockets" and tier == NAMESPACES and not own_network:
        return _BY_SCOPES if scoped else _ABSTRACT
    return row.namespaces if tier == NAMESPACES else row.landlock


def lacking(required: Sequence[str], given: Sequence[Guarantee]) -> tuple[Guarantee, ...]:
    """Return which of the guarantees named in *required* aren't given, even in part."""
    return tuple(one for one in given if one.id in required and one.state == NOT)
