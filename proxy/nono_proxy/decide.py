"""Whether a request may leave: a function of values.

Deny beats allow; what no rule names stays. A name is judged as the client wrote it, before
anything looks it up.

Architecture invariant: no I/O, no clock, no state.
"""

from dataclasses import dataclass
from ipaddress import ip_network

from nono_proxy import addresses
from nono_proxy.authority import Authority, literal
from nono_proxy.config import Config, HostRule, Narrow, Route

_EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))


@dataclass(frozen=True, slots=True)
class Allow:
    """It may leave: because of *rule*, through *route* if its requests are read."""

    rule: str
    route: Route | None
    raw: bool = False


@dataclass(frozen=True, slots=True)
class Deny:
    """It stays; *code* stands in `nono_proxy.refusals.TABLE`, *reason* is fit to show."""

    code: str
    reason: str


Verdict = Allow | Deny


def _covering(rules: tuple[HostRule, ...], target: Authority) -> HostRule | None:
    return next((rule for rule in rules if rule.matches(target)), None)


def _never(target: Authority) -> str | None:
    if target.host in addresses.NEVER_NAMES:
        return "metadata service"
    address = literal(target.host)
    if address is None:
        return None
    return addresses.verify(address, _EVERYTHING)


def route_for(config: Config, target: Authority) -> tuple[Route, HostRule] | None:
    """Return the route that reads requests to *target*: an exact name before a zone."""
    found = [
        (route, rule) for route in config.routes for rule in route.rules if rule.matches(target)
    ]
    found.sort(key=lambda pair: (pair[1].pattern.startswith("*."), -len(pair[1].pattern)))
    return found[0] if found else None


def decide(config: Config, target: Authority, narrow: Narrow | None = None) -> Verdict:
    """Return what happens to a request for *target*, before its method and path are seen."""
    never = _never(target)
    if never is not None:
        return Deny("host-denied", f"{target}: {never}")
    denied = _covering(config.deny, target)
    if denied is not None:
        return Deny("host-denied", f"{target}: denied by {denied}")
    found = route_for(config, target)
    allowed = _covering(config.allow, target)
    if found is None and allowed is None:
        return Deny("host-not-allowed", f"{target}: no rule names it")
    if narrow is not None and not _kept(narrow, target, found):
        return Deny("host-not-allowed", f"{target}: this call gave it up")
    if found is not None:
        return Allow(f"route {found[0].name}", found[0])
    if allowed is None:
        raise AssertionError("a target is covered by a route or a rule")
    return Allow(str(allowed), None, allowed.raw)


def _kept(narrow: Narrow, target: Authority, found: tuple[Route, HostRule] | None) -> bool:
    if found is not None:
        by_route = narrow.routes is None or found[0].name in narrow.routes
        by_host = narrow.hosts is None or _covering(narrow.hosts, target) is not None
        # Naming the route keeps its hosts; narrowing hosts alone has to name them.
        return by_route and (by_host or narrow.routes is not None)
    return narrow.hosts is None or _covering(narrow.hosts, target) is not None


def endpoint_allowed(route: Route, method: bytes, path: bytes) -> bool:
    """Tell whether a route's rules let this method and path (without a query) pass."""
    if not route.endpoints:
        return True
    return any(rule.matches(method, path) for rule in route.endpoints)
