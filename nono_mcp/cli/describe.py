"""The policy in force, told: by `-v` before a program starts, by `--dry-run` instead of it."""

from __future__ import annotations

from nono_mcp.cli import options, say
from nono_mcp.policy.errors import quoted
from nono_sandbox.confinement import CLOSED, READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.cli.options import Parsed
    from nono_mcp.policy.document import NetworkSection
    from nono_mcp.policy.request import Prepared
    from nono_sandbox.single_run.launching import Launch

ACCESS = {READ: "read", WRITE: "write", READ | WRITE: "read+write"}


def at_start(prepared: Prepared, launch: Launch) -> None:
    """Tell the person under what a program is about to run."""
    for line in lines(prepared, launch):
        say.note(line)


def dry_run(
    name: str, prepared: Prepared, launch: Launch, argv: tuple[str, ...], parsed: Parsed
) -> None:
    """Say on standard output under what *argv* would run."""
    if parsed.flag(options.JSON):
        say.document(fields(name, prepared, launch, argv))
        return
    say.out(f"would run: {' '.join(quoted(word) for word in argv)}\n")
    for line in lines(prepared, launch):
        say.out(line + "\n")


def lines(prepared: Prepared, launch: Launch) -> list[str]:
    """Return the policy in force, a line a rule."""
    confinement = prepared.confinement
    tier = f"tier: {launch.tier}"
    told = [f"{tier} (no namespaces: {launch.reason})" if launch.reason else tier]
    told.append(f"starts in: {quoted(confinement.cwd)}")
    # What is closed outside any grant is closed anyway, and there is much of it.
    told += [
        f"{ACCESS[rule.access]}: {quoted(rule.path)} ({rule.text})"
        for rule in prepared.rules
        if not rule.code
    ]
    told += [f"no {ACCESS[one.access]}: {quoted(one.path)}" for one in confinement.denials]
    told.append(f"network: {_network(prepared)}")
    told += [f"limit: {name} {value:.15g}" for name, value in _limits(prepared).items()]
    if prepared.unenforced_absent:
        count = len(prepared.unenforced_absent)
        told.append(f"not there, so not closed yet: {count} protected paths (--dry-run --json)")
    return told


def fields(
    name: str, prepared: Prepared, launch: Launch, argv: tuple[str, ...]
) -> dict[str, object]:
    """Return the policy in force for a program to read. Values of variables aren't told."""
    confinement = prepared.confinement
    network = confinement.network
    rules = prepared.document.network
    return {
        "id": name,
        "ok": True,
        "error": None,
        "dry_run": True,
        "command": list(argv),
        "tier": launch.tier,
        "tier_reason": launch.reason or None,
        "cwd": confinement.cwd,
        "grants": [
            {
                "path": grant.path,
                "access": ACCESS[grant.access],
                "exact": grant.exact,
                "source": grant.source,
            }
            for grant in confinement.grants
        ],
        "denials": [
            {"path": denial.path, "access": ACCESS[denial.access]} for denial in confinement.denials
        ],
        "network": {
            "mode": "proxy" if rules.mode == "proxy" else network.mode,
            "connect_ports": list(network.connect_ports),
            "bind_ports": list(network.bind_ports),
            **(_hosts(rules) if rules.mode == "proxy" else {}),
        },
        "limits": _limits(prepared),
        "environment": [variable for variable, _ in confinement.environment],
        "blocked_commands": [blocked for blocked, _ in prepared.blocked],
        "unenforced_absent": list(prepared.unenforced_absent),
        "notices": list(prepared.notices),
    }


def _hosts(rules: NetworkSection) -> dict[str, object]:
    return {
        "allow_domains": list(rules.allow_domains),
        "deny_domains": list(rules.deny_domains),
        "credentials": list(rules.credentials),
        "endpoints": list(rules.endpoints),
        "upstream_proxy": rules.upstream_proxy,
    }


def _network(prepared: Prepared) -> str:
    rules = prepared.document.network
    if rules.mode == "proxy":
        from nono_mcp.policy import egress

        return egress.told(rules)
    network = prepared.confinement.network
    if network.mode == CLOSED or not (network.connect_ports or network.bind_ports):
        return network.mode
    connect = ", ".join(map(str, network.connect_ports)) or "none"
    bind = ", ".join(map(str, network.bind_ports)) or "none"
    return f"connect to local ports {connect}; listen on {bind}"


def _limits(prepared: Prepared) -> dict[str, float]:
    return {
        name: value
        for name, value in vars(prepared.confinement.limits).items()
        if value is not None
    }
