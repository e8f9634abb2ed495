"""From what a policy says and what stands where, to the confinement that is enforced.

Architecture invariant: this module does no I/O; listing a directory, which the second tier
needs to close a path inside a grant, is handed in.
"""

from __future__ import annotations

from nono_mcp.policy import environment
from nono_mcp.policy.errors import RefusedError, quoted
from nono_mcp.policy.expand import apart, top_level
from nono_mcp.policy.paths import Place, ancestors
from nono_mcp.policy.request import Rule
from nono_mcp.policy.standing import PROTECTED
from nono_sandbox.confinement import (
    CLOSED,
    LANDLOCK,
    NAMESPACES,
    READ,
    WRITE,
    Confinement,
    Denial,
    Grant,
    Limits,
    Link,
    Network,
)
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from nono_mcp.policy.document import Document
    from nono_mcp.policy.protection import Entry
    from nono_mcp.policy.rules import Asked
    from nono_mcp.policy.standing import Closed


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
    environ: Mapping[str, str]
    children: Callable[[str], Iterable[Place]]


class Compiled(Value):
    """The confinement, and what it follows from."""

    confinement: Confinement
    rules: tuple[Rule, ...]
    private_home: str | None
    unenforced_absent: tuple[str, ...]


class Granted:
    """What is granted, by location; a directory's access is its own and what is around it."""

    def __init__(self, grants: Iterable[Grant]) -> None:
        access: dict[tuple[str, bool], int] = {}
        first: dict[tuple[str, bool], Grant] = {}
        for grant in grants:
            key = (grant.path, grant.exact)
            access[key] = access.get(key, 0) | grant.access
            first.setdefault(key, grant)
        self._directories: dict[str, int] = {}
        self.grants: list[Grant] = []
        # A directory stands before what is in it, so what is around it is known already.
        for key in sorted(access, key=lambda key: (key[0].count("/") * (key[0] != "/"), key)):
            around = self.access(key[0])
            joined = access[key] | around
            if joined == around:
                continue
            if not first[key].exact:
                self._directories[key[0]] = joined
            self.grants.append(first[key].replace(access=joined))

    def access(self, path: str) -> int:
        """Return the access that the nearest granted directory gives to *path*."""
        around = self.around(path)
        return 0 if around is None else self._directories[around]

    def around(self, path: str) -> str | None:
        """Return the nearest granted directory that covers *path*."""
        for above in (path, *ancestors(path)):
            if above in self._directories:
                return above
        return None


def compile_policy(plan: Plan) -> Compiled:
    """Return the confinement that keeps *plan*.

    Raises:
        RefusedError: Its tier can't express it; the error says which path, and what to do.
    """
    granted = Granted(
        grant for asked in plan.grants for grant in top_level(_grant(asked), plan.children)
    )
    denials, unenforced = _denials(plan, granted)
    grants = granted.grants
    if plan.tier == LANDLOCK:
        grants = apart(grants, denials, plan.children)
        denials = []
    home_is_private = plan.home.path != "/" and granted.around(plan.home.path) is None
    own = _own(plan, home_is_private=home_is_private)
    cwd = _cwd(plan, granted, home_is_private=home_is_private)
    confinement = Confinement(
        cwd=cwd,
        grants=(*own, *grants),
        denials=tuple(denials),
        links=_links(plan, granted) if plan.tier == NAMESPACES else (),
        network=_network(plan.document),
        limits=_limits(plan.document),
        environment=_environment(plan, cwd, home_is_private=home_is_private),
        ptrace=plan.document.process.ptrace or False,
        tier=plan.tier,
    )
    return Compiled(
        confinement,
        _rules(plan),
        plan.private_home if home_is_private else None,
        tuple(unenforced),
    )


def _grant(asked: Asked) -> Grant:
    place = asked.place
    return Grant(place.path, asked.access, asked.exact, place.identity)


def _denials(plan: Plan, granted: Granted) -> tuple[list[Denial], list[str]]:
    """Return what is closed inside grants, and the names there that can't be."""
    access: dict[str, int] = {}
    unenforced: dict[str, None] = {}
    for one in plan.closed:
        path = one.place.path
        reached = granted.access(path) & one.access
        if reached:
            _check_expressible(one, reached, plan.tier, granted)
            access[path] = access.get(path, 0) | one.access
        for link in one.place.links:
            # The name may be given to another thing: what is closed is where it led.
            if granted.access(link.path) & one.access & WRITE:
                _check_replaceable(one, link)
                unenforced[link.path] = None
    for entry in plan.absent:
        if granted.access(entry.path) & entry.access & WRITE:
            unenforced[entry.path] = None
    _refuse_grants_within(access, plan)
    return _outermost(access), list(unenforced)


