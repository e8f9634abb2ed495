"""One request, judged: whose it is, where it goes, and whether it may.

Everything is judged anew for each request of a kept connection. What was found out by the time a
request is refused stands in its `Plan`, so that the record of a refusal says as much as is known.

Architecture invariant: no I/O and no clock: the time is given.
"""

from nono_proxy import lending, paths, placements
from nono_proxy.authority import Authority
from nono_proxy.config import Config, Route
from nono_proxy.decide import Allow, Deny, Verdict, decide, endpoint_allowed
from nono_proxy.errors import AuthorityError, GrammarError, Refusal
from nono_proxy.grammar import Request
from nono_proxy.plan import Inner, Plan
from nono_proxy.tokens import Lease, Ledger

_PLAIN_PORT = 80
_TLS_PORT = 443
OVERRIDES = frozenset({b"x-http-method", b"x-http-method-override", b"x-method-override"})
_CACHED_MAX = 4096


class Judge:
    """Judges requests by one configuration and the tokens that live."""

    def __init__(
        self, config: Config, ledger: Ledger, own: frozenset[tuple[str, int]] = frozenset()
    ) -> None:
        self._own = own
        self._config = config
        self._ledger = ledger
        self._routes = {route.name.encode("ascii"): route for route in config.routes}
        self._lender = lending.Lender(config, ledger)
        self._endpoints: set[tuple[str, bytes, bytes]] = set()
        self._verdicts: dict[tuple[Lease | None, Authority], Verdict] = {}

    def forget(self) -> None:
        """Judge anew: which calls live has changed."""
        self._verdicts.clear()

    def to_itself(self, request: Request, now: float) -> bool:
        """Tell whether a CONNECT leads to this proxy: then no tunnel is needed to speak to it.

        Clients of WebSockets that keep to HTTP_PROXY ask so for a base URL of ours.

        Raises:
            Refusal: Nobody may ask who isn't known.
        """
        target = request.target
        if target != request.host or request.length or request.chunked:
            return False
        if not any(target == f"{address}:{port}".encode() for address, port in self._own):
            return False
        self._who(Plan(), request, now)
        return True

    def tunnel(self, plan: Plan, request: Request, now: float) -> None:
        """Judge a CONNECT.

        Raises:
            Refusal: It may not leave.
        """
        plan.entrance = "connect"
        if request.length or request.chunked:
            raise Refusal("bad-request", "CONNECT has no body")
        plan.lease = self._who(plan, request, now)
        plan.target = _authority(request.target, None)
        if _authority(request.host, plan.target.port) != plan.target:
            raise Refusal("misdirected", "Host differs from the target")
        lending.refuse_tokens(request, b"")
        self._allow(plan)

    def request(self, plan: Plan, request: Request, now: float, inner: Inner | None) -> None:
        """Judge any other request.

        Raises:
            Refusal: It may not leave.
        """
        target = self._of_ours(request)
        if inner is not None:
            plan.entrance = "intercepted"
            self._inner(plan, request, inner)
        elif target.startswith(b"/"):
            plan.entrance = "reverse"
            if request.proxy_authorization is not None:
                plan.lease = self._who(plan, request, now)
            self._reverse(plan, target)
        else:
            plan.entrance = "forward"
            plan.lease = self._who(plan, request, now)
            self._absolute(plan, request)
        try:
            paths.verify_path(plan.path)
        except GrammarError as error:
            raise Refusal("bad-path", str(error)) from error
        if plan.query is not None and b"#" in plan.query:
            raise Refusal("bad-path", "a query has a fragment")
        if plan.entrance == "reverse":
            self._lender.lend(plan, request, now)
            self._allow(plan)
        else:
            self._allow(plan)
            self._lender.lend(plan, request, now)
        if plan.route is not None:
            self._verify_endpoint(plan.route, request, plan.path)

    def still(self, plan: Plan) -> bool:
        """Tell whether a tunnel that was opened would be opened now, in the same way."""
        if plan.target is None:
            return False
        verdict = self._verdict(plan.lease, plan.target)
        if isinstance(verdict, Deny):
            return False
        return (verdict.route is None) == (plan.route is None) and verdict.raw >= plan.raw

    def _who(self, plan: Plan, request: Request, now: float) -> Lease | None:
        """Return whose request it is; None for that of some live call, nobody knows which."""
        value = request.proxy_authorization
        if value is not None:
            pair = placements.decode_basic(value)
            entry = self._ledger.find(pair[1], now) if pair is not None else None
            if entry is None or entry.route is not None:
                raise Refusal("authentication-failed")
            plan.until = min(plan.until, entry.expires_s)
            return entry.lease
        if self._config.authenticate:
            raise Refusal("authentication-required")
        leases = list(self._ledger.leases)
        if not leases:
            raise Refusal("no-call")
        return leases[0] if len(leases) == 1 else None

    def _of_ours(self, request: Request) -> bytes:
        """Return a request's target; of one to a base URL of ours, the path alone.

        Clients that keep to HTTP_PROXY ask for that in absolute form too.
        """
        if request.target.startswith(b"/"):
            return request.target
        for address, port in self._own:
            for host in (f"{address}:{port}".encode("ascii"), address.encode("ascii")):
                rest = request.target.removeprefix(b"http://" + host)
                named = host == request.host and (port == _PLAIN_PORT or b":" in host)
                if named and len(rest) < len(request.target) and rest.startswith(b"/"):
                    return rest
        return request.target

    def _inner(self, plan: Plan, request: Request, inner: Inner) -> None:
        plan.lease = inner.lease
        plan.target = inner.target
        plan.tls = inner.tls
        if not request.target.startswith(b"/"):
            raise Refusal("bad-request", "in a tunnel a target is a path")
        port = _TLS_PORT if inner.tls else _PLAIN_PORT
        if _authority(request.host, port) != inner.target:
            raise Refusal("misdirected", "Host differs from the host of the tunnel")
        plan.path, plan.query = _split(request.target)

    def _reverse(self, plan: Plan, target: bytes) -> None:
        name, slash, rest = target[1:].partition(b"/")
        name, mark, query = name.partition(b"?")
        plan.route = self._routes.get(name)
        if plan.route is None or (not plan.route.base_urls and plan.route.credential is None):
            raise Refusal("route-unknown")
        if plan.route.rules[0].pattern.startswith("*."):
            raise Refusal("route-unknown", "the route leads to more than one host")
        plan.target = plan.route.origin
        plan.tls = plan.route.tls
        plan.path, plan.query = (b"/", query) if mark else _split(slash + rest or b"/")

    def _absolute(self, plan: Plan, request: Request) -> None:
        scheme, _, rest = request.target.partition(b"://")
        if scheme not in (b"http", b"https"):
            raise Refusal("bad-request", "the target has no scheme of HTTP")
        plan.tls = scheme == b"https"
        port = _TLS_PORT if plan.tls else _PLAIN_PORT
        cut = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
        plan.target = _authority(rest[:cut], port)
        if _authority(request.host, port) != plan.target:
            raise Refusal("misdirected", "Host differs from the target")
        path = rest[cut:]
        plan.path, plan.query = _split(path if path.startswith(b"/") else b"/" + path)

    def _allow(self, plan: Plan) -> None:
        """Judge the host of a plan for everybody whose request it may be."""
        if plan.target is None:
            raise AssertionError("a plan that is judged has a target")
        verdict = self._verdict(plan.lease, plan.target)
        if isinstance(verdict, Deny):
            raise Refusal(verdict.code, verdict.reason)
        if plan.entrance == "reverse":
            plan.rule = verdict.rule
            return
        plan.rule, plan.route, plan.raw = verdict.rule, verdict.route, verdict.raw
        if plan.route is not None and plan.entrance != "connect" and plan.tls != plan.route.tls:
            raise Refusal("host-not-allowed", "the route has another scheme")

    def _verdict(self, lease: Lease | None, target: Authority) -> Verdict:
        found = self._verdicts.get((lease, target))
        if found is None:
            if len(self._verdicts) >= _CACHED_MAX:
                self._verdicts.clear()
            found = self._verdicts[lease, target] = self._judged(lease, target)
        return found

    def _judged(self, lease: Lease | None, target: Authority) -> Verdict:
        verdict = decide(self._config, target)
        for each in [lease] if lease is not None else self._ledger.leases:
            if isinstance(verdict, Allow):
                verdict = decide(self._config, target, each.narrow)
        return verdict

    def body(self, plan: Plan, request: Request, body: bytes, now: float) -> None:
        """Judge the body of a request whose token may stand in it.

        Raises:
            Refusal: It may not leave.
        """
        self._lender.lend_body(plan, request, body, now)

    def _verify_endpoint(self, route: Route, request: Request, path: bytes) -> None:
        if not route.endpoints:
            return
        if any([name in OVERRIDES for name, _ in request.fields]):  # noqa: C419 - quicker
            raise Refusal("endpoint-not-allowed", "a field overrides the method")
        key = (route.name, request.method, path)
        if key in self._endpoints:
            return
        if not endpoint_allowed(route, request.method, path):
            method = request.method.decode("ascii")
            raise Refusal("endpoint-not-allowed", f"{method}: {path.decode('ascii')}"[:200])
        if len(self._endpoints) < _CACHED_MAX:
            self._endpoints.add(key)


def _authority(text: bytes, port: int | None) -> Authority:
    try:
        return Authority.parse(text.decode("ascii"), port)
    except (AuthorityError, UnicodeDecodeError) as error:
        raise Refusal("bad-authority", str(error)[:120]) from error


def _split(target: bytes) -> tuple[bytes, bytes | None]:
    path, mark, query = target.partition(b"?")
    return path, query if mark else None
