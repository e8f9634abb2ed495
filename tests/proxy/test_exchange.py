"""What passes, passes whole: framings, streams, upgrades, and a proxy beyond this one."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from nono_proxy.config import BaseUrl, Config, Header, HostRule, Route, UpstreamProxy
from tests.proxy.world import CREDENTIAL, DEADLINE_S, OK, Peer, Roots, World, playing

pytestmark = pytest.mark.anyio

MODEL = Route(
    "model",
    ("model.example:8080",),
    "model",
    (Header("Authorization", "bearer"),),
    base_urls=(BaseUrl("MODEL_BASE_URL"),),
    tls=False,
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def roots() -> Roots:
    return Roots()


class Talk(World):
    """One upstream whose words the test writes, with and without TLS."""

    speak: Callable[[Peer], Awaitable[None]]

    async def prepare(self) -> None:
        self.credentials = {"model": CREDENTIAL, "beyond": b"user:password"}
        for host, port, tls in (("model.example", 8080, False), ("open.example", 443, True)):
            # The test may change what is said while it's listened to.
            await self.serve(host, port, lambda peer: self.speak(peer), tls=tls)  # noqa: PLW0108

    def says(self, *pieces: bytes) -> None:
        """Answer every request with these pieces."""

        async def speak(peer: Peer) -> None:
            while True:
                await peer.head()
                for piece in pieces:
                    await peer.say(piece)
                if b"connection: close" in pieces[0].lower():
                    return

        self.speak = speak

    def request(self, method: bytes = b"GET", extra: bytes = b"", version: bytes = b"1.1") -> bytes:
        """A request for the model."""
        line = method + b" /model/v1 HTTP/" + version + b"\r\nHost: x\r\nAuthorization: Bearer "
        return line + self.token("model") + b"\r\n" + extra + b"\r\n"


def config(roots: Roots, beyond: UpstreamProxy | None = None) -> Config:
    return Config(
        (HostRule("open.example"),),
        (),
        (MODEL,),
        upstream_roots_pem=roots.pem,
        upstream_proxy=beyond,
    )


@pytest.fixture
async def talk(roots: Roots) -> AsyncIterator[Talk]:
    made = Talk(roots)
    await made.prepare()
    async with playing(made, config(roots)):
        yield made


CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "version", "raw"),
    [
        (OK, b"1.1", OK),
        (b"HTTP/1.1 204 No\r\n\r\n", b"1.1", b"HTTP/1.1 204 No\r\n\r\n"),
        (CHUNKS + b"2\r\nok\r\n0\r\n\r\n", b"1.1", CHUNKS + b"2\r\nok\r\n0\r\n\r\n"),
        (CHUNKS + b"0\r\n\r\n", b"1.1", CHUNKS + b"0\r\n\r\n"),
        (
            CHUNKS + b"2\r\nok\r\n0\r\n\r\n",
            b"1.0",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok",
        ),
        (
            b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nok",
            b"1.1",
            CHUNKS + b"2\r\nok\r\n0\r\n\r\n",
        ),
    ],
    ids=["length", "none", "chunks", "no chunks", "chunks for 1.0", "until the end"],
)
async def test_framings(talk: Talk, answer: bytes, version: bytes, raw: bytes) -> None:
    talk.says(answer)
    wire = await talk.open()
    assert (await wire.ask(talk.request(version=version))).raw == raw
    wire.close()


async def test_an_answer_to_head_has_a_length_and_no_body(talk: Talk) -> None:
    talk.says(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    wire = await talk.open()
    for _ in range(2):
        await wire.send(talk.request(b"HEAD"))
        assert b"Content-Length: 500\r\n" in (await wire.reply(bodiless=True)).raw
    assert talk.upstreams[0].connections == 1
    wire.close()


async def test_chunks_of_a_request_are_framed_anew(talk: Talk) -> None:
    heard: list[bytes] = []

    async def speak(peer: Peer) -> None:
        heard.append(await peer.head())
        heard.append(await peer.reader.readuntil(b"0\r\nX: y\r\n\r\n"))
        await peer.say(OK)

    talk.speak = speak
    wire = await talk.open()
    await wire.send(talk.request(b"POST", b"Transfer-Encoding: chunked\r\n"))
    for octet in b"1\r\na\r\n0000A\r\nbcdefghijk\r\n0\r\nX: y\r\n\r\n":
        await wire.send(bytes([octet]))
    assert (await wire.reply()).status == 200
    assert b"Transfer-Encoding: chunked\r\n" in heard[0]
    assert b"0000A" not in heard[1]
    wire.close()


async def test_a_client_that_waits_for_leave_gets_it(talk: Talk) -> None:
    async def speak(peer: Peer) -> None:
        assert b"Expect: 100-continue" in await peer.head()
        await peer.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await peer.reader.readexactly(3) == b"abc"
        await peer.say(OK)

    talk.speak = speak
    wire = await talk.open()
    await wire.send(talk.request(b"POST", b"Content-Length: 3\r\nExpect: 100-continue\r\n"))
    assert (await wire.reply(bodiless=True)).status == 100
    assert (await wire.ask(b"abc")).status == 200
    wire.close()


@pytest.mark.parametrize("entrance", ["route", "interception"])
async def test_an_event_comes_when_it_is_sent(roots: Roots, entrance: str) -> None:
    talk = Talk(roots)
    await talk.prepare()
    more = asyncio.Event()

    async def speak(peer: Peer) -> None:
        await peer.head()
        await peer.say(CHUNKS + b"9\r\ndata: 1\n\n\r\n")
        await more.wait()
        await peer.say(b"0\r\n\r\n")

    talk.speak = speak
    rows = (MODEL, Route("open", ("open.example",), "model", MODEL.placements))
    async with playing(talk, Config(routes=rows, upstream_roots_pem=roots.pem)):
        wire = await talk.open()
        request = talk.request()
        if entrance == "interception":
            await wire.connect("open.example:443")
            await wire.shake("open.example", talk.proxy.ca_pem)
            request = b"GET / HTTP/1.1\r\nHost: open.example\r\nAuthorization: Bearer "
            request += talk.token("open") + b"\r\n\r\n"
        await wire.send(request)
        async with asyncio.timeout(DEADLINE_S):
            await wire.reader.readuntil(b"data: 1\n\n\r\n")
        more.set()
        assert (await wire.reader.readuntil(b"0\r\n\r\n")).endswith(b"0\r\n\r\n")
        wire.close()


UPGRADE = b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


async def test_a_websocket_is_relayed_and_scrubbed(talk: Talk) -> None:
    async def speak(peer: Peer) -> None:
        head = await peer.head()
        assert b"Upgrade: websocket\r\n" in head
        assert b"Extensions" not in head
        await peer.say(UPGRADE + b"\x81\x02hi")
        assert await peer.reader.readexactly(4) == b"ping"
        half, rest = b"\x01\x09" + CREDENTIAL[:9], CREDENTIAL[9:]
        await peer.say(half)
        await peer.say(bytes((0x80, len(rest))) + rest)

    talk.speak = speak
    wire = await talk.open()
    extra = b"Connection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Extensions: deflate\r\n"
    await wire.send(talk.request(extra=extra))
    assert (await wire.reply(bodiless=True)).status == 101
    assert await wire.reader.readexactly(4) == b"\x81\x02hi"
    await wire.send(b"ping")
    expected = bytes((0x81, len(CREDENTIAL))) + b"*" * len(CREDENTIAL)
    assert await wire.reader.readexactly(len(expected)) == expected
    assert await wire.ended()
    assert talk.records[-1].status == 101
    assert talk.records[-1].scrubbed_count == 1
    wire.close()


async def test_a_websocket_whose_server_speaks_otherwise_is_ended(talk: Talk) -> None:
    talk.says(UPGRADE, CREDENTIAL)
    wire = await talk.open()
    await wire.send(talk.request(extra=b"Connection: Upgrade\r\nUpgrade: websocket\r\n"))
    assert (await wire.reply(bodiless=True)).status == 101
    assert await wire.ended()
    assert talk.codes() == ["upstream-grammar"]
    wire.close()


async def test_a_head_is_passed_on_before_its_body_comes(talk: Talk) -> None:
    told = asyncio.Event()

    async def speak(peer: Peer) -> None:
        await peer.head()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        await told.wait()
        await peer.say(b"ok")

    talk.speak = speak
    wire = await talk.open()
    await wire.send(talk.request())
    assert (await wire.reply(bodiless=True)).status == 200
    told.set()
    assert await wire.reader.readexactly(2) == b"ok"
    wire.close()


async def test_a_proxy_beyond_this_one_is_asked_for_a_tunnel(roots: Roots) -> None:
    made = Talk(roots)
    await made.prepare()
    made.says(OK)
    lines: list[bytes] = []

    async def beyond(peer: Peer) -> None:
        head = await peer.head()
        lines.append(head)
        if b"Basic " + b64encode(b"user:password") not in head:
            await peer.say(b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n")
            return
        await peer.say(b"HTTP/1.1 200 OK\r\n\r\n")
        plain = b":8080 " in head
        port = made.upstreams[0 if plain else 1].port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        await asyncio.gather(pump(peer.reader, writer), pump(reader, peer.writer))

    await made.serve("proxy.corp", 3128, beyond, tls=False)
    proxied = UpstreamProxy.parse("http://proxy.corp:3128", credential="beyond")
    async with playing(made, config(roots, proxied)):
        assert (await made.ask(made.request())).status == 200
        wire = await made.open()
        assert (await wire.connect("open.example:443")).status == 200
        await wire.shake("open.example", roots.pem)
        assert (await wire.ask(b"GET / HTTP/1.1\r\nHost: open.example\r\n\r\n")).status == 200
        wire.close()
        # Names are the other proxy's to resolve, and no host is dialled but that proxy.
        assert made.looked_up == ["proxy.corp", "proxy.corp"]
        assert {port for _, port in made.dialled} == {3128}
        assert [line.split(b" ")[1] for line in lines] == [
            b"model.example:8080",
            b"open.example:443",
        ]
        made.credentials["beyond"] = b"user:wrong-one"
        made.proxy._state.vault.forget()  # noqa: SLF001
        wire = await made.open()
        assert (await wire.connect("open.example:443")).status == 502
        wire.close()


async def test_a_proxy_beyond_this_one_that_speaks_before_it_is_spoken_to_is_left(
    roots: Roots,
) -> None:
    made = Talk(roots)
    await made.prepare()
    ahead = [OK, b"", b"x" * 20_000]

    async def beyond(peer: Peer) -> None:
        await peer.head()
        said = ahead[0]
        await peer.say(b"HTTP/1.1 200 OK\r\n" + (said if said[:1] == b"x" else b"\r\n" + said))
        await peer.reader.read()

    await made.serve("proxy.corp", 3128, beyond, tls=False)
    async with playing(made, config(roots, UpstreamProxy.parse("http://proxy.corp:3128"))):
        statuses = []
        while ahead:
            wire = await made.open()
            statuses.append((await wire.connect("open.example:443")).status)
            wire.close()
            ahead.pop(0)
        assert statuses == [502, 200, 502]


async def test_an_address_is_judged_before_a_proxy_beyond_this_one_is_asked_for_it(
    roots: Roots,
) -> None:
    made = Talk(roots)
    await made.prepare()
    proxied = config(roots, UpstreamProxy.parse("http://proxy.corp:3128"))
    proxied = replace(proxied, allow=(HostRule("10.0.0.1", 443), *proxied.allow))
    async with playing(made, proxied):
        wire = await made.open()
        assert (await wire.connect("10.0.0.1:443")).status == 403
        wire.close()
        assert made.dialled == []
