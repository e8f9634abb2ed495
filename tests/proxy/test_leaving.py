"""What clients that leave, and calls that end, leave behind."""

import asyncio
import ssl

import pytest

from nono_proxy.config import Config, HostRule, Route
from tests.proxy.world import OK, Peer, Roots, World, playing


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
            async with asyncio.timeout(5):
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
                async with asyncio.timeout(10):
                    assert (await wire.reader.read()).count(b"200 OK") == 2

    asyncio.run(go())
