"""Whether a path or host is open, and by which rule: the answer of `nono why`.

It speaks of the person's own files. Where the sandbox has something of its own at a path (a
private home, a private /tmp), a program there reads and writes that, and the person's stays shut.
File permissions aren't judged: what the system refuses the person, it refuses the worker too.

Architecture invariant: this module does no I/O; what a path leads to was looked up before.
"""

from __future__ import annotations

from nono_mcp.policy.effective_grants import PROTECTED
from nono_mcp.policy.errors import quoted
from nono_mcp.policy.paths import ancestors, covers
from nono_mcp.policy.protection import Catalogue
from nono_sandbox.confinement import CLOSED, LANDLOCK, NAMESPACES, OPEN, READ, SEATBELT, WRITE
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.policy.paths import Place
    from nono_mcp.policy.request import Prepared, Rule
    from nono_sandbox.confinement import Confinement, Link, Network

OPERATIONS = {"read": READ, "list": READ, "execute": READ, "write": WRITE}
"""What may be asked of a path. To write is to change, make, rename or remove."""

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
"""What stands in a worker's /dev besides its own terminals."""

PROC_FILES = (
    "cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "uptime", "version",
    "sys/kernel/ngroups_max", "sys/kernel/osrelease", "sys/kernel/pid_max",
    "sys/vm/max_map_count", "sys/vm/overcommit_memory",
)  # fmt: skip
"""What of /proc a worker may read that has none of its own."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")
CLOSED_TEXT = "network: closed"


class Allow(Value):
    """It is open, by *rule*."""

    rule: str


class Deny(Value):
    """It is shut, by *rule* if one says so, and *remedy* is what a person could do."""

    code: str
    reason: str
    rule: str = ""
    remedy: str = ""


def decide(prepared: Prepared, path: str, operation: str, kind: str = "file") -> Allow | Deny:
    """Decide whether a worker may do *operation* at the location *path*.

    Args:
        prepared: The policy as it is in force.
        path: Absolute, free of symlinks and `..`, as `resolve` tells it.
        operation: One of OPERATIONS.
        kind: What stands there, as `resolve` tells it; nothing is judged as it would be made.
    """
    needed = OPERATIONS[operation]
    confinement = prepared.confinement
    for denial in confinement.denials:
        if covers(denial.path, path) and denial.access & needed:
            return _closed(prepared, path, needed)
    if _access(confinement, path) & needed:
        if _is_closed_by_rule(prepared, path, needed):
            return _closed(prepared, path, needed)
        return Allow(_granting(prepared, path, needed))
    for top, judge_in in _KERNELS.items():
        if covers(top, path):
            return judge_in(path, operation, confinement.tier)
    if operation == "list" and _is_way(prepared, path):
        return Allow("the directories on the way to what is granted can be listed")
    return _shut(prepared, path, operation, kind)


def judge(prepared: Prepared, place: Place, operation: str) -> Allow | Deny:
    """Decide as `decide` does, by way of every symlink that leads to *place*."""
    verdict = decide(prepared, place.path, operation, place.kind)
    if isinstance(verdict, Allow):
        for link in place.links:
            if not _is_shown(prepared.confinement, link):
                return Deny(
                    "fs.link",
                    f"the symlink {quoted(link.path)} lies outside what is granted",
                    verdict.rule,
                    f"use the path it leads to: {quoted(place.path)}",
                )
    return verdict


def decide_host(network: Network, host: str, port: int) -> Allow | Deny:
    """Decide whether a worker may connect to TCP *port* of *host*."""
    if network.mode == OPEN:
        return Allow("network: open")
    where = f"{quoted(host)}:{port}"
    if network.mode == CLOSED:
        return Deny(
            "net.closed",
            f"{where} is out of reach: nothing leaves the sandbox",
            CLOSED_TEXT,
            "add --allow-domain HOST for one by HTTP; for all of it choose --profile open, or "
            'mode = "open" under [network] of a policy',
        )
    if host in LOOPBACK and port in network.connect_ports:
        return Allow(f"network: connect_ports {port}")
    code = "net.port" if host in LOOPBACK else "net.host"
    return Deny(
        code,
        f"{where} is out of reach: only some ports of this machine's loopback are open",
        "network: ports",
        f"add {port} to connect_ports under [network] of a policy" if code == "net.port" else "",
    )


def _access(confinement: Confinement, path: str) -> int:
    """Return what the grants give of the person's own *path*."""
    access = 0
    for grant in confinement.grants:
        here = grant.path == path if grant.exact else covers(grant.path, path)
        if here and grant.source is None:
            access |= grant.access
    return access


