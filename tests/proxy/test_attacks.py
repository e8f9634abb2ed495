"""The attacks, as a play in order of what may leave.

Nothing, a name, a connection, a request, a credential, an answer: each act's worker tries what
isn't granted; the assertion looks from outside, at what upstreams heard, what was resolved and
dialled, and what was recorded.
"""

import asyncio
import gzip
import json
import ssl
import zlib
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_network
from typing import Any
from urllib.parse import parse_qs

import pytest

from nono_proxy import decoding
from nono_proxy.catalogue import route
from nono_proxy.client import Client
from nono_proxy.config import (
    BaseUrl,
    Config,
    EndpointRule,
    Header,
    HostRule,
    InBody,
    Limits,
    Narrow,
    Route,
    SigV4,
)
from tests.proxy.world import CREDENTIAL, DEADLINE_S, OK, Peer, Roots, Upstream, World, playing

pytestmark = pytest.mark.anyio

MODEL = Route(
    "model",
    ("model.example:8080",),
    "model",
    (Header("Authorization", "bearer"),),
    ("MODEL_API_KEY",),
    (BaseUrl("MODEL_BASE_URL"),),
    (EndpointRule("POST", "/v1/**"), EndpointRule("GET", "/v1/**")),
    tls=False,
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def roots() -> Roots:
    return Roots()


class Stage(World):
    """Four upstreams: one allowed opaque, one allowed plain, one with a credential, one not."""

    def __init__(self, roots: Roots) -> None:
        super().__init__(roots)
        self.answer: list[bytes] = [OK]
        self.bodies: list[bytes] = []
        self.open_: Upstream
        self.plain: Upstream
        self.model: Upstream
        self.evil: Upstream
        self.openai: Upstream

    async def prepare(self) -> None:
        self.credentials = {"model": CREDENTIAL, "openai": CREDENTIAL, "github": CREDENTIAL}
        self.open_ = await self.serve("open.example", 443, self.speak, tls=True)
        self.plain = await self.serve("plain.example", 80, self.speak, tls=False)
        self.model = await self.serve("model.example", 8080, self.speak, tls=False)
        self.evil = await self.serve("evil.example", 443, self.speak, tls=True)
        self.openai = await self.serve("api.openai.com", 443, self.speak, tls=True)

    async def speak(self, peer: Peer) -> None:
        """Answer every head with what the test says, piece by piece."""
        while True:
            head = await peer.head()
            _, mark, rest = head.lower().partition(b"content-length: ")
            if mark:
                length = int(rest.partition(b"\r\n")[0])
                self.bodies.append(await peer.reader.readexactly(length))
            for piece in self.answer:
                await peer.say(piece)
                await asyncio.sleep(0)
            if b"connection: close" in b"".join(self.answer).lower():
                return

    @property
    def heard(self) -> bytes:
        """Everything that any upstream heard."""
        return b"".join(each.heard for each in self.upstreams)

    def bearer(self, name: str = "model") -> bytes:
        """The field by which a worker's SDK presents its token."""
        return b"Authorization: Bearer " + self.token(name) + b"\r\n"

    def get(self, path: bytes = b"/v1/x", extra: bytes = b"") -> bytes:
        """A request for the model's route."""
        return b"GET /model" + path + b" HTTP/1.1\r\nHost: x\r\n" + self.bearer() + extra + b"\r\n"


def config(roots: Roots, **changes: object) -> Config:
    values: dict[str, object] = {
        "allow": (HostRule("open.example"), HostRule("plain.example", 80)),
        "deny": (HostRule("evil.example"),),
        "routes": (MODEL, route("openai"), route("github")),
        "upstream_roots_pem": roots.pem,
    }
    return Config(**(values | changes))  # type: ignore[arg-type]


@pytest.fixture
async def stage(roots: Roots) -> AsyncIterator[Stage]:
    made = Stage(roots)
    await made.prepare()
    async with playing(made, config(roots)):
        yield made


def clients(stage: Stage) -> list[Client]:
    """The proxy's ends of the worker's connections."""
    return [each for each in stage.proxy._state.members if isinstance(each, Client)]  # noqa: SLF001


def quiet(stage: Stage) -> bool:
    """Tell whether nothing left: no name, no connection, no octet."""
    return not stage.looked_up and not stage.dialled and not stage.heard


# Act 1: nobody may speak who isn't of this session.

ENTRANCES = {
    "connect": b"CONNECT open.example:443 HTTP/1.1\r\nHost: open.example:443\r\n",
    "forward": b"GET http://plain.example/ HTTP/1.1\r\nHost: plain.example\r\n",
    "denied": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n",
}


@pytest.mark.parametrize("head", ENTRANCES.values(), ids=ENTRANCES)
async def test_without_the_secret_no_verb_is_even_judged(stage: Stage, head: bytes) -> None:
    wire = await stage.open()
    reply = await wire.ask(head + b"\r\n")
    assert reply.status == 407
    assert b'Proxy-Authenticate: Basic realm="nono"' in reply.head
    assert b"keep-alive" in reply.head
    assert quiet(stage)
    # The connection is kept for the retry, as clients want it.
    assert (
        await wire.ask(
            b"GET http://plain.example/ HTTP/1.1\r\nHost: plain.example\r\n"
            + stage.password
            + b"\r\n"
        )
    ).status == 200
    wire.close()


@pytest.mark.parametrize(
    "value",
    [
        b"Basic " + b64encode(b"nono:wrong"),
        b"Basic " + b64encode(b"nono:"),
        b"Basic !!!!",
        b"Basic",
        b"Bearer x",
        b"Digest x",
    ],
)
async def test_a_wrong_secret_opens_nothing(stage: Stage, value: bytes) -> None:
    head = ENTRANCES["forward"] + b"Proxy-Authorization: " + value + b"\r\n\r\n"
    assert (await stage.ask(head)).status == 407
    assert quiet(stage)
    assert stage.codes() == ["authentication-failed"]


async def test_a_token_is_no_secret_and_a_secret_no_token(stage: Stage) -> None:
    basic = b64encode(b"nono:" + stage.token("model"))
    head = ENTRANCES["forward"] + b"Proxy-Authorization: Basic " + basic + b"\r\n\r\n"
    assert (await stage.ask(head)).status == 407
    secret = stage.lease.secret.encode()
    head = b"GET /model/v1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + secret + b"\r\n\r\n"
    assert (await stage.ask(head)).status == 401
    assert quiet(stage)


async def test_who_guesses_too_often_is_shown_the_door(stage: Stage) -> None:
    wire = await stage.open()
    wrong = ENTRANCES["forward"] + b"Proxy-Authorization: Basic bm9ubzp4\r\n\r\n"
    for _ in range(15):
        assert b"keep-alive" in (await wire.ask(wrong)).head
    assert b"Connection: close" in (await wire.ask(wrong)).head
    assert await wire.ended()
    assert stage.codes() == ["authentication-failed"] * 16
    wire.close()


async def test_after_the_call_its_secret_and_tokens_are_worth_nothing(stage: Stage) -> None:
    wire = await stage.open()
    assert (await wire.ask(stage.get())).status == 200
    stage.proxy.revoke(stage.lease)
    assert await wire.ended()
    wire.close()
    assert (await stage.ask(stage.get())).status == 401
    assert (await stage.ask(ENTRANCES["forward"] + stage.password + b"\r\n")).status == 407
    assert stage.model.heard.count(b"GET ") == 1


async def test_a_call_that_ends_takes_its_tunnels_with_it(stage: Stage) -> None:
    wire = await stage.open()
    assert (await wire.connect("open.example:443")).status == 200
    await wire.shake("open.example", stage.roots.pem)
    assert (await wire.ask(b"GET / HTTP/1.1\r\n\r\n")).status == 200
    stage.proxy.revoke(stage.lease)
    assert await wire.ended()
    await stage.until(lambda: stage.open_.ends == 1)
    wire.close()


async def test_in_a_namespace_of_its_own_a_worker_needs_no_secret(roots: Roots) -> None:
    made = Stage(roots)
    await made.prepare()
    async with playing(made, config(roots, authenticate=False)):
        assert (await made.ask(ENTRANCES["forward"] + b"\r\n")).status == 200
        assert made.records[-1].call == "call-1"
        # It then may do what every live call may do.
        given_up = made.proxy.mint("call-2", narrow=Narrow(hosts=()))
        assert (await made.ask(ENTRANCES["forward"] + b"\r\n")).status == 403
        assert (await made.ask(ENTRANCES["forward"] + made.password + b"\r\n")).status == 200
        made.proxy.revoke(given_up)
        made.proxy.revoke(made.lease)
        assert (await made.ask(ENTRANCES["forward"] + b"\r\n")).status == 403
        assert made.codes()[-1] == "no-call"


async def test_a_call_cannot_take_back_what_it_gave_up(stage: Stage) -> None:
    stage.lease = stage.proxy.mint("call-2", narrow=Narrow(hosts=(HostRule("open.example"),)))
    assert (await stage.ask(ENTRANCES["forward"] + stage.password + b"\r\n")).status == 403
    wire = await stage.open()
    assert (await wire.connect("api.openai.com:443")).status == 403
    assert (await wire.connect("open.example:443")).status == 200
    wire.close()


# Act 2: a name that isn't granted isn't looked up, however it's spelt.

SPELLINGS = [
    "evil.example:443",
    "EVIL.example:443",
    "evil.example.:443",
    "open.example.evil.example:443",
    "xopen.example:443",
    "sub.open.example:443",
    "open.example:80",
    "open.example:8443",
    "127.0.0.1:443",
    "169.254.169.254:80",
    "metadata.google.internal:80",
    "[::1]:443",
    "localhost:443",
]
UNREADABLE = [
    "open.example",
    "open.example:",
    "open.example:0",
    "open.example:443x",
    "open.example:+443",
    "open.example:0443",
    "open.example:65979",
    "open.example..:443",
    ".open.example:443",
    "open.example%00.evil.example:443",
    "open.example%2eevil.example:443",
    "evil.example@open.example:443",
    "open.example#.evil.example:443",
    "open.example/.evil.example:443",
    "open.example?.evil.example:443",
    "open.example\\.evil.example:443",
    "open_.example:443",
    "0x7f000001:443",
    "2130706433:443",
    "0177.0.0.1:443",
    "127.1:443",
    "127.0.0.01:443",
    "[::ffff:127.0.0.1]:443",
    "[0:0:0:0:0:0:0:1]:443",
    "[fe80::1%25eth0]:443",
    "http://open.example:443",
    "*:443",
    "*.example:443",
]


@pytest.mark.claim("egress.deny-by-default")
@pytest.mark.parametrize("authority", SPELLINGS)
async def test_a_host_that_no_rule_names_is_not_even_resolved(stage: Stage, authority: str) -> None:
    wire = await stage.open()
    assert (await wire.connect(authority)).status == 403
    assert quiet(stage)
    assert stage.records[-1].event == "refused"
    assert stage.records[-1].code in {"host-denied", "host-not-allowed"}
    wire.close()


@pytest.mark.parametrize("authority", UNREADABLE)
async def test_a_host_that_can_be_read_in_two_ways_is_refused(stage: Stage, authority: str) -> None:
    wire = await stage.open()
    assert (await wire.connect(authority)).status == 400
    assert quiet(stage)
    wire.close()


async def test_a_name_in_another_script_never_becomes_a_name(stage: Stage) -> None:
    for name in ("op\u0435n.example", "\uff4fpen.example", "open\u3002example"):
        line = f"CONNECT {name}:443 HTTP/1.1\r\nHost: {name}:443\r\n".encode()
        assert (await stage.ask(line + stage.password + b"\r\n")).status == 400
    assert quiet(stage)


async def test_connect_and_host_must_name_the_same(stage: Stage) -> None:
    for host in (b"evil.example:443", b"open.example:80", b"evil.example"):
        line = b"CONNECT open.example:443 HTTP/1.1\r\nHost: " + host + b"\r\n"
        assert (await stage.ask(line + stage.password + b"\r\n")).status in (400, 421)
    assert quiet(stage)


# Act 3: a name that is granted leads to public addresses only.

INNER = """
    127.0.0.1 0.0.0.0 10.0.0.1 172.16.0.1 192.168.1.1 100.64.0.1 169.254.1.1 169.254.169.254
    100.100.100.200 224.0.0.1 255.255.255.255 198.18.0.1 ::1 :: fe80::1 fc00::1 fd00:ec2::254
    ff02::1
    ::ffff:127.0.0.1 ::ffff:169.254.169.254 64:ff9b::7f00:1 2002:7f00:1:: 2001:db8::1
"""


@pytest.mark.claim("egress.no-inner-addresses")
@pytest.mark.parametrize("address", INNER.split())
async def test_a_granted_name_that_leads_inside_is_not_dialled(stage: Stage, address: str) -> None:
    stage.names["open.example"] = [address]
    wire = await stage.open()
    assert (await wire.connect("open.example:443")).status == 403
    assert stage.dialled == []
    assert stage.records[-1].code == "address-refused"
    wire.close()


async def test_of_mixed_answers_only_the_public_one_is_dialled(stage: Stage) -> None:
    public = stage.names["open.example"]
    stage.names["open.example"] = ["127.0.0.1", "10.0.0.1", *public, "::1"]
    wire = await stage.open()
    assert (await wire.connect("open.example:443")).status == 200
    assert stage.dialled == [(public[0], 443)]
    wire.close()


async def test_a_name_is_resolved_once_and_that_address_dialled(stage: Stage) -> None:
    public = stage.names["open.example"][0]
    answers = iter([[public], ["127.0.0.1"]])

    class Rebinding(dict[str, list[str]]):
        def __getitem__(self, name: str) -> list[str]:
            return next(answers)

    stage.names = Rebinding(stage.names)
    wire = await stage.open()
    assert (await wire.connect("open.example:443")).status == 200
    assert stage.looked_up == ["open.example"]
    assert stage.dialled == [(public, 443)]
    wire.close()
    second = await stage.open()
    assert (await second.connect("open.example:443")).status == 403
    assert stage.dialled == [(public, 443)]
    second.close()


async def test_a_grant_of_an_address_opens_that_and_no_metadata(roots: Roots) -> None:
    made = Stage(roots)
    await made.prepare()
    made.leads["10.1.2.3", 443] = made.open_.port
    granted = (ip_network("10.0.0.0/8"), ip_network("169.254.0.0/16"))
    async with playing(made, config(roots, address_grants=granted)):
        for address, status in (("10.1.2.3", 200), ("192.168.0.1", 403), ("169.254.169.254", 403)):
            made.names["open.example"] = [address]
            wire = await made.open()
            assert (await wire.connect("open.example:443")).status == status
            wire.close()
        assert made.dialled == [("10.1.2.3", 443)]


async def test_the_proxy_is_not_a_way_to_itself(roots: Roots) -> None:
    made = Stage(roots)
    await made.prepare()
    async with playing(made, config(roots)):
        loop = (HostRule("127.0.0.1", made.port, raw=True), HostRule("loop.example", made.port))
        made.names["loop.example"] = ["127.0.0.1"]
        granted = (ip_network("127.0.0.0/8"),)
        await made.proxy.reconfigure(config(roots, allow=loop, address_grants=granted))
        wire = await made.open()
        assert (await wire.connect(f"loop.example:{made.port}")).status == 403
        wire.close()
        assert made.dialled == []


async def test_who_asks_for_a_tunnel_to_the_proxy_speaks_to_it_as_before(stage: Stage) -> None:
    itself = f"127.0.0.1:{stage.port}"
    head = f"CONNECT {itself} HTTP/1.1\r\nHost: {itself}\r\n".encode()
    assert (await stage.ask(head + b"\r\n")).status == 407
    wire = await stage.open()
    for _ in range(3):
        assert (await wire.connect(itself)).status == 200
    assert (await wire.ask(ENTRANCES["forward"] + b"\r\n")).status == 407
    assert (await wire.ask(ENTRANCES["denied"] + stage.password + b"\r\n")).status == 403
    assert quiet(stage)
    assert (await wire.ask(stage.get())).status == 200
    assert [port for _, port in stage.dialled] == [8080]
    wire.close()


# Act 4: a tunnel carries TLS for its own host, and nothing else.

FIRST_WORDS = {
    "SSH": b"SSH-2.0-OpenSSH_9.0\r\n",
    "HTTP": b"GET / HTTP/1.1\r\nHost: open.example\r\n\r\n",
    "SMTP": b"EHLO x\r\n",
    "SSLv2": b"\x80\x2e\x01\x00\x02",
    "an alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "a server's hello": b"\x16\x03\x03\x00\x04\x02\x00\x00\x00",
    "NUL": b"\0" * 64,
    "a hello that is cut": b"\x16\x03\x01\x00\x00",
}


@pytest.mark.parametrize("words", FIRST_WORDS.values(), ids=FIRST_WORDS)
async def test_what_is_not_tls_does_not_reach_the_host(stage: Stage, words: bytes) -> None:
    wire = await stage.open()
    assert (await wire.connect("open.example:443")).status == 200
    await wire.send(words)
    assert b"HTTP" not in (await wire.reply()).raw
    assert stage.open_.heads == []
    assert "not-tls" in stage.codes()
    wire.close()


def hello(name: str | None, cut: int = 0) -> bytes:
    """A ClientHello; over records of *cut* octets if that isn't zero."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    data = out.read()
    if not cut:
        return data
    pieces = [data[at : at + cut] for at in range(5, len(data), cut)]
    return b"".join(b"\x16\x03\x01" + len(p).to_bytes(2, "big") + p for p in pieces)


@pytest.mark.claim("egress.tunnels-name-their-host")
@pytest.mark.parametrize(
    "name", ["evil.example", None, "sub.open.example", "open.example.evil.example"]
)
@pytest.mark.parametrize("cut", [0, 7])
async def test_a_tunnel_for_one_host_is_none_for_another(
    stage: Stage, name: str | None, cut: int
) -> None:
    wire = await stage.open()
    assert (await wire.connect("open.example:443")).status == 200
    for octet in hello(name, cut):
        await wire.send(bytes([octet]))
    assert (await wire.reply()).raw[:1] in (b"", b"\x15")
    assert "sni-mismatch" in stage.codes()
    assert stage.records[-1].event == "tunnel-close"
    wire.close()


async def test_tunnels_that_ended_leave_room_for_others(roots: Roots) -> None:
    made = Stage(roots)
    await made.prepare()
    made.answer = [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"]
    raw = (HostRule("plain.example", 80, raw=True),)
    async with playing(made, config(roots, allow=raw, limits=Limits(connections_max=2))):
        for ended in range(1, 6):
            wire = await made.open()
            assert (await wire.connect("plain.example:80")).status == 200
            # The host ends first, then the client: nobody resets anything.
            reply = await wire.ask(b"GET / HTTP/1.1\r\nHost: plain.example\r\n\r\n")
            assert reply.body == b"ok"
            assert await wire.ended()
            wire.writer.close()
            await made.until(lambda: len(made.records) == 2 * ended)  # noqa: B023 - at once
        assert [record.event for record in made.records] == ["tunnel-open", "tunnel-close"] * 5


async def test_a_hello_split_over_records_and_reads_is_still_read(stage: Stage) -> None:
    wire = await stage.open()
    assert (await wire.connect("open.example:443")).status == 200
    for octet in hello("open.example", 9):
        await wire.send(bytes([octet]))
    # The host itself answers now.
    assert (await wire.reader.readexactly(1)) == b"\x16"
    wire.close()


async def test_a_connect_with_a_body_is_refused(stage: Stage) -> None:
    wire = await stage.open()
    reply = await wire.connect("open.example:443", b"Content-Length: 5\r\n")
    assert reply.status == 400
    wire.close()
    wire = await stage.open()
    reply = await wire.connect("open.example:443", b"Transfer-Encoding: chunked\r\n")
    assert reply.status == 400
    wire.close()
    assert quiet(stage)


async def test_a_connect_of_http_1_0_needs_no_host(stage: Stage) -> None:
    for name, status in (("open.example", 200), ("evil.example", 403)):
        head = f"CONNECT {name}:443 HTTP/1.0\r\n".encode() + stage.password + b"\r\n"
        assert (await stage.ask(head)).status == status
    head = b"CONNECT open.example:443 HTTP/1.1\r\n" + stage.password + b"\r\n"
    assert (await stage.ask(head)).status == 400


async def test_words_sent_ahead_wait_for_the_tunnel(stage: Stage) -> None:
    wire = await stage.open()
    head = b"CONNECT open.example:443 HTTP/1.1\r\nHost: open.example:443\r\n" + stage.password
    await wire.send(head + b"\r\n" + hello("evil.example"))
    assert (await wire.reply(bodiless=True)).status == 200
    await stage.until(lambda: "sni-mismatch" in stage.codes())
    wire.close()


async def test_who_says_everything_ahead_and_ends_is_still_answered(roots: Roots) -> None:
    made = Stage(roots)
    await made.prepare()
    made.answer = [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"]
    raw = (HostRule("plain.example", 80, raw=True),)
    async with playing(made, config(roots, allow=raw)):
        wire = await made.open()
        line = b"CONNECT plain.example:80 HTTP/1.1\r\nHost: plain.example:80\r\n"
        asked = b"GET / HTTP/1.1\r\nHost: plain.example\r\n\r\n"
        await wire.send(line + made.password + b"\r\n" + asked)
        wire.writer.write_eof()
        assert (await wire.reply(bodiless=True)).status == 200
        assert (await wire.reply()).body == b"ok"
        assert await wire.ended()


async def test_a_raw_rule_is_a_word_of_its_own(roots: Roots) -> None:
    made = Stage(roots)
    await made.prepare()
    async with playing(made, config(roots, allow=(HostRule("plain.example", 80, raw=True),))):
        wire = await made.open()
        assert (await wire.connect("plain.example:80")).status == 200
        assert (await wire.ask(b"ANYTHING\r\n\r\n")).raw == OK
        wire.close()
        assert made.plain.heads == [b"ANYTHING\r\n\r\n"]


async def test_a_tunnel_in_a_tunnel_is_refused(stage: Stage) -> None:
    wire = await stage.open()
    assert (await wire.connect("api.openai.com:443")).status == 200
    await wire.shake("api.openai.com", stage.proxy.ca_pem)
    reply = await wire.ask(b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n")
    assert reply.status == 405
    wire.close()
    assert quiet(stage)


# Act 5: where requests are read, each is judged, and read in one way.

FRONTED = {
    "another Host": b"GET / HTTP/1.1\r\nHost: evil.example\r\n",
    "another port": b"GET / HTTP/1.1\r\nHost: api.openai.com:8443\r\n",
    "absolute-form": b"GET https://evil.example/ HTTP/1.1\r\nHost: api.openai.com\r\n",
    "authority-form": b"GET evil.example:443 HTTP/1.1\r\nHost: api.openai.com\r\n",
    "asterisk-form": b"OPTIONS * HTTP/1.1\r\nHost: api.openai.com\r\n",
    "a second Host": b"GET / HTTP/1.1\r\nHost: api.openai.com\r\nHost: evil.example\r\n",
    "TRACE": b"TRACE / HTTP/1.1\r\nHost: api.openai.com\r\n",
    "a preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n",
}


@pytest.mark.parametrize("head", FRONTED.values(), ids=FRONTED)
async def test_fronting_inside_an_intercepted_tunnel_is_refused(stage: Stage, head: bytes) -> None:
    wire = await stage.open()
    assert (await wire.connect("api.openai.com:443")).status == 200
    await wire.shake("api.openai.com", stage.proxy.ca_pem)
    assert (await wire.ask(head + b"\r\n")).status in (400, 405, 421)
    assert quiet(stage)
    wire.close()


async def test_interception_is_for_its_hosts_alone(stage: Stage) -> None:
    wire = await stage.open()
    assert (await wire.connect("open.example:443")).status == 200
    # Opaque: what answers is the host's own certificate, which the session's authority didn't sign.
    with pytest.raises(ssl.SSLCertVerificationError):
        await wire.shake("open.example", stage.proxy.ca_pem)
    wire.close()


async def test_a_client_that_rejects_the_authority_is_reported(stage: Stage) -> None:
    wire = await stage.open()
    assert (await wire.connect("api.openai.com:443")).status == 200
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cadata=stage.roots.pem)
    client = context.wrap_bio(incoming, outgoing, server_hostname="api.openai.com")
    for _ in range(9):
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            await wire.send(outgoing.read())
            incoming.write(await wire.reader.read(65536))
        except ssl.SSLCertVerificationError:
            break
    # OpenSSL leaves an alert to be sent, as curl and others do.
    await wire.send(outgoing.read())
    await stage.until(lambda: "client-trust" in stage.codes())
    assert quiet(stage)


SMUGGLED = {
    "two lengths": b"Content-Length: 3\r\nContent-Length: 30\r\n\r\nabc",
    "length and chunks": b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded field": b"X: a\r\n b\r\n\r\n",
    "a bare LF": b"X: a\nContent-Length: 30\r\n\r\n",
    "a bare CR": b"X: a\rY: b\r\n\r\n",
    "NUL": b"X: a\0\r\n\r\n",
    "a space before the colon": b"Content-Length : 3\r\n\r\nabc",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a chunk extension": b"Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n",
    "a chunk that is too long": b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
    "a chunk of minus one": b"Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n",
    "a chunk that overflows": b"Transfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc",
    "a chunk after LF": b"Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n",
    "a trailer that frames": b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\n\r\n",
    "Connection names the token": b"Connection: authorization\r\n\r\n",
    "an empty line first": None,
}


@pytest.mark.claim("egress.one-reading")
@pytest.mark.parametrize("rest", SMUGGLED.values(), ids=SMUGGLED)
async def test_smuggling_reaches_no_upstream(stage: Stage, rest: bytes | None) -> None:
    head = b"POST /model/v1/x HTTP/1.1\r\nHost: x\r\n" + stage.bearer()
    reply = await stage.ask(b"\r\n" + head + b"\r\n" if rest is None else head + rest)
    assert reply.status == 400
    assert b"Connection: close" in reply.head
    assert quiet(stage)


async def test_a_second_request_is_judged_as_the_first_was(stage: Stage) -> None:
    wire = await stage.open()
    evil = b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n" + stage.password + b"\r\n"
    await wire.send(stage.get() + evil + stage.get(b"/v1/y"))
    assert [(await wire.reply()).status for _ in range(3)] == [200, 403, 200]
    assert stage.evil.connections == 0
    assert b"evil" not in stage.heard
    wire.close()


async def test_pipelined_requests_are_answered_in_order(stage: Stage) -> None:
    wire = await stage.open()
    await wire.send(b"".join(stage.get(b"/v1/%d" % number) for number in range(20)))
    assert [(await wire.reply()).status for _ in range(20)] == [200] * 20
    paths = [head.split(b" ")[1] for head in stage.model.heads]
    assert paths == [b"/v1/%d" % number for number in range(20)]
    wire.close()


@pytest.mark.parametrize(
    "target",
    [
        b"http://plain.example@evil.example/",
        b"http://evil.example/",
        b"http://plain.example:443/",
        b"http://plain.example.:81/",
        b"ftp://plain.example/",
        b"//plain.example/",
        b"http:///plain.example/",
        b"http://plain.example%2f.evil.example/",
        b"http://api.openai.com:443/",
        b"gopher://plain.example:80/",
    ],
)
async def test_an_absolute_target_that_is_not_granted(stage: Stage, target: bytes) -> None:
    host = target.partition(b"://")[2].partition(b"/")[0] or b"plain.example"
    head = b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n" + stage.password
    assert (await stage.ask(head + b"\r\n")).status in (400, 403, 404)
    assert quiet(stage)


async def test_an_absolute_target_and_another_host(stage: Stage) -> None:
    head = b"GET http://plain.example/ HTTP/1.1\r\nHost: evil.example\r\n" + stage.password
    assert (await stage.ask(head + b"\r\n")).status == 421
    assert quiet(stage)


async def test_plain_http_in_a_tunnel_is_judged_request_by_request(stage: Stage) -> None:
    wire = await stage.open()
    assert (await wire.connect("plain.example:80")).status == 200
    assert (await wire.ask(b"GET / HTTP/1.1\r\nHost: plain.example\r\n\r\n")).status == 200
    assert (await wire.ask(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")).status == 421
    assert len(stage.plain.heads) == 1
    wire.close()


async def test_what_is_between_two_hops_does_not_travel(stage: Stage) -> None:
    head = b"GET http://plain.example/ HTTP/1.1\r\nHost: PLAIN.example.\r\n" + stage.password
    extra = (
        b"Connection: close, X-Secret\r\nX-Secret: a\r\nKeep-Alive: 5\r\nTE: trailers\r\n"
        b"Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\nX-Kept: b\r\n"
    )
    assert (await stage.ask(head + extra + b"\r\n")).status == 200
    assert stage.plain.heard == b"GET / HTTP/1.1\r\nHost: plain.example\r\nX-Kept: b\r\n\r\n"


async def test_an_upgrade_to_what_carries_requests_is_never_passed_on(stage: Stage) -> None:
    stage.answer = [b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"]
    extra = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n"
    assert (await stage.ask(stage.get(extra=extra))).status == 502
    head = b"GET http://plain.example/ HTTP/1.1\r\nHost: plain.example\r\n" + stage.password
    assert (await stage.ask(head + extra + b"\r\n")).status == 502
    # Asked for another, an upstream that answers with this one is a liar.
    assert (await stage.ask(stage.get(extra=extra.replace(b"h2c", b"websocket")))).status == 502
    assert b"h2c" not in stage.heard
    assert b"HTTP2-Settings" not in stage.heard


ENDPOINTS = [
    b"/v2/x",
    b"/admin",
    b"/v1/../admin",
    b"/v1/%2e%2e/admin",
    b"/v1/%252e%252e/admin",
    b"/v1/..%2fadmin",
    b"/v1/..;/admin",
    b"/v1/.\\../admin",
    b"/v1/%5c..%5cadmin",
    b"/v1/x%00",
    b"/v1/x#y",
    b"/v1/x?y#z",
    b"/v1/x%0d%0aHost:%20evil.example",
    b"//v1/x",
    b"/V1/x",
]


@pytest.mark.parametrize("path", ENDPOINTS)
async def test_paths_beside_what_is_granted(stage: Stage, path: bytes) -> None:
    assert (await stage.ask(stage.get(path))).status in (400, 403)
    assert quiet(stage)


@pytest.mark.parametrize(
    "name", [b"X-HTTP-Method-Override", b"X-Method-Override", b"x-http-method"]
)
async def test_a_method_is_not_overridden(stage: Stage, name: bytes) -> None:
    assert (await stage.ask(stage.get(extra=name + b": DELETE\r\n"))).status == 403
    assert quiet(stage)


@pytest.mark.parametrize("method", [b"DELETE", b"PUT", b"TRACE", b"TRACK"])
async def test_methods_beside_what_is_granted(stage: Stage, method: bytes) -> None:
    assert (await stage.ask(stage.get().replace(b"GET", method, 1))).status in (403, 405)
    assert quiet(stage)


# Act 6: the token is replaced in its place, at its route, in its call, and nowhere else.


async def test_the_key_goes_out_where_the_phantom_stood(stage: Stage) -> None:
    assert (await stage.ask(stage.get())).status == 200
    assert b"Authorization: Bearer " + CREDENTIAL + b"\r\n" in stage.heard
    assert stage.token("model") not in stage.heard
    record = stage.records[-1]
    assert (record.injected, record.route, record.call) == (True, "model", "call-1")


def misplaced(stage: Stage) -> dict[str, bytes]:
    token, other = stage.token("model"), stage.token("openai")
    bearer = stage.bearer()
    start = b"GET /model/v1/x HTTP/1.1\r\nHost: x\r\n"
    basic = b"Authorization: Basic " + b64encode(b"x:" + token) + b"\r\n"
    return {
        "none": start + b"\r\n",
        "of another route": start + b"Authorization: Bearer " + other + b"\r\n\r\n",
        "upper-cased": start + b"Authorization: Bearer " + token.upper() + b"\r\n\r\n",
        "cut": start + b"Authorization: Bearer " + token[:-1] + b"\r\n\r\n",
        "in two words": start
        + b"Authorization: Bearer "
        + token[:20]
        + b" "
        + token[20:]
        + b"\r\n\r\n",
        "under another scheme": start + b"Authorization: Token " + token + b"\r\n\r\n",
        "as a Basic password": start + basic + b"\r\n",
        "twice": start + bearer + bearer + b"\r\n",
        "and another in another field": start + bearer + b"X-Api-Key: " + token + b"\r\n\r\n",
        "and another in the query": start.replace(b"/x", b"/x?k=" + token) + bearer + b"\r\n",
        "and another in the path": start.replace(b"/x", b"/x/" + token) + bearer + b"\r\n",
        "and another route's": start + bearer + b"X: " + other + b"\r\n\r\n",
        "in another field": start + b"X-Api-Key: " + token + b"\r\n\r\n",
        "in a cookie": start + bearer + b"Cookie: a=" + token + b"\r\n\r\n",
        "followed by a control character": start + bearer[:-2] + b"\x01\r\n\r\n",
    }


@pytest.mark.claim("credential.only-in-its-place")
@pytest.mark.parametrize("which", range(15))
async def test_a_token_out_of_place_buys_nothing(stage: Stage, which: int) -> None:
    name, request = list(misplaced(stage).items())[which]
    reply = await stage.ask(request)
    assert reply.status in (400, 401, 403), name
    assert quiet(stage), name
    assert stage.asked == []


async def test_a_token_at_another_host_is_refused(stage: Stage) -> None:
    basic = b"Authorization: Basic " + b64encode(b"x:" + stage.token("model")) + b"\r\n"
    for field in (stage.bearer(), b"X: " + stage.token("openai") + b"\r\n", basic):
        head = b"GET http://plain.example/ HTTP/1.1\r\nHost: plain.example\r\n" + stage.password
        assert (await stage.ask(head + field + b"\r\n")).status == 403
    assert quiet(stage)
    assert stage.codes() == ["token-elsewhere"] * 3


async def test_a_token_in_what_asks_for_a_tunnel_is_refused(stage: Stage) -> None:
    head = b"CONNECT open.example:443 HTTP/1.1\r\nHost: open.example:443\r\n" + stage.password
    for field in (stage.bearer(), b"X: " + stage.token("openai") + b"\r\n"):
        assert (await stage.ask(head + field + b"\r\n")).status == 403
    assert quiet(stage)
    assert stage.codes() == ["token-elsewhere"] * 2


async def test_a_token_of_one_call_in_the_tunnel_of_another(stage: Stage) -> None:
    other = stage.proxy.mint("call-2")
    wire = await stage.open()
    assert (await wire.connect("api.openai.com:443")).status == 200
    await wire.shake("api.openai.com", stage.proxy.ca_pem)
    head = b"GET / HTTP/1.1\r\nHost: api.openai.com\r\nAuthorization: Bearer "
    assert (await wire.ask(head + other.tokens["openai"].encode() + b"\r\n\r\n")).status == 403
    assert stage.asked == []
    assert stage.openai.heads == []
    wire.close()


async def test_a_token_in_a_body_stays_a_token(stage: Stage) -> None:
    body = stage.token("model")
    heard: list[bytes] = []

    async def listen(peer: Peer) -> None:
        await peer.head()
        heard.append(await peer.reader.readexactly(len(body)))
        await peer.say(OK)

    server = await stage.serve("model.example", 8080, listen, tls=False, address="93.184.216.99")
    stage.names["model.example"] = ["93.184.216.99"]
    length = b"Content-Length: %d\r\n" % len(body)
    head = b"POST /model/v1/x HTTP/1.1\r\nHost: x\r\n" + stage.bearer() + length + b"\r\n"
    assert (await stage.ask(head + body)).status == 200
    assert heard == [body]
    assert server.connections == 1


TRADE = Route(
    "trade",
    ("model.example:8080",),
    "model",
    (InBody("/auth/secret"), InBody("/secret")),
    base_urls=(BaseUrl("TRADE_URL"),),
    endpoints=(EndpointRule("POST", "/token"),),
    tls=False,
)
JSON, FORM = b"application/json", b"application/x-www-form-urlencoded"


@asynccontextmanager
async def trading(roots: Roots, **changes: Any) -> AsyncIterator[Stage]:  # noqa: ANN401
    made = Stage(roots)
    await made.prepare()
    async with playing(made, config(roots, routes=(TRADE, route("openai")), **changes)):
        yield made


def trade(body: bytes, kind: bytes = JSON, extra: bytes = b"") -> bytes:
    """A request that changes a secret for a token."""
    head = b"POST /trade/token HTTP/1.1\r\nHost: x\r\nContent-Type: " + kind + b"\r\n" + extra
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("kind", ["JSON", "a form"])
@pytest.mark.parametrize("pace", ["at once", "octet by octet", "when it's asked for"])
async def test_a_token_in_a_body_where_its_route_says_so(
    roots: Roots, kind: str, pace: str
) -> None:
    async with trading(roots) as stage:
        stage.credentials["model"] = CREDENTIAL + b'"&=\\%'
        token = stage.token("trade")
        if kind == "JSON":
            request = trade(b'{"n": [1, "\\u00fc"], "auth": {"secret": "' + token + b'"}} ', JSON)
        else:
            request = trade(b"a=b%20c&secret=" + token + b"&d", FORM + b"; charset=utf-8")
        wire = await stage.open()
        if pace == "when it's asked for":
            head, _, body = request.partition(b"\r\n\r\n")
            await wire.send(head + b"\r\nExpect: 100-continue\r\n\r\n")
            assert (await wire.reply(bodiless=True)).status == 100
            request = body
        for piece in [request] if pace == "at once" else [bytes([one]) for one in request]:
            await wire.send(piece)
        assert (await wire.reply()).status == 200
        wire.close()
        (sent,) = stage.bodies
        if kind == "JSON":
            assert json.loads(sent) == {
                "n": [1, "\u00fc"],
                "auth": {"secret": stage.credentials["model"].decode()},
            }
        else:
            assert parse_qs(sent.decode())["secret"] == [stage.credentials["model"].decode()]
        assert token not in sent + stage.heard
        assert b"Expect" not in stage.heard
        await stage.until(lambda: bool(stage.records))
        assert stage.records[-1].injected


def bodies_out_of_place(stage: Stage) -> dict[str, bytes]:
    token, other = stage.token("trade"), stage.token("openai")
    escaped = b"\\u%04x" % token[0] + token[1:]
    compressed = gzip.compress(b'{"secret": "' + token + b'"}')
    return {
        "none": trade(b'{"secret": "x"}'),
        "no body": trade(b""),
        "elsewhere": trade(b'{"public": "' + token + b'"}'),
        "deeper": trade(b'{"secret": {"a": "' + token + b'"}}'),
        "as a name": trade(b'{"' + token + b'": "secret"}'),
        "twice": trade(b'{"secret": "' + token + b'", "b": "' + token + b'"}'),
        "escaped, and elsewhere as it is": trade(
            b'{"secret": "' + escaped + b'", "public": "' + token + b'"}'
        ),
        "escaped": trade(b'{"secret": "' + escaped + b'"}'),
        "under a name that stands twice": trade(b'{"secret": "' + token + b'", "secret": "x"}'),
        "under the second of two names": trade(b'{"secret": "x", "secret": "' + token + b'"}'),
        "with another route's beside it": trade(
            b'{"secret": "' + token + b'", "b": "' + other + b'"}'
        ),
        "of another route": trade(b'{"secret": "' + other + b'"}'),
        "cut": trade(b'{"secret": "' + token[:-1] + b'"}'),
        "in a longer text": trade(b'{"secret": "Bearer ' + token + b'"}'),
        "in what isn't JSON": trade(b'{"secret": "' + token + b'"'),
        "in what is too deep": trade(b"[" * 20000 + token),
        "in a field that stands twice": trade(b"secret=" + token + b"&secret=x", FORM),
        "in a field of another name": trade(b"public=" + token, FORM),
        "as the name of a field": trade(token + b"=secret", FORM),
        "in text": trade(b'{"secret": "' + token + b'"}', b"text/plain"),
        "in what is of two kinds": trade(
            b'{"secret": "' + token + b'"}', JSON, b"Content-Type: text/plain\r\n"
        ),
        "compressed": trade(compressed, JSON, b"Content-Encoding: gzip\r\n"),
        "in the head": trade(b"{}", JSON, b"X-Secret: " + token + b"\r\n"),
        "in the path": trade(b'{"secret": "' + token + b'"}').replace(
            b"/token ", b"/token?a=" + token + b" "
        ),
    }


@pytest.mark.claim("credential.only-in-its-place")
@pytest.mark.parametrize("which", range(24))
async def test_a_token_in_a_body_out_of_place_buys_nothing(roots: Roots, which: int) -> None:
    async with trading(roots) as stage:
        name, request = list(bodies_out_of_place(stage).items())[which]
        assert (await stage.ask(request)).status in (400, 401, 403), name
        assert quiet(stage), name
        assert stage.asked == []


async def test_a_body_that_is_looked_into_is_bounded(roots: Roots) -> None:
    limits = Limits(token_body_bytes_max=200)
    async with trading(roots, limits=limits) as stage:
        padded = b'{"secret": "' + stage.token("trade") + b'", "a": "' + b"a" * 200 + b'"}'
        assert (await stage.ask(trade(padded))).status == 413
        head = trade(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        assert (await stage.ask(head + b"0\r\n\r\n")).status == 411
        assert quiet(stage)


async def test_a_body_without_its_token_goes_out_without_a_credential(roots: Roots) -> None:
    async with trading(roots) as stage:
        line = b"POST http://model.example:8080/token HTTP/1.1\r\nHost: model.example:8080\r\n"
        head = line + stage.password + b"Content-Type: application/json\r\nContent-Length: "
        plain, token = b'{"a": "b"}', b'{"public": "' + stage.token("trade") + b'"}'
        assert (await stage.ask(head + b"%d\r\n\r\n" % len(token) + token)).status == 403
        assert quiet(stage)
        assert (await stage.ask(head + b"%d\r\n\r\n" % len(plain) + plain)).status == 200
        assert (stage.bodies, stage.asked) == ([plain], [])


async def test_a_call_that_ends_while_its_credential_is_fetched(roots: Roots) -> None:
    async with trading(roots) as stage:
        may_have = asyncio.Event()
        lookup = stage.lookup

        async def slow(name: str) -> bytes:
            found = await lookup(name)
            await may_have.wait()
            return found

        stage.proxy._state.vault._lookup = slow  # noqa: SLF001
        wire = await stage.open()
        await wire.send(trade(b'{"secret": "' + stage.token("trade") + b'"}'))
        await stage.until(lambda: bool(stage.asked))
        stage.proxy.revoke(stage.lease)
        assert await wire.ended()
        may_have.set()
        await stage.until(lambda: not stage.proxy._state.tasks)  # noqa: SLF001
        assert stage.heard == b""
        wire.close()


async def test_a_call_that_ends_while_its_body_comes(roots: Roots) -> None:
    async with trading(roots) as stage:
        request = trade(b'{"secret": "' + stage.token("trade") + b'"}')
        wire = await stage.open()
        await wire.send(request[:-1])
        await stage.until(lambda: any(vars(each)["_exchange"] for each in clients(stage)))
        stage.proxy.revoke(stage.lease)
        assert (await wire.ask(request[-1:])).status == 401
        assert quiet(stage)
        wire.close()


async def test_without_the_credential_nothing_goes_out(stage: Stage) -> None:
    stage.credentials.clear()
    reply = await stage.ask(stage.get())
    assert reply.status == 503
    assert b"model is locked" in reply.body
    assert stage.heard == b""


@pytest.mark.parametrize(
    "value", [b"short", b"sk-1234567\r\nX: y", b"sk-1234567\0", b" sk-1234567", b""]
)
async def test_a_credential_that_would_break_a_field_is_not_used(
    stage: Stage, value: bytes
) -> None:
    stage.credentials["model"] = value
    reply = await stage.ask(stage.get())
    assert reply.status == 503
    assert value not in reply.body or not value
    assert stage.heard == b""


async def test_a_key_goes_only_to_a_host_that_proves_itself(stage: Stage) -> None:
    stage.leads[stage.names["api.openai.com"][0], 443] = stage.evil.port
    head = b"GET /openai/v1 HTTP/1.1\r\nHost: x\r\n" + stage.bearer("openai") + b"\r\n"
    reply = await stage.ask(head)
    assert reply.status == 502
    assert stage.codes() == ["upstream-tls"]
    assert stage.heard == b""


async def test_a_signature_is_made_anew(roots: Roots) -> None:
    made = Stage(roots)
    await made.prepare()
    made.credentials["aws"] = b"AKIDREAL0123:real-secret-0123456789"
    aws = Route(
        "aws", ("plain.example:80",), "aws", (SigV4(),), base_urls=(BaseUrl("X"),), tls=False
    )
    async with playing(made, config(roots, routes=(aws,))):
        token = made.token("aws")
        head = (
            b"POST /aws/q HTTP/1.1\r\nHost: x\r\nX-Amz-Date: 20260101T000000Z\r\n"
            b"Content-Length: 3\r\n"
            b"Authorization: AWS4-HMAC-SHA256 Credential=" + token + b"/20260101/eu-west-1/sqs/"
            b"aws4_request, SignedHeaders=host;x-amz-date, Signature=" + b"0" * 64 + b"\r\n\r\n"
        )
        assert (await made.ask(head + b"a=b")).status == 200
        assert b"Credential=AKIDREAL0123/20260101/eu-west-1/sqs/aws4_request" in made.plain.heard
        assert token not in made.plain.heard
        assert b"0" * 64 not in made.plain.heard
        # However the body comes, it's the body that is signed.
        wire = await made.open()
        await wire.send(head)
        await made.until(lambda: any(vars(each)["_exchange"] for each in clients(made)))
        assert (await wire.ask(b"a=b")).status == 200
        assert (await made.ask(head + b"a=c")).status == 200
        first, second, third = (one.partition(b"Signature=")[2] for one in made.plain.heads)
        assert first == second != third
        wire.close()


async def test_bodies_that_are_held_are_bounded_for_a_call_and_in_all(roots: Roots) -> None:
    made = Stage(roots)
    await made.prepare()
    made.credentials["aws"] = b"AKIDREAL0123:real-secret-0123456789"
    aws = Route(
        "aws", ("plain.example:80",), "aws", (SigV4(),), base_urls=(BaseUrl("X"),), tls=False
    )
    limits = Limits(held_call_bytes_max=20, held_bytes_max=30)
    async with playing(made, config(roots, routes=(aws,), limits=limits)):
        other = made.proxy.mint("other")

        def head(token: bytes, size: int = 10) -> bytes:
            return (
                b"POST /aws/q HTTP/1.1\r\nHost: x\r\nX-Amz-Date: 20260101T000000Z\r\n"
                b"Content-Length: %d\r\n" % size
                + b"Authorization: AWS4-HMAC-SHA256 Credential=" + token
                + b"/20260101/eu-west-1/sqs/aws4_request, SignedHeaders=host;x-amz-date, "
                b"Signature=" + b"0" * 64 + b"\r\n\r\n"
            )  # fmt: skip

        mine, theirs = made.token("aws"), other.tokens["aws"].encode()
        wires = [await made.open() for _ in range(3)]
        for number, wire in enumerate(wires[:2], 1):
            await wire.send(head(mine) + b"half ")
            await made.until(partial(is_held, made, number * 10))
        # One more is too many for the call, but not for another's.
        assert (await made.ask(head(mine, 1))).status == 503
        assert made.codes()[-1] == "bodies-held"
        await wires[2].send(head(theirs) + b"half ")
        await made.until(lambda: held(made) == 30)
        assert (await made.ask(head(theirs, 1))).status == 503
        # What is sent, what fails and what breaks off makes room again.
        assert (await wires[0].ask(b"whole")).status == 200
        wires[1].close()
        await made.until(lambda: held(made) == 10)
        assert (await made.ask(head(mine) + b"half whole")).status == 200
        assert (await wires[2].ask(b"whole")).status == 200
        assert held(made) == 0
        for wire in wires:
            wire.close()


def is_held(stage: Stage, count: int) -> bool:
    return held(stage) == count


def held(stage: Stage) -> int:
    """Return how many octets of bodies count as held."""
    return stage.proxy._state._held.total()  # noqa: SLF001


# Act 7: what comes back has no credential in it, leads nowhere, and can't break the next answer.


def echoes() -> dict[str, list[bytes]]:
    plain = b"HTTP/1.1 200 OK\r\n"
    sized = plain + b"Content-Length: %d\r\n\r\n"
    basic = b64encode(b"x:" + CREDENTIAL)
    chunks = plain + b"Transfer-Encoding: chunked\r\n\r\n"
    half, rest = CREDENTIAL[:9], CREDENTIAL[9:]
    return {
        "in a body": [sized % len(CREDENTIAL), CREDENTIAL],
        "octet by octet": [sized % len(CREDENTIAL), *[bytes([octet]) for octet in CREDENTIAL]],
        "in base64": [sized % len(basic), basic],
        "in a field": [plain + b"X: " + CREDENTIAL + b"\r\nContent-Length: 0\r\n\r\n"],
        "in a reason": [b"HTTP/1.1 200 " + CREDENTIAL + b"\r\nContent-Length: 0\r\n\r\n"],
        "in a field's name": [plain + b"sk-real-0123456789: x\r\nContent-Length: 0\r\n\r\n"],
        "in a redirect": [
            b"HTTP/1.1 302 Found\r\nLocation: https://evil.example/?k="
            + CREDENTIAL
            + b"\r\nContent-Length: 0\r\n\r\n"
        ],
        "split over chunks": [
            chunks + b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(half), half, len(rest), rest)
        ],
        "in a trailer": [chunks + b"1\r\na\r\n0\r\nX: " + CREDENTIAL + b"\r\n\r\n"],
        "until the end": [plain + b"Connection: close\r\n\r\n" + CREDENTIAL],
        "in an error": [
            b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n" % len(CREDENTIAL),
            CREDENTIAL,
        ],
        "in a cookie": [plain + b"Set-Cookie: k=" + CREDENTIAL + b"\r\nContent-Length: 0\r\n\r\n"],
    }


@pytest.mark.claim("credential.not-in-answers")
@pytest.mark.parametrize("which", echoes(), ids=str)
async def test_an_upstream_that_echoes_the_key(stage: Stage, which: str) -> None:
    stage.answer = echoes()[which]
    wire = await stage.open()
    reply = await wire.ask(stage.get())
    assert reply.status in (200, 302, 401)
    if which != "in a field's name":
        assert not any(CREDENTIAL[at : at + 12] in reply.raw for at in range(len(CREDENTIAL) - 12))
        assert b64encode(b"x:" + CREDENTIAL)[6:20] not in reply.raw
        await stage.until(lambda: bool(stage.records))
        assert stage.records[-1].scrubbed_count == (0 if which == "in a cookie" else 1)
    assert b"Set-Cookie" not in reply.raw
    wire.close()


COMPRESSED = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "two members": lambda data: gzip.compress(data[:12]) + gzip.compress(data[12:]),
}


@pytest.mark.claim("credential.not-in-answers")
@pytest.mark.parametrize("pace", ["at once", "octet by octet", "in chunks", "until the end"])
@pytest.mark.parametrize("how", COMPRESSED)
async def test_a_key_that_comes_back_compressed(stage: Stage, how: str, pace: str) -> None:
    data = COMPRESSED[how](b"key: " + CREDENTIAL + b", and " + b64encode(b"x:" + CREDENTIAL))
    coding = b"deflate" if how == "deflate" else b"gzip"
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: " + coding + b"\r\n"
    octets = [bytes([octet]) for octet in data]
    length = b"Content-Length: %d\r\n\r\n" % len(data)
    stage.answer = {
        "at once": [head + length + data],
        "octet by octet": [head + length, *octets],
        "in chunks": [
            head + b"Transfer-Encoding: chunked\r\n\r\n",
            *[b"1\r\n" + octet + b"\r\n" for octet in octets],
            b"0\r\n\r\n",
        ],
        "until the end": [head + b"Connection: close\r\n\r\n", data],
    }[pace]
    wire = await stage.open()
    reply = await wire.ask(stage.get(extra=b"Accept-Encoding: gzip\r\n"))
    assert reply.status == 200
    assert b"Content-Encoding" not in reply.head
    body = b"".join(reply.body.split(b"\r\n")[1::2])
    assert body.startswith(b"key: " + b"*" * len(CREDENTIAL) + b", and ")
    assert not any(CREDENTIAL[at : at + 12] in body for at in range(len(CREDENTIAL) - 12))
    assert b"Accept-Encoding: identity\r\n" in stage.heard
    await stage.until(lambda: bool(stage.records))
    assert stage.records[-1].scrubbed_count == 2
    wire.close()


UNREADABLE_CODINGS = {
    "of an unknown coding": (b"br", b"aaaa"),
    "twice over": (b"gzip, gzip", gzip.compress(gzip.compress(CREDENTIAL))),
    "under another name": (b"deflate", gzip.compress(CREDENTIAL)),
    "that isn't": (b"gzip", CREDENTIAL),
    "with more behind it": (b"deflate", zlib.compress(b"a") + CREDENTIAL),
    "that is cut": (b"gzip", gzip.compress(CREDENTIAL)[:-9]),
    "with a wrong sum": (b"gzip", gzip.compress(CREDENTIAL)[:-8] + bytes(8)),
}


@pytest.mark.parametrize("which", UNREADABLE_CODINGS)
async def test_an_answer_that_cannot_be_looked_through_is_not_passed_on(
    stage: Stage, which: str
) -> None:
    coding, body = UNREADABLE_CODINGS[which]
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    stage.answer = [b"HTTP/1.1 200 OK\r\nContent-Encoding: " + coding + b"\r\n" + length + body]
    wire = await stage.open()
    reply = await wire.ask(stage.get())
    assert CREDENTIAL[:12] not in reply.raw
    # Refused as a whole, or broken off.
    assert reply.status == 502 or (not reply.raw.endswith(b"0\r\n\r\n") and await wire.ended())
    wire.close()


async def test_a_codings_second_field_is_refused(stage: Stage) -> None:
    fields = b"Content-Encoding: identity\r\nContent-Encoding: br\r\n"
    stage.answer = [b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 1\r\n\r\na"]
    assert (await stage.ask(stage.get())).status == 502


@pytest.mark.parametrize(
    "location", [b"https://evil.example/", b"http://model.example:8080/", b"//evil.example/"]
)
async def test_a_redirect_is_passed_on_and_never_followed(stage: Stage, location: bytes) -> None:
    stage.answer = [b"HTTP/1.1 307 T\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n"]
    reply = await stage.ask(stage.get())
    assert reply.status == 307
    assert b"Location: " + location in reply.head
    assert stage.evil.connections == 0
    assert len(stage.model.heads) == 1


LIES = {
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 9\r\n\r\nok",
    "both framings": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "no HTTP": b"SSH-2.0-OpenSSH_9.0\r\n\r\n",
    "a folded field": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "a bare LF": b"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
    "a header bomb": b"HTTP/1.1 200 OK\r\n" + b"X: aaaaaaaaaaaaaaaa\r\n" * 5000 + b"\r\n",
    "an unasked upgrade": b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
async def test_an_upstream_that_lies_is_not_believed(stage: Stage, lie: bytes) -> None:
    stage.answer = [lie]
    assert (await stage.ask(stage.get())).status == 502
    stage.answer = [OK]
    assert (await stage.ask(stage.get())).status == 200
    # The connection that lied isn't used again.
    assert stage.model.connections == 2


async def test_an_answer_nobody_asked_for_answers_nobody(stage: Stage) -> None:
    stage.answer = [OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"]
    wire = await stage.open()
    assert (await wire.ask(stage.get())).body == b"ok"
    stage.answer = [OK]
    assert (await wire.ask(stage.get())).body == b"ok"
    assert stage.model.connections == 2
    wire.close()


@pytest.mark.parametrize("body", [b"zz\r\n", b"5;x\r\nhello\r\n", b"1\r\nab\r\n", b"-1\r\n"])
async def test_chunks_that_break_break_off_the_answer(stage: Stage, body: bytes) -> None:
    stage.answer = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n", body]
    wire = await stage.open()
    reply = await wire.ask(stage.get())
    assert not reply.raw.endswith(b"0\r\n\r\n")
    assert await wire.ended()
    wire.close()


async def test_a_kept_connection_that_was_closed_is_retried_once(stage: Stage) -> None:
    stage.answer = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: connection: close\r\n\r\nok"]
    wire = await stage.open()
    for _ in range(3):
        assert (await wire.ask(stage.get())).body == b"ok"
    assert len(stage.model.heads) == 3
    wire.close()


async def test_an_upstream_that_hangs_up_is_an_error(stage: Stage) -> None:
    async def hang_up(peer: Peer) -> None:
        await peer.head()

    await stage.serve("model.example", 8080, hang_up, tls=False, address="93.184.216.98")
    stage.names["model.example"] = ["93.184.216.98"]
    assert (await stage.ask(stage.get())).status == 502
    assert stage.codes() == ["upstream-closed"]


# Act 8: nobody is worn down.


async def test_a_head_that_never_ends_is_ended(roots: Roots) -> None:
    made = Stage(roots)
    await made.prepare()
    async with playing(made, config(roots, limits=Limits(head_s=0.5))):
        wire = await made.open()
        await wire.send(b"GET /model/v1/x HTTP/1.1\r\nHost: x\r\nX: ")
        assert (await wire.reply()).status == 408
        wire.close()
        idle = await made.open()
        assert (await idle.connect("open.example:443")).status == 200
        assert await idle.ended()
        idle.close()


BOMBS = {
    "a line": b"GET /model/v1/" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a field": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 9000,
    "many fields": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 12000,
    "no line end": b"A" * 70000,
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
async def test_a_head_has_a_bound(stage: Stage, bomb: bytes) -> None:
    assert (await stage.ask(bomb)).status == 431
    assert quiet(stage)


async def test_connections_have_a_bound(roots: Roots) -> None:
    made = Stage(roots)
    await made.prepare()
    async with playing(made, config(roots, limits=Limits(connections_max=4))):
        wires = [await made.open() for _ in range(4)]
        for wire in wires:
            assert (await wire.ask(made.get())).status == 200
        assert (await made.ask(made.get())).status == 503
        for wire in wires:
            wire.close()
        await made.until(lambda: not made.proxy._state.members)  # noqa: SLF001
        assert (await made.ask(made.get())).status == 200


async def test_a_calls_octets_have_a_bound(roots: Roots) -> None:
    made = Stage(roots)
    await made.prepare()
    made.answer = [b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"a" * 5000]
    async with playing(made, config(roots, limits=Limits(call_bytes_max=12000))):
        for _ in range(2):
            assert len((await made.ask(made.get())).body) == 5000
        wire = await made.open()
        await wire.ask(made.get())
        assert await wire.ended()
        assert "bytes-exceeded" in made.codes()
        wire.close()


async def test_a_routes_requests_a_minute_have_a_bound(roots: Roots) -> None:
    made = Stage(roots)
    await made.prepare()
    limited = Route(
        "model",
        MODEL.upstreams,
        "model",
        MODEL.placements,
        base_urls=MODEL.base_urls,
        tls=False,
        requests_per_minute_max=2,
    )
    async with playing(made, config(roots, routes=(limited,))):
        assert [(await made.ask(made.get())).status for _ in range(3)] == [200, 200, 429]


async def test_an_upstream_that_never_answers_is_given_up(roots: Roots) -> None:
    made = Stage(roots)
    await made.prepare()
    made.answer = []
    async with playing(made, config(roots, limits=Limits(response_s=0.5))):
        assert (await made.ask(made.get())).status == 504


async def test_an_idle_tunnel_is_ended(roots: Roots) -> None:
    made = Stage(roots)
    await made.prepare()
    async with playing(made, config(roots, limits=Limits(tunnel_idle_s=0.5))):
        wire = await made.open()
        assert (await wire.connect("open.example:443")).status == 200
        await wire.shake("open.example", roots.pem)
        assert await wire.ended()
        wire.close()


async def test_a_body_streams_and_is_not_gathered(stage: Stage) -> None:
    size = 80 << 20
    got = asyncio.Event()
    held = asyncio.Event()
    total = 0

    async def swallow(peer: Peer) -> None:
        nonlocal total
        await peer.head()
        await held.wait()
        while total < size:
            total += len(await peer.reader.read(1 << 20))
        got.set()
        await peer.say(OK)

    await stage.serve("model.example", 8080, swallow, tls=False, address="93.184.216.97")
    stage.names["model.example"] = ["93.184.216.97"]
    wire = await stage.open()
    length = b"Content-Length: %d\r\n" % size
    wire.writer.write(
        b"POST /model/v1/x HTTP/1.1\r\nHost: x\r\n" + stage.bearer() + length + b"\r\n"
    )
    await wire.send(b"")
    # While the upstream doesn't read, neither does the proxy: the rest waits here.
    wire.writer.write(bytes(size))
    await stage.until(lambda: bool(stage.dialled))
    await asyncio.sleep(0.2)
    waiting = wire.writer.transport.get_write_buffer_size()
    assert waiting > size // 3
    held.set()
    assert (await wire.reply()).status == 200
    assert got.is_set()
    wire.close()


async def test_a_zip_bomb_waits_for_its_reader_too(stage: Stage) -> None:
    made: list[int] = []
    step = decoding.Decoder.step

    def counted(decoder: decoding.Decoder) -> bytes:
        piece = step(decoder)
        made.append(len(piece))
        return piece

    squeeze = zlib.compressobj(9, wbits=31)
    bomb = b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(64)) + squeeze.flush()
    assert len(bomb) < 100_000
    stage.answer = [
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb),
        bomb,
    ]
    wire = await stage.open()
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding.Decoder, "step", counted)
        await wire.send(stage.get())
        await stage.until(lambda: bool(made))
        # Others have their turn while it's made, and when it waits.
        assert (await stage.ask(ENTRANCES["forward"] + stage.password + b"\r\n")).status
        still = -1
        while still != len(made):
            still = len(made)
            await asyncio.sleep(0.2)
        assert sum(made) < 32 << 20
        assert max(made) <= decoding.STEP_BYTES
        wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
        total = 0
        async with asyncio.timeout(DEADLINE_S):
            while not (piece := await wire.reader.read(1 << 20)).endswith(b"0\r\n\r\n"):
                total += len(piece)
        assert total > 63 << 20
    stage.answer = [OK]
    assert (await wire.ask(stage.get())).body == b"ok"
    wire.close()


async def test_a_bombs_octets_count_as_they_are_passed_on(roots: Roots) -> None:
    made = Stage(roots)
    await made.prepare()
    bomb = gzip.compress(bytes(4 << 20))
    made.answer = [
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
        + bomb
    ]
    async with playing(made, config(roots, limits=Limits(call_bytes_max=1 << 20))):
        wire = await made.open()
        reply = await wire.ask(made.get())
        assert len(reply.raw) < 2 << 20
        assert "bytes-exceeded" in made.codes()
        wire.close()


async def test_a_pipeline_whose_answers_nobody_reads_waits(stage: Stage) -> None:
    size, count = 65000, 300
    stage.answer = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)]
    wire = await stage.open()
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await wire.send(b"".join(stage.get(b"/v1/%d" % number) for number in range(count)))
    answered = -1
    while answered != len(stage.records):
        answered = len(stage.records)
        await asyncio.sleep(0.2)
    (client,) = clients(stage)
    assert client.transport is not None
    assert client.transport.get_write_buffer_size() < 1 << 20
    assert answered < count
    wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
    for _ in range(count):
        assert len((await wire.reply()).body) == size
    assert stage.model.connections == 1
    wire.close()


async def test_who_reads_slowly_leaves_a_connection_that_others_can_use(stage: Stage) -> None:
    stage.answer = [b"HTTP/1.1 200 OK\r\nContent-Length: 65000\r\n\r\n" + bytes(65000)]
    slow = await stage.open()
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
    asked = 0
    while not asked or not clients(stage)[0].full:
        asked += 1
        await slow.send(stage.get())
        await stage.until(lambda: len(stage.records) == asked)  # noqa: B023 - awaited here
    stage.answer = [OK]
    assert (await stage.ask(stage.get())).body == b"ok"
    assert stage.model.connections == 1
    slow.close()


async def test_an_endless_answer_waits_for_its_reader(stage: Stage) -> None:
    sent = 0
    waits = asyncio.Event()

    async def flood(peer: Peer) -> None:
        nonlocal sent
        await peer.head()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n")
        while sent < 256 << 20:
            try:
                async with asyncio.timeout(2):
                    await peer.say(bytes(1 << 20))
            except TimeoutError:
                waits.set()
                return
            sent += 1 << 20

    await stage.serve("model.example", 8080, flood, tls=False, address="93.184.216.96")
    stage.names["model.example"] = ["93.184.216.96"]
    wire = await stage.open()
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await wire.send(stage.get())
    await stage.until(lambda: waits.is_set() or sent >= 256 << 20)
    assert waits.is_set()
    wire.close()


# Act 9: what was granted on the way holds from then on, and what was taken back doesn't.


async def test_a_grant_opens_and_its_end_closes(stage: Stage) -> None:
    wire = await stage.open()
    assert (await wire.connect("evil.example:443")).status == 403
    await stage.proxy.reconfigure(config(stage.roots, allow=(HostRule("evil.example"),), deny=()))
    assert (await wire.connect("evil.example:443")).status == 200
    await wire.shake("evil.example", stage.roots.pem)
    await stage.proxy.reconfigure(config(stage.roots))
    assert await wire.ended()
    wire.close()


async def test_a_tunnel_for_anything_ends_where_tls_alone_is_granted_by_then(roots: Roots) -> None:
    made = Stage(roots)
    await made.prepare()
    raw, tls = (HostRule("plain.example", 80, raw=raw) for raw in (True, False))
    async with playing(made, config(roots, allow=(raw,))):
        wire = await made.open()
        assert (await wire.connect("plain.example:80")).status == 200
        assert (await wire.ask(b"ANYTHING\r\n\r\n")).raw == OK
        await made.proxy.reconfigure(config(roots, allow=(tls,)))
        assert await wire.ended()
        wire.close()


async def test_when_the_log_cannot_be_written_nothing_leaves(roots: Roots) -> None:
    made = Stage(roots)
    await made.prepare()
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    async with playing(made, config(roots)):
        wire = await made.open()
        assert (await wire.ask(made.get())).status == 200

        class FullError(Exception):
            pass

        def full(_: object) -> None:
            raise FullError

        made.proxy._state._report = full  # noqa: SLF001
        await wire.ask(made.get())
        assert await wire.ended()
        heard = len(made.model.heads)
        reply = await made.ask(made.get())
        assert reply.status == 503
        assert b"log-unavailable" in reply.body
        assert len(made.model.heads) == heard
        assert failures
        wire.close()


async def test_no_record_holds_a_secret(stage: Stage) -> None:
    await stage.ask(stage.get(b"/v1/x?key=hunter2"))
    await stage.ask(stage.get(extra=b"Cookie: " + stage.token("openai") + b"\r\n"))
    await stage.ask(ENTRANCES["forward"] + stage.password + b"\r\n")
    text = repr(stage.records)
    for secret in (
        CREDENTIAL.decode(),
        "hunter2",
        stage.lease.secret,
        *stage.lease.tokens.values(),
    ):
        assert secret not in text
    assert len(stage.records) == 3
