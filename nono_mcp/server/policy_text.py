"""What a policy allows, told to a model: descriptions, hints, answers of `explain_policy`.

Architecture invariant: this module does no I/O. Everything said is derived from the policy in
force, nothing from what a client says of itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_types import ToolAnnotations

from nono_mcp.policy import ceiling, egress
from nono_mcp.policy.errors import quoted
from nono_mcp.policy.keys import LISTED
from nono_mcp.policy.paths import covers
from nono_mcp.server.arguments import TIMEOUT_S_DEFAULT, TIMEOUT_S_MAX
from nono_mcp.server.text import amount
from nono_sandbox.confinement import CLOSED, NAMESPACES, OPEN, READ, SEATBELT, WRITE
from nono_sandbox.support import NOT, PARTLY

if TYPE_CHECKING:
    from collections.abc import Container

    from nono_mcp.policy.decide import Allow, Deny
    from nono_mcp.policy.request import Prepared
    from nono_mcp.server.enforcement import Enforcement
    from nono_sandbox.confinement import Grant

_LISTED_MAX = 40
"""How many paths of one kind an answer lists."""

_FILES = ("read_file", "search_files", "edit_file", "write_file")
_RULES = """\
always: What isn't granted is refused ("Permission denied", "Read-only file system") or looks \
absent ("No such file or directory"). Credentials and the person's home are closed; so is the \
network, unless explain_policy says otherwise.
always: A denial isn't an error to work around: explain_policy tells the rule behind it. Tell the \
person, or do without.
request_access: request_access asks the person for one more path or host.
run_sandboxed: Every call starts anew: cd, variables and background processes end with it. Files \
stay, and so does what is in $HOME and, until what is granted changes, in $TMPDIR: both are the \
sandbox's own.
send_input: What takes long or is to stay (a server, a watcher) becomes a job by yield_s; \
read_output, send_input and stop_job work on it. Jobs end with the session.
run_sandboxed: Give code that you don't trust less: network "none", writes [] or a few paths.
read_output: Long output is cut in the middle; read_output has the rest, by the call's id.
rollback: An answer says what its call changed and how to undo it: rollback, not git checkout.
always: Independent calls may run at the same time.
"""
"""A rule a line, led by the tool that it goes with."""


def instructions(offered: Container[str]) -> str:
    """Return the few rules that a model should know, of those about tools that it's *offered*."""
    files = [one for one in _FILES if one in offered]
    uses = ["run_sandboxed to build, test and for git"] if "run_sandboxed" in offered else []
    uses += [f"for files {', '.join(files)}"] if files else []
    head = "Commands and file tools act in a sandbox that the kernel enforces."
    rules = [rule.split(": ", 1) for rule in _RULES.splitlines()]
    told = [text for tool, text in rules if tool == "always" or tool in offered]
    use = f" Use {', and '.join(uses)}." if uses else ""
    return "\n".join([head + use, "", *(f"- {text}" for text in told), ""])


def timeout_s_max(prepared: Prepared) -> float:
    """Return how long a call may take at most."""
    wall_s = prepared.confinement.limits.wall_s
    return TIMEOUT_S_MAX if wall_s is None else wall_s


def timeout_s_default(prepared: Prepared) -> float:
    """Return how long a call may take that doesn't say."""
    return min(TIMEOUT_S_DEFAULT, timeout_s_max(prepared))


def of_running(prepared: Prepared) -> ToolAnnotations:
    """Return what may truly be said of running commands under *prepared*."""
    writes = bool(theirs(prepared, WRITE))
    by_proxy = prepared.document.network.mode == egress.PROXY
    closed = prepared.confinement.network.mode == CLOSED and not by_proxy
    title = "Run a command in the sandbox"
    return _annotations(title, reads=not writes and closed, destroys=writes, reaches=not closed)


def of_telling(title: str) -> ToolAnnotations:
    """Return what may be said of a tool that only tells."""
    return _annotations(title, reads=True, repeats=True)


