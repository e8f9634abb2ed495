"""Which credential a request is lent: the tokens in it, each at its own route, call and place.

Architecture invariant: no I/O and no clock: the time is given.
"""

from nono_proxy import bodies, placements, tokens
from nono_proxy.config import Config
from nono_proxy.errors import Refusal
from nono_proxy.grammar import Request, value_of
from nono_proxy.placements import Parts
from nono_proxy.plan import Plan
from nono_proxy.tokens import Entry, Ledger


class Lender:
    """Finds tokens, by one configuration and those that live."""

    def __init__(self, config: Config, ledger: Ledger) -> None:
        self._ledger = ledger
        self._where = {route.name: placements.where(route) for route in config.routes}

    def lend(self, plan: Plan, request: Request, now: float) -> None:
        """Find the tokens in a request's head; if one may stand in its body, say so.

        Raises:
            Refusal: One stands where it has no business, or is no token of this call and route.
        """
        route = plan.route
        if route is None or route.credential is None:
            refuse_tokens(request, plan.query or b"")
            return
        parts = Parts(request.fields, plan.path, plan.query)
        entries: dict[bytes, Entry | None] = {}

        def live(token: bytes) -> bool:
            entries[token] = self._ledger.find(token, now)
            return entries[token] is not None

        where = self._where[route.name]
        found = placements.find(where, parts, live)
        has_body = bool(request.length) or request.chunked
        plan.in_body = not found and has_body and bool(where.bodies)
        if not found and plan.entrance == "reverse" and not plan.in_body:
            raise Refusal("token-missing")
        for each in found:
            self._verify(plan, entries.get(each.token) or self._ledger.find(each.token, now))
        visible = sum(each.visible for each in found)
        if _shapes(request) != visible:
            raise Refusal("token-misplaced")
        plan.found = found

    def lend_body(self, plan: Plan, request: Request, body: bytes, now: float) -> None:
        """Find the token in a request's body, which is there as a whole.

        Raises:
            Refusal: As `lend`.
        """
        if plan.route is None:
            raise AssertionError("a body is looked into for a route")
        found = bodies.find(self._where[plan.route.name].bodies, request.fields, body)
        if found is None:
            if plan.entrance == "reverse":
                raise Refusal("token-missing")
            return
        self._verify(plan, self._ledger.find(found.token, now))
        plan.found = [found]

    def _verify(self, plan: Plan, entry: Entry | None) -> None:
        """Take the call from a token that is of it, and of the route."""
        route = plan.route
        if entry is None or entry.route is None or route is None:
            raise Refusal("token-unknown")
        if entry.route != route.name:
            raise Refusal("token-elsewhere", f"the token is for {entry.route}")
        if plan.lease is not None and entry.lease is not plan.lease:
            raise Refusal("token-elsewhere", "the token is another call's")
        plan.lease = entry.lease
        plan.until = min(plan.until, entry.expires_s)


def refuse_tokens(request: Request, query: bytes) -> None:
    """Refuse a request with a token where no credential is lent.

    Raises:
        Refusal: There is one.
    """
    hidden = 0
    for name, line in request.fields:
        if name == b"authorization":
            pair = placements.decode_basic(value_of(line))
            hidden += tokens.count_shapes(b":".join(pair)) if pair is not None else 0
    if hidden or _shapes(request) or tokens.count_shapes(query):
        raise Refusal("token-elsewhere", "no credential is lent to this host")


def _shapes(request: Request) -> int:
    lines = b"\n".join([request.target, *[line for _, line in request.fields]])
    return tokens.count_shapes(lines)
