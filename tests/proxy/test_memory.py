"""What was judged once isn't judged otherwise later, unless it would be."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from nono_proxy import grammar, memory
from nono_proxy.config import Config, EndpointRule, HostRule, Limits, Narrow, Route, SigV4
from nono_proxy.credential import Credential
from nono_proxy.memory import Judged, Memory
from nono_proxy.placements import Found
from nono_proxy.plan import Plan
from tests.proxy.test_exchange import MODEL, Talk
from tests.proxy.world import CREDENTIAL, Peer, Roots, playing

pytestmark = pytest.mark.anyio

HEAD = b"GET /model/v1 HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def roots() -> Roots:
    return Roots()


@pytest.fixture
async def talk(roots: Roots) -> AsyncIterator[Talk]:
    made = Talk(roots)
    await made.prepare()
    made.says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Key: none\r\n\r\nok")
    async with playing(made, config(roots)):
        yield made


def config(roots: Roots, *, limits: Limits | None = None, route: Route = MODEL) -> Config:
    return Config(
        (HostRule("open.example"),),
        routes=(route,),
        upstream_roots_pem=roots.pem,
        limits=limits or Limits(),
    )


def kept(talk: Talk) -> int:
    """How many heads the proxy remembers."""
    return len(talk.proxy._state.memory._kept)  # noqa: SLF001


async def twice(talk: Talk) -> bytes:
    """Ask for the same twice, so that it's remembered; return what was asked."""
    asked = talk.request()
    for _ in range(2):
        assert (await talk.ask(asked)).status == 200
    assert kept(talk) == 1
    return asked


async def test_the_same_head_is_answered_recorded_and_lent_as_the_first(talk: Talk) -> None:
    asked = talk.request()
    replies = [await talk.ask(asked) for _ in range(3)]
    assert len({reply.raw for reply in replies}) == 1
    assert len({head for each in talk.upstreams for head in each.heads}) == 1
    records = [record._replace(duration_s=0.0) for record in talk.records]
    assert len(records) == 3
    assert len(set(records)) == 1
    assert records[0].injected
    assert kept(talk) == 1


async def test_a_revoked_token_is_unknown_at_once(talk: Talk) -> None:
    asked = await twice(talk)
    talk.proxy.revoke(talk.lease)
    assert (await talk.ask(asked)).status == 401
    assert kept(talk) == 0


async def test_another_configuration_judges_anew(talk: Talk) -> None:
    asked = await twice(talk)
    narrowed = replace(MODEL, endpoints=(EndpointRule("POST", "/v1"),))
    await talk.proxy.reconfigure(config(talk.roots, route=narrowed))
    assert (await talk.ask(asked)).status == 403
    await talk.proxy.reconfigure(config(talk.roots))
    assert (await talk.ask(asked)).status == 200


async def test_a_denied_host_is_denied_though_it_was_remembered(talk: Talk) -> None:
    asked = await twice(talk)
    deny = (HostRule("model.example", 8080),)
    await talk.proxy.reconfigure(replace(config(talk.roots), deny=deny))
    assert (await talk.ask(asked)).status == 403


async def test_a_token_that_ran_out_is_unknown(talk: Talk) -> None:
    asked = await twice(talk)
    state = talk.proxy._state  # noqa: SLF001
    ledger = state.ledger
    ledger._entries = {  # noqa: SLF001
        digest: entry._replace(expires_s=state.loop.time() + 0.2)
        for digest, entry in ledger._entries.items()  # noqa: SLF001
    }
    state.forget()
    assert (await talk.ask(asked)).status in (200, 401)
    await talk.until(lambda: state.loop.time() > max(e.expires_s for e in ledger._entries.values()))  # noqa: SLF001
    assert (await talk.ask(asked)).status == 401


async def test_a_new_credential_is_lent_once_the_old_one_is_held_no_more(roots: Roots) -> None:
    talk = Talk(roots)
    await talk.prepare()
    talk.says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    async with playing(talk, config(roots, limits=Limits(credential_hold_s=0.2))):
        asked = talk.request()
        assert (await talk.ask(asked)).status == 200
        talk.credentials["model"] = b"another-credential"
        before = len(talk.asked)
        later = asyncio.get_running_loop().time() + 0.2
        await talk.until(lambda: asyncio.get_running_loop().time() > later)
        assert (await talk.ask(asked)).status == 200
        assert len(talk.asked) == before + 1
        assert b"another-credential" in talk.upstreams[0].heads[-1]
        assert CREDENTIAL not in talk.upstreams[0].heads[-1]
        # No copy of it stays in what is remembered, asked for or not.
        await talk.until(lambda: kept(talk) == 0)