def _outermost(access: dict[str, int]) -> list[Denial]:
    """Return a denial a path, but for those that another around them says already."""
    denials = []
    for path in sorted(access):
        around = 0
        for above in ancestors(path):
            around |= access.get(above, 0)
        if access[path] & ~around:
            denials.append(Denial(path, access[path]))
    return denials


def _check_expressible(one: Closed, reached: int, tier: str, granted: Granted) -> None:
    """Refuse what no mechanism at hand can close."""
    path = one.place.path
    if not one.place.kind:
        raise RefusedError(
            f"{one.text}: {quoted(path)} doesn't exist, and a name that is made later stays open",
            code=one.code,
            path=path,
            remedy="make it first, or deny its directory",
        )
    if tier != LANDLOCK or not reached & WRITE:
        return
    around = granted.around(path) or "/"
    instead = "grant the directories beside it instead"
    if one.code == PROTECTED:
        instead += f", or add --bypass {quoted(one.place.text)}"
    raise RefusedError(
        f"{quoted(path)} is closed ({one.text}) inside {quoted(around)}, which may be written: "
        "without namespaces, as here, that can't be enforced",
        code="tier.deny-inside-allow",
        path=path,
        remedy=instead,
    )


def _check_replaceable(one: Closed, link: Link) -> None:
    """Refuse a writable symlink on the way to our own state or to what the person denies."""
    if one.code == PROTECTED:
        return
    raise RefusedError(
        f"{one.text}: {quoted(link.path)}, a symlink on the way to it, could be replaced",
        code=one.code,
        path=link.path,
        remedy="grant less around it",
    )


def _refuse_grants_within(closed: dict[str, int], plan: Plan) -> None:
    """Refuse a grant inside what is closed inside another grant.

    Its bypass names a part, and a mask hides the whole.
    """
    for asked in plan.grants:
        for above in (asked.place.path, *ancestors(asked.place.path)):
            if closed.get(above, 0) & asked.access:
                raise RefusedError(
                    f"{asked.text}: {quoted(above)}, around it, is closed inside another grant",
                    code=PROTECTED,
                    path=asked.place.path,
                    remedy=f"add --bypass {quoted(above)}, or grant less around it",
                )


def _own(plan: Plan, *, home_is_private: bool) -> list[Grant]:
    """Return the grants of what the sandbox brings itself."""
    own = []
    if home_is_private and plan.tier == NAMESPACES:
        own.append(Grant(plan.home.path, READ | WRITE, source=plan.private_home))
    elif home_is_private:
        own.append(Grant(plan.private_home, READ | WRITE))
    if plan.tmpdir is not None and plan.tier == LANDLOCK:
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
            remedy=f"add --read {quoted(path)}, or start elsewhere by --workdir",
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


def _network(document: Document) -> Network:
    rules = document.network
    return Network(rules.mode or CLOSED, rules.connect_ports, rules.bind_ports)


def _limits(document: Document) -> Limits:
    limits = document.limits
    return Limits(
        wall_s=limits.timeout_s,
        cpu_s=limits.cpu_s,
        memory_bytes_max=limits.memory_max,
        processes_max=limits.processes_max,
        open_files_max=limits.open_files_max,
        file_size_bytes_max=limits.file_size_max,
        output_bytes_max=limits.output_max,
    )


def _environment(plan: Plan, cwd: str, *, home_is_private: bool) -> tuple[tuple[str, str], ...]:
    moved = home_is_private and plan.tier == LANDLOCK
    own = {"HOME": plan.private_home if moved else plan.home.text, "PWD": cwd}
    if plan.tier == NAMESPACES:
        own["TMPDIR"] = "/tmp"  # noqa: S108 - the worker's own, private one
    elif plan.tmpdir is not None:
        own["TMPDIR"] = plan.tmpdir.path
    section = plan.document.environment
    return environment.allowed(plan.environ, section.passed, section.set, own.items())


def _rules(plan: Plan) -> tuple[Rule, ...]:
    """Return every rule that a path may be explained by."""
    grants = [
        Rule(asked.place.path, asked.access, asked.text, exact=asked.exact) for asked in plan.grants
    ]
    closed = [
        Rule(one.place.path, one.access, one.text, one.code, one.remedy) for one in plan.closed
    ]
    return (*grants, *closed)