def of_changing(title: str) -> ToolAnnotations:
    """Return what may be said of a tool that changes files."""
    return _annotations(title, destroys=True)


def of_asking() -> ToolAnnotations:
    """Return what may be said of asking the person: by itself it changes nothing."""
    return _annotations("Ask the person for access")


def of_keeping() -> ToolAnnotations:
    """Return what may be said of taking a snapshot."""
    return _annotations("Keep the workspace as it is")


def _annotations(
    title: str,
    *,
    reads: bool = False,
    destroys: bool = False,
    repeats: bool = False,
    reaches: bool = False,
) -> ToolAnnotations:
    """Return all four hints, each said: what a client takes for granted of one left out differs."""
    return ToolAnnotations(
        title=title,
        read_only_hint=reads,
        destructive_hint=destroys,
        idempotent_hint=repeats,
        open_world_hint=reaches,
    )


def run_description(prepared: Prepared) -> str:
    """Return the description of `run_sandboxed`."""
    confinement = prepared.confinement
    return (
        "Run a command in the sandbox; returns its exit status and output (both streams, in "
        f"order). Workspace {quoted(confinement.cwd)}; writes: {_short(prepared)}; "
        f"network: {_network(prepared)}. Give command or argv. timeout_s: at most "
        f"{timeout_s_max(prepared):g} (default {timeout_s_default(prepared):g}); then all that it "
        "started is killed. Output over 10,000 characters is cut in the middle."
    )


def summary(prepared: Prepared, enforcement: Enforcement) -> str:
    """Return all that a session may do, as text."""
    limits = prepared.confinement.limits
    bounds = [f"time {timeout_s_max(prepared):g} s"]
    for name, value in (
        ("memory", limits.memory_bytes_max),
        ("file size", limits.file_size_bytes_max),
        ("output", limits.output_bytes_max),
        ("disk added", limits.disk_bytes_max),
    ):
        bounds += [f"{name} {amount(value)}"] if value is not None else []
    for name, number in (
        ("CPU seconds", limits.cpu_s),
        ("processes", limits.processes_max),
        ("open files", limits.open_files_max),
    ):
        bounds += [f"{name} {number:g}"] if number is not None else []
    lines = [
        f"Workspace: {quoted(prepared.confinement.cwd)}",
        f"Read and write: {_paths(theirs(prepared, WRITE))}",
        f"Read only: {_paths([g for g in prepared.confinement.grants if not g.access & WRITE])}",
        f"Closed inside those: {_closed(prepared)}",
        "Closed whatever is granted: credentials, keys, tokens, shell histories, agents' settings",
        f"Your own: {_own(prepared)}",
        f"Network: {_network(prepared)}",
        f"Limits of a call: {', '.join(bounds)}",
        f"Snapshots: {_snapshots(prepared)}",
        *_enforcement(enforcement),
    ]
    if prepared.unenforced_absent:
        names = _listed([quoted(path) for path in prepared.unenforced_absent])
        lines.append(f"Not there, and taken away again if a command makes them: {names}")
    if prepared.blocked:
        names = _listed([quoted(name) for name, _ in prepared.blocked])
        lines.append(f"Commands that aren't to be run: {names}")
    lines += [f"Notice: {notice}" for notice in prepared.notices]
    lines.append("Everything else is closed. Only a person can change the policy.")
    lines += _askable(prepared)
    return "\n".join(lines)


def answer(question: str, verdict: Allow | Deny, denied: str) -> str:
    """Return the answer to one question; *denied* is the line that a denial comes to."""
    if denied:
        return f"{question}: denied. {denied}"
    return f"{question}: allowed by {verdict.rule}"


def theirs(prepared: Prepared, access: int) -> list[Grant]:
    """Return the grants of the person's own files, the sandbox's own places left out."""
    own = {prepared.private_home, dict(prepared.confinement.environment).get("TMPDIR")}
    return [
        grant
        for grant in prepared.confinement.grants
        if grant.access & access and grant.source is None and grant.path not in own
    ]


