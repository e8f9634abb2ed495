"""What is held on macOS, guarantee by guarantee, in the words of `nono_sandbox.support`.

"enforced" is what Seatbelt decides by a rule of the profile, "partly" what it decides with the
exception named, "not" what macOS has no means for here. None of it has been tried on a Mac.

Architecture invariant: data, and functions of values; whoever asks the machine hands in facts.
"""

from __future__ import annotations

from nono_sandbox.confinement import CLOSED, OPEN
from nono_sandbox.seatbelt.launcher import SANDBOX_EXEC
from nono_sandbox.values import Value

ENFORCED = "enforced"
PARTLY = "partly"
NOT = "not"

RELEASE_MIN = 13
"""The oldest release whose names of operations the profiles use; not tried on any."""


class Facts(Value):
    """What was asked of the machine."""

    release: str
    """As sw_vers has it, "15.6.1"; empty if it isn't macOS."""
    sandbox_exec: bool
    """The program is there."""
    reason: str = ""
    """Why it doesn't take a profile, if it doesn't."""


HELD = {
    "files": (
        PARTLY,
        "file-* by grant",
        "what leads to a grant shows its own metadata, and the root directory its names",
    ),
    "deny-inside-allow": (
        PARTLY,
        "denials after grants, by every name that APFS holds equal; no hard links are made",
        "another name of the same bytes that existed before stays open where it isn't found",
    ),
    "metadata": (ENFORCED, "file-write-* by grant, no set-id bits", ""),
    "network": (
        PARTLY,
        "network-* by rule, no resolver",
        "loopback has no copy of the session's own: programs can't talk TCP among themselves",
    ),
    "unix-sockets": (
        PARTLY,
        "network-outbound by path, launchd's denied; mach services by a list",
        "a socket inside a grant can be connected to",
    ),
    "processes": (
        ENFORCED,
        "process-info and signals to the same call alone, sysctl-read by a list",
        "",
    ),
    "leftovers": (
        PARTLY,
        "end of session, group and descendants, by identities",
        "who leaves its session while its parent is gone, before anybody looked, stays; confined",
    ),
    "private-tmp": (
        PARTLY,
        "a TMPDIR and HOME of its own, by environment",
        "programs that insist on /tmp fail; shared memory of Python and OpenMP is the machine's",
    ),
    "limits": (
        PARTLY,
        "rlimits, the lane, the supervisor",
        "memory and disk have none, and processor time is each process's own",
    ),
    "privilege": (
        PARTLY,
        "no set-id program, descriptor, variable or core dump; mach services by a list",
        "root stays root: there are no capabilities to give up",
    ),
}
"""By guarantee: (state, mechanism, reason)."""

_PORTS = (
    PARTLY,
    "network-* by port, no resolver",
    "the named ports are open, at every address of this machine",
)
_OPENED = (NOT, "", "the policy opens it")


def held(guarantee: str, network: str) -> tuple[str, str, str]:
    """Return state, mechanism and reason of a *guarantee*, for a policy with that *network*."""
    if guarantee == "network" and network != CLOSED:
        return _OPENED if network == OPEN else _PORTS
    return HELD[guarantee]


def unusable(facts: Facts) -> str:
    """Return why nothing can be confined on this machine, or nothing."""
    if not facts.release:
        return "this isn't macOS"
    major = facts.release.partition(".")[0]
    if not major.isdecimal() or int(major) < RELEASE_MIN:
        return f"macOS {facts.release}; the profiles are written for {RELEASE_MIN} and later"
    if not facts.sandbox_exec:
        return f"{SANDBOX_EXEC} is missing"
    return facts.reason