def _is_way(prepared: Prepared, path: str) -> bool:
    """Tell whether *path* is a directory of the fresh root's own, above what it holds.

    With a write-only grant in it none is listable, as that grant would be: but for those in
    the sandbox's own home and /tmp.
    """
    confinement = prepared.confinement
    if confinement.tier != NAMESPACES:
        return False
    own = ["/tmp"]  # noqa: S108 - the worker's own
    if prepared.private_home is not None:
        own.append(prepared.home)
    readable = all(grant.access & READ for grant in confinement.grants)
    if not readable and not any(covers(one, path) for one in own):
        return False
    held = [grant.path for grant in confinement.grants]
    held += [link.path for link in confinement.links]
    return path in ("/", *own) or any(path in ancestors(one) for one in held)


def _is_shown(confinement: Confinement, link: Link) -> bool:
    """Tell whether a worker finds the symlink *link* where it is."""
    if confinement.tier != NAMESPACES or link in confinement.links:
        return True
    hidden = any(covers(one.path, link.path) and one.access & READ for one in confinement.denials)
    return bool(_access(confinement, link.path)) and not hidden


def _of_devices(path: str, operation: str, tier: str | None) -> Allow | Deny:
    if tier == SEATBELT:
        return _of_macos_devices(path, operation)
    device = path.removeprefix("/dev/") in DEVICES and operation in ("read", "write")
    if device or (path == "/dev" and operation == "list" and tier == NAMESPACES):
        return Allow("every worker has a /dev of its own")
    return Deny("fs.own-tree", f"{quoted(path)} isn't in the /dev that the sandbox has of its own")


def _of_proc(path: str, operation: str, tier: str | None) -> Allow | Deny:
    name = path.removeprefix("/proc").removeprefix("/")
    # The numbers that a person knows are those of the person's own processes.
    if tier == NAMESPACES and not name.partition("/")[0].isdigit():
        if operation != "write":
            return Allow("every worker has a /proc of its own")
        reason = f"{quoted(path)} is in the /proc that the sandbox has of its own, to be read alone"
        return Deny("fs.own-tree", reason)
    if tier == LANDLOCK and operation == "read" and name in PROC_FILES:
        return Allow("every worker may read this of /proc")
    return Deny("fs.own-tree", f"{quoted(path)} isn't shown to a worker")


def _of_macos_devices(path: str, operation: str) -> Allow | Deny:
    from nono_sandbox.seatbelt import fixed

    written = path in (*fixed.DEVICES_WRITTEN, *fixed.TERMINALS) or covers(fixed.DESCRIPTORS, path)
    if operation in ("read", "write") and (
        written or (path in fixed.DEVICES_READ and operation == "read")
    ):
        return Allow("every worker has these devices")
    return Deny("fs.device", f"{quoted(path)} isn't among the devices that every worker has")


_KERNELS = {"/dev": _of_devices, "/proc": _of_proc}


def _granting(prepared: Prepared, path: str, needed: int) -> str:
    """Return the text of the nearest rule that gives *needed* at *path*."""
    rule = _nearest(prepared, path, needed, denials=False)
    return "the sandbox's own directory" if rule is None else rule.text


