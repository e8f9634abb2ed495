"""What clients that leave, and calls that end, leave behind."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable

import pytest

from nono_proxy import client, closing, tunnel
from nono_proxy.config import Config, HostRule, Limits, Route
from tests.proxy.world import DEADLINE_S, OK, Peer, Roots, World, playing


async def _answering(peer: Peer) -> None:
    while True:
        await peer.head()
        await peer.say(OK)


def test_a_handshake_under_way_ends_with_its_call() -> None:
    async def go() -> None:
        world = World(Roots())
        upstream = await world.serve("api.test", 443, _answering, tls=True)
        config = Config(routes=(Route(name="r", upstreams=("api.test",)),))
        async with playing(world, config):
            wire = await world.open()
            await wire.connect("api.test:443")
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            context = ssl.create_default_context(cadata=world.proxy.ca_pem)
            shaking = context.wrap_bio(incoming, outgoing, server_hostname="api.test")
            with pytest.raises(ssl.SSLWantReadError):
                shaking.do_handshake()
            await wire.send(outgoing.read())
            await asyncio.sleep(0.1)
            world.proxy.revoke(world.lease)
            async with asyncio.timeout(DEADLINE_S):
                try:
                    while await wire.reader.read(65536):
                        pass
                except OSError:
                    pass
        assert not upstream.heard

    asyncio.run(go())


def test_a_second_request_is_answered_though_the_client_says_no_more() -> None:
    async def go() -> None:
        world = World(Roots())
        await world.serve("plain.test", 80, _answering, tls=False)
        async with playing(world, Config(allow=(HostRule("plain.test", 80),))):
            head = b"GET http://plain.test/ HTTP/1.1\r\nHost: plain.test\r\n"
            asked = (head + world.password + b"\r\n") * 2
            wires = [await world.open() for _ in range(6)]
            for wire in wires:
                wire.writer.write(asked)
                wire.writer.write_eof()
            for wire in wires:
                async with asyncio.timeout(DEADLINE_S):
                    assert (await wire.reader.read()).count(b"200 OK") == 2

    asyncio.run(go())


class Watched(World):
    """One in which the proxy's own end of what it dialled is kept in sight, and holds little."""

    far: socket.socket

    async def connect(self, address: str, port: int) -> socket.socket:
        self.far = await super().connect(address, port)
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        return self.far


@pytest.fixture
def put_off(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """Return what a tunnel that ended wants done later, by a clock that never gets there."""
    found: list[Callable[[], object]] = []
    call_later = asyncio.BaseEventLoop.call_later

    def later(
        loop: asyncio.BaseEventLoop, delay: float, act: Callable[..., object], *args: object
    ) -> asyncio.TimerHandle:
        if delay == tunnel._REST_S:  # noqa: SLF001 - by its time it's known
            found.append(act)
        return call_later(loop, delay, act, *args)

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_later", later)
    return found


def test_a_far_side_that_neither_takes_nor_closes_is_let_go_in_time(
    put_off: list[Callable[[], object]],
) -> None:
    async def go() -> None:
        released = asyncio.Event()

        async def deaf(peer: Peer) -> None:
            transport = peer.writer.transport
            assert isinstance(transport, asyncio.Transport)
            transport.pause_reading()
            await released.wait()

        world = Watched(Roots())
        await world.serve("raw.test", 9000, deaf, tls=False)
        async with playing(world, Config(allow=(HostRule("raw.test", 9000, raw=True),))):
            wire = await world.open()
            assert (await wire.connect("raw.test:9000")).status == 200
            (ours,) = world.proxy._state.members  # noqa: SLF001 - who holds back what isn't taken
            assert isinstance(ours, tunnel.Tunnel)
            near, far = ours._near, ours._far  # noqa: SLF001 - likewise
            assert far is not None
            assert far.transport is not None
            sent = 0
            while not far.transport.get_write_buffer_size():
                await wire.send(bytes(16384))
                sent += 16384
                await world.until(lambda all_of_it=sent: near.count == all_of_it)  # type: ignore[misc]
            # Its end as a reset: it hears nothing more either.
            reset = struct.pack("ii", 1, 0)
            at_once = wire.writer.get_extra_info("socket")
            at_once.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            wire.close()
            await world.until(lambda: bool(put_off))
            assert world.far.fileno() >= 0, "the rest may be taken yet"
            put_off[0]()
            await world.until(lambda: world.far.fileno() < 0)
            released.set()

    asyncio.run(go())


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_last_answer_waits_for_who_is_slow_to_take_it(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(closing, "CHECK_S", 0.05)
    said = bytes(16384)

    async def answering(peer: Peer) -> None:
        await peer.head()
        await peer.say(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        with contextlib.suppress(OSError):
            while not stuck():
                await peer.say(said)
                sent.append(len(said))
                await asyncio.sleep(0)

    world = World(Roots())
    sent: list[int] = []

    def stuck() -> bool:
        members = world.proxy._state.members  # noqa: SLF001 - who holds back what isn't taken
        held = [one.transport for one in members if isinstance(one, client.Client)]
        return any(each is not None and each.get_write_buffer_size() > 0 for each in held)

    async def go() -> None:
        await world.serve("plain.test", 80, answering, tls=False)
        async with playing(world, Config(allow=(HostRule("plain.test", 80),))):
            wire = await world.open()
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            head = f"GET http://plain.test/ HTTP/{version}\r\nHost: plain.test\r\n".encode()
            await wire.send(head + b"Connection: close\r\n" + world.password + b"\r\n")
            await world.until(lambda: bool(world.records))
            await asyncio.sleep(0.2)
            wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
            async with asyncio.timeout(DEADLINE_S):
                assert (await wire.reader.read()).count(0) == sum(sent)

    asyncio.run(go())


def test_who_takes_nothing_of_a_last_answer_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closing, "CHECK_S", 0.05)

    async def answering(peer: Peer) -> None:
        await peer.head()
        await peer.say(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while not stuck():
            await peer.say(bytes(16384))
            await asyncio.sleep(0)

    world = World(Roots())

    def held() -> list[client.Client]:
        members = world.proxy._state.members  # noqa: SLF001 - who holds back what isn't taken
        return [one for one in members if isinstance(one, client.Client)]

    def stuck() -> bool:
        return any(one.transport and one.transport.get_write_buffer_size() for one in held())

    async def go() -> None:
        await world.serve("plain.test", 80, answering, tls=False)
        config = Config(allow=(HostRule("plain.test", 80),), limits=Limits(response_s=0.2))
        async with playing(world, config):
            wire = await world.open()
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            head = b"GET http://plain.test/ HTTP/1.1\r\nHost: plain.test\r\n"
            await wire.send(head + b"Connection: close\r\n" + world.password + b"\r\n")
            await world.until(lambda: not held())

    asyncio.run(go())
