"""The verdict on the head of a request, if none is remembered: allowed, refused, or for the proxy.

Architecture invariant: no socket is touched, and nothing is answered. What is allowed counts
against its route's rate from here on.
"""

from typing import NamedTuple

from nono_proxy import grammar
from nono_proxy.errors import GrammarError, Refusal
from nono_proxy.memory import Judged, Key
from nono_proxy.plan import Inner, Plan
from nono_proxy.state import State

_NEVER = frozenset({b"TRACE", b"TRACK", b"PRI"})


class Refused(NamedTuple):
    """A request that goes nowhere."""

    plan: Plan
    code: str
    detail: str
    closes: bool
    """Nothing can follow it on its connection."""


def judge(state: State, inner: Inner | None, key: Key, now: float) -> Judged | Refused | None:
    """Judge the head in *key*, which came in the tunnel *inner*, if in one.

    None is a CONNECT to the proxy itself: requests come in it as they would without.
    """
    plan = Plan()
    closes = True
    try:
        request = grammar.parse_request(key[1])
        closes = ends(request)
        plan.method = request.method
        state.verify_open()
        if request.method in _NEVER:
            raise Refusal("method-refused")  # noqa: TRY301 - one place answers
        if request.method == b"CONNECT":
            return _tunnel(state, inner, Judged(key, plan, request, state.memory.generation), now)
        state.judge.request(plan, request, now, inner)
        if plan.route is not None:
            state.spend_request(plan.route, now)
        return Judged(key, plan, request, state.memory.generation)
    except GrammarError as error:
        return Refused(plan, "bad-request", str(error), closes=True)
    except Refusal as refusal:
        return Refused(plan, refusal.code, refusal.detail, closes)


def _tunnel(state: State, inner: Inner | None, asked: Judged, now: float) -> Judged | None:
    if inner is not None:
        raise Refusal("method-refused", "a tunnel in a tunnel")
    if state.judge.to_itself(asked.request, now):
        return None
    state.judge.tunnel(asked.plan, asked.request, now)
    judged = Judged(asked.key, asked.plan, asked.request, state.memory.generation)
    state.memory.keep(judged, b"", None)
    return judged


def ends(request: grammar.Request) -> bool:
    """Tell whether nothing can follow on the connection if the request is refused."""
    return bool(request.length or request.chunked or not request.keep_alive)
