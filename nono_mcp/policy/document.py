"""What a policy says, as frozen values, and how one adds to another; `keys` has its keys.

Architecture invariant: this module does no I/O and looks at no path.
"""

from __future__ import annotations

from nono_mcp.policy.keys import FIELDS, LISTED, PROXY_KEYS
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    S = TypeVar("S", bound=Value)
    T = TypeVar("T")


class FilesystemSection(Value):
    """Paths as they were written: absolute, or led by `~` or a variable."""

    allow: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    allow_file: tuple[str, ...] = ()
    read_file: tuple[str, ...] = ()
    write_file: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    deny_write: tuple[str, ...] = ()
    bypass: tuple[str, ...] = ()
    tools: bool | None = None
    read_only: bool | None = None


class RouteSection(Value):
    """What one route says; of a provider that is known, only what differs has to be said."""

    upstreams: tuple[str, ...] = ()
    placements: tuple[str, ...] = ()
    key_variables: tuple[str, ...] = ()
    base_urls: tuple[str, ...] = ()
    phantom_prefix: str | None = None
    tls: bool | None = None


class NetworkSection(Value):
    """What a worker may reach; ports without a mode mean mode "ports", hosts mode "proxy"."""

    mode: str | None = None
    connect_ports: tuple[int, ...] = ()
    bind_ports: tuple[int, ...] = ()
    allow_domains: tuple[str, ...] = ()
    deny_domains: tuple[str, ...] = ()
    allow_addresses: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    endpoints: tuple[str, ...] = ()
    upstream_proxy: str | None = None
    upstream_proxy_credential: str | None = None
    upstream_ca: str | None = None
    routes: tuple[tuple[str, RouteSection], ...] = ()


class LimitsSection(Value):
    """Upper bounds of one call; None leaves what is beneath."""

    timeout_s: float | None = None
    cpu_s: float | None = None
    memory_max: int | None = None
    processes_max: int | None = None
    open_files_max: int | None = None
    file_size_max: int | None = None
    output_max: int | None = None
    disk_max: int | None = None


class EnvironmentSection(Value):
    """Variables passed on by name, and variables given a value."""

    passed: tuple[str, ...] = ()
    set: tuple[tuple[str, str], ...] = ()


class ProcessSection(Value):
    """What processes may do to each other."""

    ptrace: bool | None = None


class CommandsSection(Value):
    """Commands that aren't to be run, by name or path."""

    blocked: tuple[str, ...] = ()


class EnforcementSection(Value):
    """What must be enforced for anything to run; nothing named means all this machine gives."""

    require: tuple[str, ...] = ()
    best_effort: bool | None = None


class SnapshotsSection(Value):
    """What is kept of the workspace, to go back to."""

    enabled: bool | None = None
    exclude: tuple[str, ...] = ()
    quota: int | None = None
    broad: bool | None = None
    rollback: str | None = None


class AuditSection(Value):
    """What is recorded that needn't be: a server's calls always are."""

    runs: bool | None = None


class AskSection(Value):
    """What an agent may ask the person for; a list without a mode means mode "listed"."""

    mode: str | None = None
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


class AgentSection(Value):
    """What an agent is offered; see `toolsets`."""

    toolset: str | None = None


class Document(Value):
    """One policy; *extends* None means what its place implies (a profile: "default")."""

    description: str = ""
    extends: tuple[str, ...] | None = None
    filesystem: FilesystemSection = FilesystemSection()
    network: NetworkSection = NetworkSection()
    limits: LimitsSection = LimitsSection()
    environment: EnvironmentSection = EnvironmentSection()
    process: ProcessSection = ProcessSection()
    commands: CommandsSection = CommandsSection()
    enforcement: EnforcementSection = EnforcementSection()
    snapshots: SnapshotsSection = SnapshotsSection()
    audit: AuditSection = AuditSection()
    ask: AskSection = AskSection()
    agent: AgentSection = AgentSection()


SECTIONS = {
    "filesystem": FilesystemSection,
    "network": NetworkSection,
    "limits": LimitsSection,
    "environment": EnvironmentSection,
    "process": ProcessSection,
    "commands": CommandsSection,
    "enforcement": EnforcementSection,
    "snapshots": SnapshotsSection,
    "audit": AuditSection,
    "ask": AskSection,
    "agent": AgentSection,
}


def merge(base: Document, over: Document) -> Document:
    """Return *base* with what *over* adds: lists grow, single values are replaced.

    So nothing that *base* denies or requires is lost. A network mode replaces the ports of
    another.
    """
    environment = EnvironmentSection(
        _union(base.environment.passed, over.environment.passed),
        tuple({**dict(base.environment.set), **dict(over.environment.set)}.items()),
    )
    return Document(
        description=over.description or base.description,
        extends=(),
        filesystem=_merged("filesystem", base.filesystem, over.filesystem),
        network=_network(base.network, over.network),
        limits=_merged("limits", base.limits, over.limits),
        environment=environment,
        process=_merged("process", base.process, over.process),
        commands=_merged("commands", base.commands, over.commands),
        enforcement=_merged("enforcement", base.enforcement, over.enforcement),
        snapshots=_merged("snapshots", base.snapshots, over.snapshots),
        audit=_merged("audit", base.audit, over.audit),
        ask=_ask(base.ask, over.ask),
        agent=_merged("agent", base.agent, over.agent),
    )


def _merged(section: str, base: S, over: S) -> S:
    changes: dict[str, object] = {}
    for field in FIELDS:
        if field.section != section:
            continue
        value = getattr(over, field.name())
        if isinstance(value, tuple):
            changes[field.name()] = _union(getattr(base, field.name()), value)
        elif value is not None:
            changes[field.name()] = value
    return base.replace(**changes)


def _network(base: NetworkSection, over: NetworkSection) -> NetworkSection:
    mode = implied_mode(over)
    if mode is None:
        return base
    if mode != base.mode or mode not in ("ports", "proxy"):
        # What is denied stays denied: an open network, where that can't be, is refused for it.
        return over.replace(mode=mode, deny_domains=_union(base.deny_domains, over.deny_domains))
    return _merged("network", base, over.replace(mode=mode)).replace(
        sources=tuple({**dict(base.sources), **dict(over.sources)}.items()),
        routes=tuple({**dict(base.routes), **dict(over.routes)}.items()),
    )


def _ask(base: AskSection, over: AskSection) -> AskSection:
    merged = _merged("ask", base, over)
    # A list says nothing beside another mode than its own.
    return merged if merged.mode in (None, LISTED) else AskSection(merged.mode)


def implied_mode(section: NetworkSection) -> str | None:
    """Return the mode that *section* says or, by what it lists, means."""
    if section.mode is not None:
        return section.mode
    if section.connect_ports or section.bind_ports:
        return "ports"
    return "proxy" if any(getattr(section, key) for key in PROXY_KEYS) else None


def _union(base: tuple[T, ...], over: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys((*base, *over)))