def _askable(prepared: Prepared) -> list[str]:
    """Return what may be asked for by `request_access`, as a line, if anything may."""
    mode = ceiling.mode(prepared.document.ask)
    if mode == ceiling.NEVER:
        return []
    if mode != LISTED:
        return ["You may ask them (request_access) for whatever isn't closed."]
    verbs = {READ: "read", READ | WRITE: "read and write"}
    listed = [f"{verbs[access]} {quoted(path)}" for path, access in prepared.askable]
    listed += [f"connect to {quoted(host)}" for host in prepared.document.ask.hosts]
    return [f"You may ask them (request_access) to {_listed(listed)}."]


def may_write(prepared: Prepared, directory: str) -> bool:
    """Tell whether a worker may write *directory*, and all in it that isn't closed."""
    return any(covers(one.path, directory) and not one.exact for one in theirs(prepared, WRITE))


def _short(prepared: Prepared) -> str:
    writable = [grant.path for grant in theirs(prepared, WRITE)]
    if not writable:
        return "none"
    if writable == [prepared.confinement.cwd]:
        return "the workspace"
    return _listed([quoted(path) for path in writable], 4)


def _paths(grants: list[Grant]) -> str:
    return _listed([quoted(grant.path) for grant in grants])


def _listed(texts: list[str], listed_max: int = _LISTED_MAX) -> str:
    shown = ", ".join(texts[:listed_max]) or "nothing"
    more = len(texts) - listed_max
    return f"{shown} and {more} more" if more > 0 else shown


def _closed(prepared: Prepared) -> str:
    # Not the rules: which of the protected paths exist is not for a worker to know.
    return _listed([quoted(denial.path) for denial in prepared.confinement.denials])


def _own(prepared: Prepared) -> str:
    environment = dict(prepared.confinement.environment)
    own = ["$TMPDIR"] if "TMPDIR" in environment else []
    if prepared.private_home is not None:
        own.append("$HOME (a home of the sandbox's, kept for this workspace)")
    return _listed(own)


def _snapshots(prepared: Prepared) -> str:
    wanted = prepared.document.snapshots
    if wanted.enabled is False:
        return "none, so nothing can be undone"
    left = _listed([quoted(text) for text in wanted.exclude])
    exclude = f", {left} left out" if wanted.exclude else ""
    rollback = {
        "allow": "you may roll back",
        "confirm": "a rollback needs the person's yes",
        "never": "only the person rolls back (nono rollback)",
    }
    about = rollback.get(wanted.rollback or "", "a rollback asks the person, if it can")
    return f"the workspace before and after every call that may write{exclude}; {about}"


def _network(prepared: Prepared) -> str:
    rules = prepared.document.network
    if rules.mode == egress.PROXY:
        return egress.told(rules)
    network = prepared.confinement.network
    if network.mode == CLOSED:
        return "closed"
    if network.mode == OPEN:
        return "open (the machine's own)"
    connect = ", ".join(map(str, network.connect_ports)) or "none"
    bind = ", ".join(map(str, network.bind_ports)) or "none"
    return f"loopback ports only (connect: {connect}; listen: {bind})"


def _enforcement(enforcement: Enforcement) -> list[str]:
    mechanism = "namespaces, Landlock and seccomp"
    if enforcement.tier == SEATBELT:
        mechanism = "Seatbelt"
    elif enforcement.tier != NAMESPACES:
        reason = f" ({enforcement.reason})" if enforcement.reason else ""
        mechanism = f"Landlock and seccomp, without namespaces{reason}"
    lines = [f"Enforced by: {mechanism}"]
    for state, words in ((PARTLY, "Enforced in part"), (NOT, "Not enforced")):
        found = [f"{one.text} ({one.reason})" for one in enforcement.given if one.state == state]
        lines += [f"{words}: {'; '.join(found)}"] if found else []
    return lines
