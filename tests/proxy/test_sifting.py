"""Invariant: what is made of a head like one before is what would be made of it alone."""

from dataclasses import replace
from ipaddress import ip_network

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nono_proxy import grammar, outgoing
from nono_proxy.config import BaseUrl, Config, EndpointRule, Header, Route
from nono_proxy.credential import Credential
from nono_proxy.errors import GrammarError, Refusal
from nono_proxy.judge import Judge
from nono_proxy.memory import HEAD_BYTES_MAX, Judged, Memory
from nono_proxy.plan import Plan
from nono_proxy.tokens import Ledger

MODEL = Route(
    "model",
    ("127.0.0.1:80",),
    "model",
    (Header("Authorization", "bearer"), Header("X-Api-Key", "raw")),
    base_urls=(BaseUrl("MODEL_BASE_URL"),),
    endpoints=(EndpointRule("POST", "/v1"), EndpointRule("GET", "/v1")),
    tls=False,
)
CONFIG = Config((), routes=(MODEL,), address_grants=(ip_network("127.0.0.0/8"),))
CREDENTIAL = Credential(b"sk-real-0123456789")
LEDGER = Ledger()
TOKEN = LEDGER.mint("call", (MODEL,), None, 100.0).tokens["model"].encode()
JUDGE = Judge(CONFIG, LEDGER)
LENT = CREDENTIAL, 100.0
RENEWED = Credential(b"sk-renewed-0123456789")

OWN = [b"X-Request-Id: 1", b"Traceparent: 00-4bf9-01", b"User-Agent: agent/1.0 (x; y)"]
NAMES = (
    *(b"X-Request-Id", b"user-agent", b"Accept", b"Content-Type", b"Content-Encoding", b"Cookie"),
    *(b"Content-Length", b"Transfer-Encoding", b"TE", b"Trailer", b"Connection", b"Keep-Alive"),
    *(b"Host", b"Expect", b"Upgrade", b"Authorization", b"X-API-Key", b"Proxy-Authorization"),
    *(b"X-HTTP-Method-Override", b"Accept-Encoding", b"Sec-WebSocket-Extensions", b"X-Other"),
)
VALUES = (
    *(b"", b"0", b"5", b"17", b"+5", b"5, 5", b"chunked", b"close", b"keep-alive", b"Upgrade"),
    *(b"x-request-id", b"close, x-other", b"websocket", b"gzip", b"100-continue", b"DELETE"),
    *(TOKEN, b"Bearer " + TOKEN, TOKEN[:-1], TOKEN.upper(), b"Basic bm9ubzp4", b"evil.test"),
    *(b"\xff", b"a\x00b", b"a\rb", b"a\n", b"two words", b" padded\t"),
)
FIELDS = st.lists(
    st.sampled_from(OWN)
    | st.builds(lambda name, value: name + b": " + value, *map(st.sampled_from, (NAMES, VALUES))),
    max_size=5,
)


def head_of(fields: list[bytes], method: bytes = b"POST", *, before: int = 0) -> bytes:
    """Return a head of these fields, so many of them *before* the token."""
    lines = [method + b" /model/v1 HTTP/1.1", b"Host: here", *fields[:before]]
    lines.append(b"Authorization: Bearer " + TOKEN)
    return b"\r\n".join([*lines, *fields[before:], b"\r\n"])


def alone(head: bytes) -> tuple[Judged, bytes] | None:
    """Return how *head* is judged by itself, and what is sent; None if it's refused."""
    plan = Plan()
    try:
        request = grammar.parse_request(head)
        JUDGE.request(plan, request, 0.0, None)
        return Judged((None, head), plan, request, 1), outgoing.head(
            request, plan, CREDENTIAL, None
        )
    except (GrammarError, Refusal):
        return None


def after(first: bytes, head: bytes) -> Judged | None:
    """Return what is remembered for *head* once *first* was judged."""
    memory = Memory()
    memory.configure(CONFIG.routes)
    judged = alone(first)
    if judged is not None:
        memory.keep(*judged, LENT)
    return memory.find((None, head), 0.0)