async def test_what_is_echoed_is_scrubbed_and_counted_each_time(talk: Talk) -> None:
    talk.says(
        b"HTTP/1.1 200 OK\r\nX-Echo: "
        + CREDENTIAL
        + b"\r\nContent-Length: %d\r\n\r\n" % len(CREDENTIAL)
        + CREDENTIAL
    )
    asked = talk.request()
    for _ in range(3):
        assert CREDENTIAL not in (await talk.ask(asked)).raw
    assert [record.scrubbed_count for record in talk.records] == [2, 2, 2]


async def test_another_answer_to_the_same_head_is_read_anew(talk: Talk) -> None:
    asked = await twice(talk)
    talk.says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    talk.proxy._state.pool.clear()  # noqa: SLF001
    assert (await talk.ask(asked)).status == 404
    talk.says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok")
    talk.proxy._state.pool.clear()  # noqa: SLF001
    assert (await talk.ask(asked)).status == 502


async def test_how_an_answer_began_is_no_guide_for_a_request_of_another_shape(talk: Talk) -> None:
    talk.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    for _ in range(2):
        assert b"Transfer-Encoding: chunked" in (await talk.ask(talk.request())).head
        closing = await talk.ask(talk.request(extra=b"Connection: close\r\n"))
        assert b"\r\nConnection: close" in closing.head
        old = await talk.ask(talk.request(version=b"1.0"))
        assert b"Transfer-Encoding" not in old.head
        assert old.body == b"ok"
    talk.says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    talk.proxy._state.pool.clear()  # noqa: SLF001
    for _ in range(2):
        wire = await talk.open()
        reply = await (await wire.send(talk.request(b"HEAD"))).reply(bodiless=True)
        assert b"Content-Length: 2" in reply.head


async def test_an_early_answer_ends_the_connection_though_a_late_one_did_not(talk: Talk) -> None:
    early = asyncio.Event()

    async def speak(peer: Peer) -> None:
        while True:
            await peer.head()
            if not early.is_set():
                await peer.reader.readexactly(4)
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    talk.speak = speak
    head = talk.request(b"POST", b"Content-Length: 4\r\n")
    for _ in range(2):
        assert b"close" not in (await talk.ask(head + b"body")).head
    early.set()
    wire = await talk.open()
    assert b"\r\nConnection: close" in (await wire.ask(head)).head
    # What is left of the body isn't read as a request.
    await wire.send(b"body" + talk.request())
    assert await wire.ended()
    assert len(talk.upstreams[0].heads) == 3


async def test_a_rate_counts_what_is_asked_in_the_same_words(roots: Roots) -> None:
    talk = Talk(roots)
    await talk.prepare()
    talk.says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    limited = replace(MODEL, requests_per_minute_max=2)
    async with playing(talk, config(roots, route=limited)):
        asked = talk.request()
        assert [(await talk.ask(asked)).status for _ in range(3)] == [200, 200, 429]
        assert kept(talk) == 0


async def test_a_host_that_asked_for_a_tunnel_before_is_looked_up_each_time(talk: Talk) -> None:
    for _ in range(2):
        wire = await talk.open()
        assert (await wire.connect("open.example:443")).status == 200
    assert talk.looked_up == ["open.example"] * 2
    talk.names["open.example"] = ["169.254.169.254"]
    wire = await talk.open()
    assert (await wire.connect("open.example:443")).status == 403
    talk.proxy.revoke(talk.lease)
    wire = await talk.open()
    assert (await wire.connect("open.example:443")).status == 407


async def test_a_call_that_may_less_narrows_what_nobody_knows_the_asker_of(roots: Roots) -> None:
    talk = Talk(roots)
    await talk.prepare()
    asked = b"CONNECT open.example:443 HTTP/1.1\r\nHost: open.example:443\r\n\r\n"
    async with playing(talk, replace(config(roots), authenticate=False)):
        assert [(await talk.ask(asked)).status for _ in range(2)] == [200, 200]
        other = talk.proxy.mint("call-2", narrow=Narrow(hosts=()))
        assert (await talk.ask(asked)).status == 403
        talk.proxy.revoke(other)
        assert (await talk.ask(asked)).status == 200


def judged(plan: Plan, head: bytes = HEAD, generation: int = 0) -> Judged:
    return Judged((None, head), plan, grammar.parse_request(head), generation)


