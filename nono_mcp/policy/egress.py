"""What a policy says of hosts and credentials, for the proxy: compiled and explained.

The words are the proxy's own (`nono_proxy.config`); a policy adds which credential goes with which
route, and where each is kept.

Architecture invariant: this module does no I/O. `nono_proxy` is imported by those alone whose
policy has a proxy.
"""

from __future__ import annotations

from nono_mcp.policy.decide import Allow, Deny, decide_host
from nono_mcp.policy.egress_syntax import placement
from nono_mcp.policy.errors import PolicyError, RefusedError, quoted
from nono_sandbox.confinement import CLOSED, NAMESPACES, OPEN, PORTS, Network
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.credentials.source import Source
    from nono_mcp.policy.document import NetworkSection, RouteSection
    from nono_mcp.policy.request import Prepared
    from nono_proxy.config import Config, Route

PROXY = "proxy"
DOOR_PORT = 888
"""Of the proxy, in a session's own network. No worker may listen below 1024."""

_AROUND = "(upstream proxy)"
"""By this name the credential of the proxy around is asked for; no route can have it."""


class Refused(Value):
    """A host that the proxy refused a call."""

    host: str
    port: int
    detail: str
    """Why, in the proxy's words."""


def config(rules: NetworkSection, tier: str | None) -> Config:
    """Return what the proxy of *rules* is told.

    Raises:
        PolicyError: A credential has no route, or an endpoint names no credential.
    """
    from ipaddress import ip_network

    from nono_proxy.config import Config, HostRule, UpstreamProxy
    from nono_proxy.errors import ConfigError

    for text in rules.endpoints:
        if text.partition(":")[0] not in rules.credentials:
            raise PolicyError(f"endpoint {quoted(text)}: its credential isn't among credentials")
    around = rules.upstream_proxy
    try:
        return Config(
            allow=tuple(map(HostRule.parse, rules.allow_domains)),
            deny=tuple(map(HostRule.parse, rules.deny_domains)),
            routes=tuple(_route(rules, name) for name in rules.credentials),
            address_grants=tuple(map(ip_network, rules.allow_addresses)),
            upstream_proxy=None
            if around is None
            else UpstreamProxy.parse(
                around, credential=_AROUND if rules.upstream_proxy_credential else None
            ),
            # Without a network of its own, any program of this machine may come to the port.
            authenticate=tier != NAMESPACES,
        )
    except ConfigError as error:
        raise PolicyError(f"network: {error}") from None


def verify_grantable(rules: NetworkSection, host: str, tier: str | None) -> None:
    """Verify that naming *host*, a rule for hosts, would let something of it be reached.

    Raises:
        RefusedError: All of it is denied, or it is an address that is never dialled.
    """
    from nono_proxy import addresses
    from nono_proxy.authority import literal
    from nono_proxy.config import HostRule

    rule, told = HostRule.parse(host), config(rules, tier)
    why = next((f"denied by {deny}" for deny in told.deny if deny.covers(rule)), None)
    address = literal(rule.pattern)
    if rule.pattern in addresses.NEVER_NAMES:
        why = "metadata service"
    elif address is not None:
        why = why or addresses.verify(address, told.address_grants)
    if why:
        raise RefusedError(f"can't grant {quoted(host)}: {why}", code="net.host")


def _route(rules: NetworkSection, name: str) -> Route:
    """Return the route of the credential *name*: a known one, the policy's own, or both."""
    import dataclasses

    from nono_proxy import catalogue
    from nono_proxy.config import EndpointRule, Route
    from nono_proxy.errors import UnknownRouteError

    own = dict(rules.routes).get(name)
    try:
        route = catalogue.route(name)
    except UnknownRouteError as error:
        if own is None or not own.upstreams or not own.placements:
            hint = f"write [network.routes.{name}] with upstreams and placements"
            raise PolicyError(str(error), hint=hint) from None
        route = Route(name, own.upstreams, name, tuple(map(placement, own.placements)))
    pairs = [text.partition(":") for text in rules.endpoints]
    endpoints = tuple(EndpointRule.parse(rule) for whose, _, rule in pairs if whose == name)
    return dataclasses.replace(_changed(route, own), endpoints=endpoints)


def _changed(route: Route, own: RouteSection | None) -> Route:
    """Return *route* with what the policy's *own* row says differently."""
    import dataclasses

    from nono_proxy.config import BaseUrl

    if own is None:
        return route
    urls = [text.partition("/") for text in own.base_urls]
    base_urls = tuple(BaseUrl(name, slash + rest) for name, slash, rest in urls)
    return dataclasses.replace(
        route,
        upstreams=own.upstreams or route.upstreams,
        placements=tuple(map(placement, own.placements)) or route.placements,
        key_variables=own.key_variables or route.key_variables,
        base_urls=base_urls or route.base_urls,
        phantom_prefix=route.phantom_prefix if own.phantom_prefix is None else own.phantom_prefix,
        tls=route.tls if own.tls is None else own.tls,
    )


def sources(rules: NetworkSection) -> dict[str, Source]:
    """Return where each credential is kept."""
    from nono_mcp.credentials import source

    said = dict(rules.sources)
    found = {
        name: source.parse(said[name]) if name in said else source.usual(name)
        for name in rules.credentials
    }
    around = rules.upstream_proxy_credential
    return found if around is None else found | {_AROUND: source.parse(around)}


def network(rules: NetworkSection, tier: str, proxy_port: int) -> Network:
    """Return the network around a worker whose policy names hosts, and the proxy in it.

    Raises:
        PolicyError: A credential has no route, or an endpoint names no credential.
        RefusedError: A host is denied and no proxy is in between.
    """
    if rules.mode == OPEN:
        raise RefusedError(
            f"{quoted(rules.deny_domains[0])} can't be denied where the network is open",
            code="net.deny-domains",
            remedy="name each host to allow: --allow-domain HOST",
        )
    if rules.mode != PROXY:
        # Nothing leaves, or to the loopback alone: what is denied is.
        return Network(rules.mode or CLOSED, rules.connect_ports, rules.bind_ports)
    config(rules, tier)
    if tier == NAMESPACES:
        return Network(CLOSED, door_port=DOOR_PORT)
    return Network(PORTS, (proxy_port,) if proxy_port else ())


def judge_host(prepared: Prepared, host: str, port: int) -> Allow | Deny:
    """Decide whether a worker may reach TCP *port* of *host*, by way of the proxy or without."""
    network = prepared.document.network
    if network.mode != PROXY:
        return decide_host(prepared.confinement.network, host, port)
    from nono_proxy import decide
    from nono_proxy.authority import Authority
    from nono_proxy.errors import AuthorityError

    try:
        target = Authority.parse(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except AuthorityError as error:
        return Deny("net.host", f"{quoted(host)}: {error}")
    verdict = decide.decide(config(network, prepared.confinement.tier), target)
    if isinstance(verdict, decide.Allow):
        return Allow(f"network: {verdict.rule}")
    remedy = f"add --allow-domain {target}" if verdict.code == "host-not-allowed" else ""
    return Deny("net.host", verdict.reason, "network: proxy", remedy)


def told(rules: NetworkSection) -> str:
    """Return what *rules* lets a worker reach, in a line; credentials by name alone."""
    hosts = ", ".join(rules.allow_domains) or "none"
    text = f"by a proxy, to hosts: {hosts}"
    if rules.credentials:
        text += f"; with credentials: {', '.join(rules.credentials)}"
    if rules.upstream_proxy is not None:
        text += f"; by way of {rules.upstream_proxy}"
    if rules.deny_domains:
        text += f"; never: {', '.join(rules.deny_domains)}"
    return text
