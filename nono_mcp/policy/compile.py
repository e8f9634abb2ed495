"""From what a policy says and what stands where, to the confinement that is enforced.

Architecture invariant: this module does no I/O; listing a directory, which the second tier
needs to close a path inside a grant, is handed in.
"""

from __future__ import annotations

from nono_mcp.policy import environment
from nono_mcp.policy.denials import BY_MASK, BY_NAME, BY_NOTHING, denied, with_twins
from nono_mcp.policy.errors import RefusedError, quoted
from nono_mcp.policy.granted import Granted
from nono_mcp.policy.paths import covers
from nono_mcp.policy.request import Rule
from nono_sandbox.confinement import (
    CLOSED,
    LANDLOCK,
    NAMESPACES,
    READ,
    SEATBELT,
    WRITE,
    Confinement,
    Grant,
    Limits,
    Link,
    Network,
)
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from nono_mcp.policy.blocked import Blocked
    from nono_mcp.policy.denials import Twin
    from nono_mcp.policy.document import Document
    from nono_mcp.policy.effective_grants import Closed
    from nono_mcp.policy.paths import Place
    from nono_mcp.policy.protection import Entry
    from nono_mcp.policy.rules import Asked
    from nono_sandbox.confinement import Denial


DISK_FREE_BYTES_MIN = 1 << 30
"""What a call leaves free of a disk, unless a policy says how much it may add."""
TMP = "/tmp"  # noqa: S108 - in the first tier the worker's own, private one
_MEANS = {NAMESPACES: BY_MASK, LANDLOCK: BY_NOTHING, SEATBELT: BY_NAME}


class Plan(Value):
    """All that a confinement is compiled from."""

    document: Document
    tier: str
    workspace: Place
    cwd: Place | None
    """Where to start, if the person said so."""
    home: Place
    grants: Sequence[Asked]
    """Those that stand."""
    closed: Sequence[Closed]
    absent: Sequence[Entry]
    """Protected paths that aren't there."""
    private_home: str
    tmpdir: Place | None
    proxy_port: int
    environ: Mapping[str, str]
    children: Callable[[str], Iterable[Place]]
    twins: Callable[[Mapping[str, int]], Iterable[Twin]]
    """Looks for other names of what is closed."""
    blocked: Sequence[Blocked] = ()
    """What of *closed* is closed since it's a command that isn't to be run."""


class Compiled(Value):
    """The confinement, and what it follows from."""

    confinement: Confinement
    rules: tuple[Rule, ...]
    private_home: str | None
    unenforced_absent: tuple[str, ...]
    awaited: tuple[tuple[str, str], ...]
    notices: tuple[str, ...]
    blocked: tuple[tuple[str, str], ...]


def compile_policy(plan: Plan) -> Compiled:
    """Return the confinement that keeps *plan*.

    Raises:
        RefusedError: Its tier can't express it; the error says which path, and what to do.
    """
    granted = Granted(_grants(plan))
    means = _MEANS[plan.tier]
    denials, unenforced, awaited = denied(plan.grants, plan.closed, plan.absent, granted, means)
    codes = {one.place.path: one.code for one in plan.closed}
    denials, notices = with_twins(
        denials, plan.twins(_with_twins(plan, denials)), granted, codes, means
    )
    grants = granted.grants
    if plan.tier == LANDLOCK and denials:
        from nono_mcp.policy.expand import apart

        grants = apart(grants, denials, plan.children)
        denials = []
    home_is_private = plan.home.path != "/" and granted.around(plan.home.path) is None
    if plan.tier == NAMESPACES:
        _check_write_only(grants, (TMP, plan.home.path) if home_is_private else (TMP,))
    own = _own(plan, home_is_private=home_is_private)
    cwd = _cwd(plan, granted, home_is_private=home_is_private)
    confinement = Confinement(
        cwd=cwd,
        grants=(*own, *grants),
        denials=_speaking(plan, denials),
        links=_links(plan, granted) if plan.tier != LANDLOCK else (),
        sockets=_sockets(plan.grants),
        network=_network(plan.document, plan.tier, plan.proxy_port),
        limits=_limits(plan.document, plan.tier),
        environment=_environment(plan, cwd, home_is_private=home_is_private),
        ptrace=plan.document.process.ptrace or False,
        tier=plan.tier,
    )
    return Compiled(
        confinement,
        _rules(plan),
        plan.private_home if home_is_private else None,
        tuple(unenforced),
        tuple(awaited.items()),
        tuple(notices),
        _scripts(plan),
    )


def _speaking(plan: Plan, denials: Sequence[Denial]) -> tuple[Denial, ...]:
    """Return *denials*, those of blocked commands with what is said in their place."""
    says = {one.place.path: one.says for one in plan.blocked}
    return tuple(one.replace(says=says[one.path]) if one.path in says else one for one in denials)


def _scripts(plan: Plan) -> tuple[tuple[str, str], ...]:
    if not plan.blocked:
        return ()
    from nono_mcp.policy import blocked

    return tuple(sorted(blocked.scripts(plan.blocked).items()))


def _with_twins(plan: Plan, denials: Sequence[Denial]) -> dict[str, int]:
    """Return what is closed and may have another name in what is granted, and how far."""
    files = {
        one.place.path: one.access
        for one in plan.closed
        if one.place.kind == "file" and not one.is_shut
    }
    known = {one.place.path for one in plan.blocked if one.links_known}
    files |= {denial.path: denial.access for denial in denials}
    return {path: access for path, access in files.items() if path not in known}


