"""A long body that the kernel hands on is as it was but for the credential, and ends as all do."""

import asyncio
import contextlib
import errno
import os
import random
import socket
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nono_proxy import passing, pipes
from nono_proxy.answer import Answer
from nono_proxy.client import Client
from nono_proxy.config import Limits
from nono_proxy.records import Record
from nono_proxy.wires import Wire
from tests.proxy.test_exchange import Talk, config
from tests.proxy.world import CREDENTIAL, OK, Peer, Roots, playing
from tests.proxy.world import Wire as Worker

pytestmark = [pytest.mark.linux, pytest.mark.anyio]

MEGA = 1 << 20
# Nothing that any spelling of the credential begins with.
FILLER = random.Random(1).randbytes(MEGA).translate(bytes(range(128, 256)) * 2)  # noqa: S311


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def roots() -> Roots:
    return Roots()


class Spliced:
    """What went through pipes, and what that says where it can't."""

    def __init__(self) -> None:
        self.count = 0
        self.code = 0
        self.stuck = False
        self._splice = pipes._splice  # noqa: SLF001

    def __call__(self, source: int, into: int, count: int) -> int:
        if self.code:
            raise OSError(self.code, "refused")
        if self.stuck and stat.S_ISFIFO(os.fstat(source).st_mode):
            raise BlockingIOError
        done = self._splice(source, into, count)
        self.count += done
        return done


@pytest.fixture
def spliced(monkeypatch: pytest.MonkeyPatch) -> Spliced:
    made = Spliced()
    # However little has come at a time on this machine.
    monkeypatch.setattr(passing, "_LOOK_BYTES_MIN", 1024)
    monkeypatch.setattr(pipes, "_splice", made)
    return made


@pytest.fixture
async def talk(roots: Roots) -> AsyncIterator[Talk]:
    made = Talk(roots)
    await made.prepare()
    async with playing(made, config(roots)):
        yield made
        assert lent(made) == 0


def lent(talk: Talk) -> int:
    """How many pipes hold something."""
    return talk.proxy._state.pipes._lent  # noqa: SLF001


def clients(talk: Talk) -> list[Client]:
    """The proxy's ends of its clients."""
    return [one for one in talk.proxy._state.members if isinstance(one, Client)]  # noqa: SLF001


async def deaf(talk: Talk) -> Worker:
    """A worker that asks and doesn't listen."""
    wire = await talk.open()
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    sock = wire.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    return await wire.send(talk.request())