def test_what_was_judged_before_a_change_is_not_kept_after_it() -> None:
    kept_ = Memory()
    early = judged(Plan())
    kept_.forget()
    kept_.keep(early, b"out", None)
    assert kept_.find(early.key, 0.0) is None


@pytest.mark.parametrize(
    "plan",
    [Plan(in_body=True), Plan(found=[Found(SigV4(), 0, b"")])],
    ids=["a body decides", "a clock decides"],
)
def test_what_else_has_a_say_in_is_not_kept(plan: Plan) -> None:
    kept_ = Memory()
    one = judged(plan)
    kept_.keep(one, b"out", None)
    assert kept_.find(one.key, 0.0) is None


@pytest.mark.parametrize(
    "field", [b"Upgrade: websocket\r\nConnection: Upgrade", b"Expect: 100-continue"]
)
def test_what_goes_on_in_another_way_is_not_kept(field: bytes) -> None:
    kept_ = Memory()
    one = judged(Plan(), HEAD[:-2] + field + b"\r\n\r\n")
    kept_.keep(one, b"out", None)
    assert kept_.find(one.key, 0.0) is None


def test_no_more_is_kept_than_there_is_room_for() -> None:
    kept_ = Memory()
    for number in range(3 * memory.HEADS_MAX):
        kept_.keep(judged(Plan(), HEAD[:-2] + b"A: %d\r\n\r\n" % number), b"out", None)
    assert 0 < len(kept_._kept) <= memory.HEADS_MAX  # noqa: SLF001
    long = judged(Plan(), HEAD[:-2] + b"A: " + b"a" * memory.HEAD_BYTES_MAX + b"\r\n\r\n")
    kept_.keep(long, b"out", None)
    assert kept_.find(long.key, 0.0) is None
    answers = memory.Openings(0.0)
    response = grammar.parse_response(b"HTTP/1.1 204 No Content\r\n\r\n", bodiless=False)
    opening = memory.Opening(response, b"", chunks=False, closes=False)
    for number in range(3 * memory.ANSWERS_MAX):
        answers.keep(b"%d" % number, opening)
    answers.keep(b"a" * (memory.ANSWER_BYTES_MAX + 1), opening)
    assert 0 < len(answers._kept) <= memory.ANSWERS_MAX  # noqa: SLF001
    assert answers.find(b"a" * (memory.ANSWER_BYTES_MAX + 1)) is None


def test_nothing_that_is_kept_is_printed() -> None:
    kept_ = Memory()
    one = judged(Plan())
    kept_.keep(one, b"sk-secret-0123", None)
    assert "sk-secret" not in f"{kept_!r} {one!r}"


def test_no_more_is_kept_of_heads_that_are_alike_and_of_how_answers_began() -> None:
    kept_ = Memory()
    for number in range(3 * memory.HEADS_MAX):
        head = HEAD.replace(b" HTTP", b"/%d HTTP" % number, 1)
        kept_.keep(judged(Plan(), head), head, None)
    assert 0 < len(kept_._alike) <= memory.HEADS_MAX  # noqa: SLF001
    request = grammar.parse_request(HEAD)
    for number in range(3 * memory.SHAPES_MAX):
        kept_.openings(request, (Credential(b"sk-%08d" % number), 1.0))
    assert 0 < len(kept_._openings) <= memory.SHAPES_MAX  # noqa: SLF001


def test_nothing_stays_of_what_has_run_out_or_is_forgotten() -> None:
    kept_ = Memory()
    request = grammar.parse_request(HEAD)
    lent = Credential(b"sk-secret-0123"), 1.0
    for is_swept in (True, False):
        one = judged(Plan(), generation=kept_.generation)
        kept_.keep(one, HEAD, lent)
        began = kept_.openings(request, lent)
        assert kept_.openings(request, lent) is began
        assert kept_._kept  # noqa: SLF001
        assert kept_._alike  # noqa: SLF001
        if is_swept:
            kept_.sweep(1.0)
        else:
            kept_.forget()
        left = kept_._kept, kept_._alike, kept_._openings  # noqa: SLF001
        assert left == ({}, {}, {})


def test_nothing_is_made_like_a_head_that_was_not_passed_on_as_it_was() -> None:
    kept_ = Memory()
    head, other = (HEAD[:-2] + b"A: %d\r\n\r\n" % number for number in (1, 2))
    kept_.keep(judged(Plan(), head), HEAD, None)
    assert kept_.find((None, other), 0.0) is None
    kept_.keep(judged(Plan(), head), head, None)
    assert kept_.find((None, other), 0.0) is not None