def _check_write_only(grants: Sequence[Grant], own: Sequence[str]) -> None:
    """Refuse a write-only grant inside a directory of the sandbox's own.

    That is read and written, and Landlock's rules reach down through what is mounted in it.
    """
    for grant in grants:
        around = [path for path in own if covers(path, grant.path)]
        if around and not grant.access & READ:
            key = "allow-file" if grant.exact else "allow"
            raise RefusedError(
                f"{quoted(grant.path)} can't be written without being read: "
                f"the sandbox has a {quoted(around[0])} of its own around it",
                code="tier.write-only",
                path=grant.path,
                remedy=f"grant both by --{key} {quoted(grant.path)}, or a directory elsewhere",
            )


def _grants(plan: Plan) -> Iterator[Grant]:
    for asked in plan.grants:
        place = asked.place
        grant = Grant(place.path, asked.access, asked.exact, place.identity)
        if place.path == "/" and plan.tier != SEATBELT:
            from nono_mcp.policy.expand import top_level

            yield from top_level(grant, plan.children)
        else:
            yield grant


def _sockets(grants: Sequence[Asked]) -> tuple[tuple[int, int], ...]:
    """Return what is granted by itself, to be written, and no file: a local socket, it may be."""
    return tuple(
        asked.place.identity
        for asked in grants
        if asked.exact and asked.access & WRITE and asked.place.kind == "other"
        if asked.place.identity is not None
    )


def _own(plan: Plan, *, home_is_private: bool) -> list[Grant]:
    """Return the grants of what the sandbox brings itself."""
    own = []
    if home_is_private and plan.tier == NAMESPACES:
        own.append(Grant(plan.home.path, READ | WRITE, source=plan.private_home))
    elif home_is_private:
        own.append(Grant(plan.private_home, READ | WRITE))
    if plan.tmpdir is not None and plan.tier != NAMESPACES:
        own.append(Grant(plan.tmpdir.path, READ | WRITE, identity=plan.tmpdir.identity))
    return own


def _cwd(plan: Plan, granted: Granted, *, home_is_private: bool) -> str:
    """Return where to start: where the person said, or the best of what may be read."""
    if plan.cwd is not None:
        _check_cwd(plan.cwd.path, granted)
        return plan.cwd.path
    if granted.access(plan.workspace.path) & READ:
        return plan.workspace.path
    if not home_is_private:
        return "/"
    return plan.home.path if plan.tier == NAMESPACES else plan.private_home


def _check_cwd(path: str, granted: Granted) -> None:
    if not granted.access(path) & READ:
        raise RefusedError(
            f"the working directory {quoted(path)} lies outside what may be read",
            code="fs.cwd",
            path=path,
            remedy=f"add --read {quoted(path)}, or start elsewhere by --workdir DIR",
        )


def _links(plan: Plan, granted: Granted) -> tuple[Link, ...]:
    """Return the symlinks on the way to what is granted that no grant shows already."""
    links: dict[str, Link] = {}
    started_in = () if plan.cwd is None else (plan.cwd,)
    granted_places = (asked.place for asked in plan.grants)
    for place in (plan.home, plan.workspace, *started_in, *granted_places):
        for link in place.links:
            if granted.around(link.path) is None:
                links.setdefault(link.path, link)
    return tuple(links.values())


def _network(document: Document, tier: str, proxy_port: int) -> Network:
    rules = document.network
    if rules.mode == "proxy" or rules.deny_domains:
        from nono_mcp.policy import egress

        return egress.network(rules, tier, proxy_port)
    return Network(rules.mode or CLOSED, rules.connect_ports, rules.bind_ports)


def _limits(document: Document, tier: str) -> Limits:
    limits = document.limits
    # Who says how much may be added means that much; on macOS nothing looks at disks.
    is_reserved = limits.disk_max is None and tier != SEATBELT
    return Limits(
        wall_s=limits.timeout_s,
        cpu_s=limits.cpu_s,
        memory_bytes_max=limits.memory_max,
        processes_max=limits.processes_max,
        open_files_max=limits.open_files_max,
        file_size_bytes_max=limits.file_size_max,
        output_bytes_max=limits.output_max,
        disk_bytes_max=limits.disk_max,
        disk_free_bytes_min=DISK_FREE_BYTES_MIN if is_reserved else None,
    )


def _environment(plan: Plan, cwd: str, *, home_is_private: bool) -> tuple[tuple[str, str], ...]:
    moved = home_is_private and plan.tier != NAMESPACES
    own = {"HOME": plan.private_home if moved else plan.home.text, "PWD": cwd}
    if plan.tier == NAMESPACES:
        own["TMPDIR"] = TMP
    elif plan.tmpdir is not None:
        own["TMPDIR"] = plan.tmpdir.path
    section = plan.document.environment
    variables = environment.allowed(plan.environ, section.passed, section.set, own.items())
    if not plan.blocked or plan.tier == NAMESPACES or plan.tmpdir is None:
        return variables
    from nono_mcp.policy import blocked

    return blocked.led_to_scripts(variables, plan.tmpdir.path)


def _rules(plan: Plan) -> tuple[Rule, ...]:
    """Return every rule that a path may be explained by."""
    grants = [
        Rule(asked.place.path, asked.access, asked.text, exact=asked.exact) for asked in plan.grants
    ]
    closed = [
        Rule(one.place.path, one.access, one.text, one.code, one.remedy) for one in plan.closed
    ]
    return (*grants, *closed)