def in_order(head: bytes) -> tuple[bytes, dict[bytes, list[bytes]]]:
    """Return a head's first line, and the lines of each name in their order."""
    first, *lines = head.split(b"\r\n")
    found: dict[bytes, list[bytes]] = {}
    for line in lines:
        found.setdefault(line.partition(b":")[0].lower(), []).append(line)
    return first, found


@given(FIELDS, FIELDS, st.integers(0, 3))
@example([], [b"X-Request-Id: " + TOKEN], 0)
@example([b"Connection: close"], [b"Connection: close", b"Connection: x-other", b"X-Other: 1"], 0)
@example([b"Content-Length: 5"], [b"Content-Length: 5", b"Content-Length: 5"], 0)
@example([b"Content-Length: 5"], [b"Content-Length: 17", b"Transfer-Encoding: chunked"], 0)
@example([b"Content-Length: 5"], [b"Content-Length: 0"], 0)
@example([b"Connection: x-other"], [b"Connection: x-other", b"X-Other: 1"], 0)
@example([b"User-Agent: a", b"X-Request-Id: 1"], [b"User-Agent: a", b"X-Request-Id: 2"], 2)
@example([b"User-Agent: a", b"X-Request-Id: 1"], [], 2)
@settings(max_examples=500)
def test_what_is_made_of_a_head_like_another(
    one: list[bytes], two: list[bytes], before: int
) -> None:
    head = head_of(two, before=before)
    like = after(head_of(one, before=before), head)
    if like is None:
        return
    expected = alone(head)
    assert expected is not None
    judged, sent = expected
    assert in_order(like.head) == in_order(sent)
    assert like.request._replace(fields=[]) == judged.request._replace(fields=[])
    assert sorted(like.request.fields) == sorted(judged.request.fields)
    assert replace(like.plan, found=[]) == replace(judged.plan, found=[])
    # So it is with another credential, if that was renewed meanwhile.
    renewed = outgoing.head(like.request, like.plan, RENEWED, None)
    assert in_order(renewed) == in_order(outgoing.head(judged.request, judged.plan, RENEWED, None))
    # What is sent can be read by another too.
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(like.head)
    assert isinstance(reader.next_event(), h11.Request)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        OWN,
        [b"X-Request-Id: 2"],
        [b"Content-Length: 17", b"Traceparent: 00-9", b"Connection: keep-alive"],
        [b"Content-Length: 123456", *OWN, b"Connection: keep-alive"],
    ],
)
def test_what_changes_with_each_request_is_not_judged_anew(fields: list[bytes]) -> None:
    more = [b"Content-Length: 5", b"Connection: keep-alive"] if len(fields) in (3, 5) else []
    firsts = [[], [b"X-Request-Id: 1"], more]
    assert any(after(head_of(first), head_of(fields)) for first in firsts)


@pytest.mark.parametrize(
    "field",
    [
        b"X-Request-Id: {token}",
        b"X-Request-Id: a{token}b",
        b"X-HTTP-Method-Override: DELETE",
        b"X-Api-Key: {token}",
        b"X-Api-Key: none",
        b"Authorization: Bearer {token}",
        b"Connection: x-request-id",
        b"Transfer-Encoding: chunked",
        b"Content-Length: +5",
        b"Host: here",
        b"Expect: 100-continue",
        b"X-Request-Id : 1",
        b"X-Request-Id: a\n b",
    ],
)
def test_what_may_change_the_judgement_is_judged(field: bytes) -> None:
    assert after(head_of([]), head_of([field.replace(b"{token}", TOKEN)])) is None


def test_a_head_that_is_too_long_to_keep_is_judged() -> None:
    long = [b"X-Request-Id: " + b"1" * HEAD_BYTES_MAX]
    assert after(head_of([]), head_of(long)) is None


def test_another_path_or_method_is_judged() -> None:
    first = head_of([])
    assert after(first, first.replace(b"/v1", b"/v2")) is None
    assert after(first, head_of([], b"DELETE")) is None
    assert after(first, first.replace(b"1.1\r\n", b"1.0\r\n")) is None
