"""What is held on macOS, guarantee by guarantee: the rows `doctor` prints beside Linux's.

"fully" is what Seatbelt decides by a rule of the profile, "partly" what it decides with the
exception named, "not" what macOS has no means for here. None of it has been tried on a Mac.

Architecture invariant: data, and functions of values; whoever asks the machine hands in facts.
"""

from __future__ import annotations

from nono_sandbox.seatbelt.launcher import SANDBOX_EXEC
from nono_sandbox.values import Value

FULLY = "fully"
PARTLY = "partly"
NOT = "not"


class Row(Value):
    """One guarantee, how this machine gives it, and what is missing."""

    id: str
    guarantee: str
    enforced: str
    mechanism: str
    missing: str = ""


class Facts(Value):
    """What was asked of the machine."""

    release: str
    """As sw_vers has it, "15.6.1"; empty if it isn't macOS."""
    sandbox_exec: bool
    """The program is there."""
    compiles: bool
    """It took a profile (launcher.check_text)."""
    nested: bool = False
    """This process is in a sandbox itself, and macOS applies no second one."""


RELEASE_MIN = 13
"""The oldest release whose names of operations the profiles use; not tried on any."""

ROWS = (
    Row("read", "files outside grants unreadable", FULLY, "file-read* by grant"),
    Row("write", "files outside grants unwritable", FULLY, "file-write* by grant"),
    Row(
        "names",
        "names, sizes, activity of the rest unseen",
        PARTLY,
        "file-read-metadata by grant, no FSEvents",
        "the directories that lead to a grant show their own metadata; the root lists its names",
    ),
    Row(
        "deny-inside-allow",
        "denials inside grants, by every name APFS holds equal, absent ones too",
        PARTLY,
        "denials after grants; parents can't be moved; no hard links are made",
        "a hard link that existed before, another name of the same bytes; names on HFS+",
    ),
    Row("set-id", "no set-id bits", FULLY, "file-write-setugid denied"),
    Row("execute", "only what may be read is executed", FULLY, "process-exec by grant"),
    Row(
        "network",
        "no network but what is granted; no DNS when closed",
        PARTLY,
        "network-* by rule; mDNSResponder closed",
        "a port that is granted is granted at every address of this machine, and loopback has no "
        "copy of the session's own: closed, programs can't talk TCP among themselves",
    ),
    Row(
        "unix-sockets",
        "unix sockets outside grants unreachable",
        FULLY,
        "network-outbound by path, launchd's sockets denied",
    ),
    Row(
        "services",
        "keychain, launchd, pasteboard, apple events, preferences out of reach",
        FULLY,
        "mach-lookup by list, no lsopen, no appleevent-send",
    ),
    Row(
        "processes",
        "other processes unseen and unkillable",
        FULLY,
        "process-info*, signal to the same sandbox; sysctl-read by list",
    ),
    Row(
        "survivors",
        "nothing survives the call",
        PARTLY,
        "end of session, group and descendants by identity",
        "a daemon that detaches on purpose, before anyone looks; it stays confined",
    ),
    Row(
        "terminals",
        "other terminals out of reach",
        FULLY,
        "terminals opened by the program itself; the worker leads its own session",
    ),
    Row(
        "ipc",
        "no shared memory or semaphores with the rest",
        PARTLY,
        "names of Python's multiprocessing and OpenMP alone",
        "those names are shared with the person's other programs and other sessions",
    ),
    Row(
        "private-tmp",
        "private /tmp and home",
        NOT,
        "a TMPDIR and HOME of the session's own, by environment",
        "macOS has no mounts of one's own",
    ),
    Row("cpu", "limit: cpu, file size, open files, core", FULLY, "setrlimit(2)"),
    Row("wall", "limit: wall clock, output", FULLY, "the supervisor"),
    Row("memory", "limit: memory", NOT, "", "macOS takes RLIMIT_AS and doesn't keep it"),
    Row("count", "limit: processes", NOT, "", "RLIMIT_NPROC counts all of the person's"),
    Row("disk", "limit: disk growth", NOT, "", "no quota for a directory"),
    Row("ptrace", "tracing own processes, when granted", NOT, "", "needs Apple's entitlement"),
)


def doctor(facts: Facts) -> tuple[Row, ...]:
    """Return the rows for this machine; where nothing can be applied, none is enforced."""
    why = _unusable(facts)
    if why:
        return tuple(row.replace(enforced=NOT, mechanism="", missing=why) for row in ROWS)
    return ROWS


def _unusable(facts: Facts) -> str:
    if not facts.release:
        return "this isn't macOS"
    major = facts.release.partition(".")[0]
    if not major.isdecimal() or int(major) < RELEASE_MIN:
        return f"macOS {facts.release}; the profiles are written for {RELEASE_MIN} and later"
    if not facts.sandbox_exec:
        return f"{SANDBOX_EXEC} is missing"
    if facts.nested:
        return "this process is sandboxed itself, and macOS applies no second profile"
    if not facts.compiles:
        return f"{SANDBOX_EXEC} doesn't take the profile"
    return ""