def head(size: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size


def body(size: int) -> bytes:
    """Octets none of whose places looks like the next."""
    return (FILLER * (size // MEGA + 1))[:size]


def answers(
    size: int, then: Callable[[Peer], Awaitable[None]]
) -> Callable[[Peer], Awaitable[None]]:
    """Promise *size* octets, send 2 MiB of them, and then do something else."""

    async def speak(peer: Peer) -> None:
        await peer.head()
        await peer.say(head(size) + body(2 * MEGA))
        await then(peer)

    return speak


async def begun(talk: Talk) -> Worker:
    """A worker that has read 2 MiB of an answer."""
    wire = await talk.open()
    await wire.send(talk.request())
    await wire.reader.readuntil(b"\r\n\r\n")
    assert await wire.reader.readexactly(2 * MEGA) == body(2 * MEGA)
    return wire


async def recorded(talk: Talk) -> Record:
    await talk.until(lambda: bool(talk.records))
    return talk.records[-1]


async def test_it_comes_in_order_and_the_connections_go_on(talk: Talk, spliced: Spliced) -> None:
    said = body(8 * MEGA + 12345)
    talk.says(head(len(said)), said)
    wire = await talk.open()
    for count in range(1, 4):
        assert (await wire.ask(talk.request())).body == said
        await talk.until(lambda: len(talk.records) == count)  # noqa: B023 - awaited here
    assert {record.bytes_down for record in talk.records} == {len(said)}
    assert talk.upstreams[0].connections == 1
    # Twice: into a pipe and out of it.
    assert spliced.count > 3 * len(said)
    wire.close()


@pytest.mark.claim("credential.not-in-answers")
async def test_the_credential_is_scrubbed_wherever_it_stands(talk: Talk, spliced: Spliced) -> None:
    said = bytearray(body(6 * MEGA))
    places = [*range(65531, 3 * MEGA, 300007), 6 * MEGA - len(CREDENTIAL)]
    for at in places:
        said[at : at + len(CREDENTIAL)] = CREDENTIAL
    talk.says(head(len(said)), bytes(said))
    clean = bytes(said).replace(CREDENTIAL, b"*" * len(CREDENTIAL))
    assert (await talk.ask(talk.request())).body == clean
    assert (await recorded(talk)).scrubbed_count == len(places)
    assert spliced.count > 0


@pytest.mark.claim("credential.not-in-answers")
@pytest.mark.parametrize("first", [1, 7, len(CREDENTIAL) - 1])
async def test_the_credential_is_scrubbed_across_what_is_looked_at(
    talk: Talk, spliced: Spliced, first: int
) -> None:
    read = asyncio.Event()

    async def speak(peer: Peer) -> None:
        await peer.head()
        # What was said before has been taken by then: the rest is looked at on its own.
        await peer.say(head(6 * MEGA + len(CREDENTIAL)) + body(3 * MEGA) + CREDENTIAL[:first])
        await read.wait()
        await peer.say(CREDENTIAL[first:] + body(3 * MEGA))

    talk.speak = speak
    wire = await talk.open()
    await wire.send(talk.request())
    await wire.reader.readuntil(b"\r\n\r\n")
    assert await wire.reader.readexactly(3 * MEGA) == body(3 * MEGA)
    before = spliced.count
    assert before > 0
    read.set()
    assert await wire.reader.readexactly(len(CREDENTIAL)) == b"*" * len(CREDENTIAL)
    assert await wire.reader.readexactly(3 * MEGA) == body(3 * MEGA)
    assert spliced.count > before
    wire.close()


async def test_an_answer_that_ends_in_the_middle_is_broken_off(
    talk: Talk, spliced: Spliced
) -> None:
    async def end(peer: Peer) -> None:
        peer.writer.close()

    talk.speak = answers(4 * MEGA, end)
    wire = await begun(talk)
    assert await wire.ended()
    record = await recorded(talk)
    assert (record.code, record.bytes_down) == ("upstream-closed", 2 * MEGA)
    assert spliced.count > 0


async def test_a_reset_in_the_middle_breaks_it_off(talk: Talk, spliced: Spliced) -> None:
    resets = asyncio.Event()

    async def reset(peer: Peer) -> None:
        await resets.wait()
        sock = peer.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.writer.transport.abort()

    talk.speak = answers(4 * MEGA, reset)
    wire = await begun(talk)
    resets.set()
    assert await wire.ended()
    assert (await recorded(talk)).code == "upstream-closed"
    assert spliced.count > 0


async def test_who_does_not_read_makes_it_wait_and_loses_nothing(
    talk: Talk, spliced: Spliced
) -> None:
    said = body(16 * MEGA)
    talk.says(head(len(said)), said)
    wire = await deaf(talk)
    await talk.until(lambda: any(client.full for client in clients(talk)))
    (client,) = clients(talk)
    assert isinstance(client.transport, Wire)
    before = spliced.count
    for _ in range(50):
        await asyncio.sleep(0.001)
        assert client.transport.get_write_buffer_size() <= MEGA
    # What its socket still had room for, and a pipe.
    assert spliced.count - before <= 8 * MEGA
    wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert (await wire.reply()).body == said
    await talk.until(lambda: lent(talk) == 0)
    wire.close()


async def test_what_waits_in_a_pipe_goes_before_what_is_read_later(
    talk: Talk, spliced: Spliced
) -> None:
    said = body(4 * MEGA)
    talk.says(head(len(said)), said)
    spliced.stuck = True
    wire = await talk.open()
    await wire.send(talk.request())
    await talk.until(lambda: lent(talk) == 1)
    (client,) = clients(talk)
    transport = client.transport
    assert isinstance(transport, Wire)
    # Nothing is read meanwhile that would have to wait behind it.
    assert client.full
    assert len(transport._out) == 1  # noqa: SLF001
    # Told to read on all the same, the proxy copies, and what it copies waits behind the pipe.
    before = transport.get_write_buffer_size()
    client.resume_writing()
    await talk.until(lambda: transport.get_write_buffer_size() > before)
    assert lent(talk) == 1
    spliced.stuck = False
    assert (await wire.reply()).body == said
    wire.close()


@pytest.mark.parametrize("leaves", ["client", "call"])
async def test_who_leaves_while_a_pipe_is_full_leaves_nothing(
    talk: Talk, spliced: Spliced, leaves: str
) -> None:
    said = body(8 * MEGA)
    talk.says(head(len(said)), said)
    spliced.stuck = True
    wire = await deaf(talk)
    await talk.until(lambda: lent(talk) == 1)
    if leaves == "client":
        wire.close()
    else:
        talk.proxy.revoke(talk.lease)
    await talk.until(lambda: lent(talk) == 0 and not clients(talk))
    await talk.until(lambda: talk.upstreams[0].ends == 1)
    assert (await recorded(talk)).bytes_down < len(said)
    # What was left in the pipe is nobody else's.
    spliced.stuck = False
    talk.lease = talk.proxy.mint("call-2")
    assert (await talk.ask(talk.request())).body == said


@pytest.mark.parametrize("full", [False, True], ids=["empty", "full"])
async def test_a_proxy_that_ends_closes_its_pipes(
    roots: Roots, spliced: Spliced, *, full: bool
) -> None:
    def open_pipes() -> int:
        found = 0
        for each in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found += str(each.readlink()).startswith("pipe:")
        return found

    before = open_pipes()
    talk = Talk(roots)
    await talk.prepare()
    talk.says(head(8 * MEGA), body(8 * MEGA))
    async with playing(talk, config(roots)):
        await talk.ask(talk.request())
        # One waits for the next body.
        await talk.until(lambda: lent(talk) == 0)
        assert open_pipes() == before + 2
        if full:
            spliced.stuck = True
            await deaf(talk)
            await talk.until(lambda: lent(talk) == 1)
    assert open_pipes() == before


async def test_what_comes_behind_a_body_answers_nobody(talk: Talk, spliced: Spliced) -> None:
    said = body(4 * MEGA)
    talk.says(head(len(said)), said + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
    wire = await talk.open()
    assert (await wire.ask(talk.request())).body == said
    assert spliced.count > 0
    talk.says(OK)
    assert (await wire.ask(talk.request())).body == b"ok"
    assert talk.upstreams[0].connections == 2
    wire.close()


async def test_a_call_has_no_more_than_it_may(roots: Roots, spliced: Spliced) -> None:
    talk = Talk(roots)
    await talk.prepare()
    talk.says(head(8 * MEGA), body(8 * MEGA))
    limits = Limits(call_bytes_max=3 * MEGA)
    async with playing(talk, replace(config(roots), limits=limits)):
        reply = await talk.ask(talk.request())
        assert len(reply.body) < 4 * MEGA
        assert (await recorded(talk)).code == "bytes-exceeded"
    assert spliced.count > 0


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL, errno.EPERM])
async def test_where_the_kernel_does_not_hand_on_it_is_copied(
    talk: Talk, spliced: Spliced, code: int
) -> None:
    spliced.code = code
    said = body(8 * MEGA)
    talk.says(head(len(said)), said)
    assert (await talk.ask(talk.request())).body == said
    assert not talk.proxy._state.pipes._able  # noqa: SLF001


async def test_without_a_pipe_to_spare_it_is_copied(
    talk: Talk, spliced: Spliced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipes, "_LENT_MAX", 0)
    looks: list[bytes] = []

    def clear(_: Answer, data: bytes) -> int:
        looks.append(data)
        return len(data)

    monkeypatch.setattr(Answer, "clear", clear)
    said = body(8 * MEGA)
    talk.says(head(len(said)), said)
    assert (await talk.ask(talk.request())).body == said
    assert spliced.count == 0
    # Nor is anything looked at for one.
    assert not looks