def _is_closed_by_rule(prepared: Prepared, path: str, needed: int) -> bool:
    """Tell whether what closes *path* is nearer than what grants it.

    Without namespaces there are no denials to enforce: what is closed isn't granted, or its
    permissions shut it anyway.
    """
    rule = _nearest(prepared, path, needed, denials=True)
    if rule is None or prepared.confinement.tier != LANDLOCK:
        return False
    return not any(covers(rule.path, grant.path) for grant in prepared.confinement.grants)


def _closed(prepared: Prepared, path: str, needed: int) -> Deny:
    """Return the denial of *path* by the nearest rule that closes it."""
    rule = _nearest(prepared, path, needed, denials=True)
    if rule is None:
        return Deny("fs.denied", f"{quoted(path)} is closed")
    return Deny(rule.code, f"{quoted(path)} is closed by {rule.text}", rule.text, rule.remedy)


def _nearest(prepared: Prepared, path: str, needed: int, *, denials: bool) -> Rule | None:
    found = [
        rule
        for rule in prepared.rules
        if bool(rule.code) == denials
        and rule.access & needed
        and (rule.path == path if rule.exact else covers(rule.path, path))
    ]
    return max(found, key=lambda rule: len(rule.path), default=None)


def _shut(prepared: Prepared, path: str, operation: str, kind: str) -> Deny:
    """Return why no grant opens *path*."""
    needed = OPERATIONS[operation]
    shown = quoted(path)
    if _nearest(prepared, path, needed, denials=True) is not None:
        return _closed(prepared, path, needed)
    protected = _protected(prepared, path, needed)
    if protected is not None:
        return protected
    remedy = _remedy(path, operation, kind)
    if _access(prepared.confinement, path):
        return _half(prepared, path, needed, remedy)
    if _nearest(prepared, path, needed, denials=False) is not None:
        reason = f"{shown} holds a part that is closed, and is granted only in pieces"
        return Deny("tier.in-pieces", reason)
    return _outside(prepared, path, remedy)


def _half(prepared: Prepared, path: str, needed: int, remedy: str) -> Deny:
    """Return the denial of what is granted for the other access."""
    rule = _granting(prepared, path, (READ | WRITE) & ~needed)
    if needed == WRITE:
        reason = f"{quoted(path)} may be read and not written"
        return Deny("fs.read-only", reason, rule, remedy)
    return Deny("fs.write-only", f"{quoted(path)} may be written and not read", rule, remedy)


def _outside(prepared: Prepared, path: str, remedy: str) -> Deny:
    shown = quoted(path)
    if covers("/sys", path):
        return Deny("fs.own-tree", f"{shown} isn't shown to a worker")
    if prepared.confinement.tier == NAMESPACES:
        if prepared.private_home is not None and covers(prepared.home, path):
            reason = f"{shown} is in your home, and the sandbox has a home of its own there"
            return Deny("fs.private-home", reason, "", remedy)
        if covers("/tmp", path):  # noqa: S108 - a comparison
            reason = f"{shown} is in your /tmp, and the sandbox has a /tmp of its own"
            return Deny("fs.private-tmp", reason, "", remedy)
    return Deny("fs.outside-grants", f"{shown} lies outside what is granted", "", remedy)


def _protected(prepared: Prepared, path: str, needed: int) -> Deny | None:
    """Return the denial of a protected path that isn't there, told by its name."""
    entry = Catalogue(prepared.home, {}).match(path)
    if entry is None or not entry.access & needed or covers(entry.path, prepared.home):
        return None
    if any(covers(up, entry.path) for up in prepared.given_up):
        return None
    text = f"protected: {entry.what}"
    return Deny(
        PROTECTED,
        f"{quoted(path)} is closed by {text}",
        text,
        f"to give its protection up, add --bypass {quoted(entry.path)}",
    )


def _remedy(path: str, operation: str, kind: str) -> str:
    if kind == "directory":
        return f"--{'allow' if operation == 'write' else 'read'} {quoted(path)}"
    if kind:
        return f"--{'allow-file' if operation == 'write' else 'read-file'} {quoted(path)}"
    parent = path.rpartition("/")[0] or "/"
    return f"--{'allow' if operation == 'write' else 'read'} {quoted(parent)}"
