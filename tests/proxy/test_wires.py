"""The proxy's own transports do what asyncio's do, whoever watches them."""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from nono_proxy import watching, wires
from nono_proxy.watching import LoopWatch, Watch, watch
from nono_proxy.wires import Door, Wire
from tests.proxy.world import DEADLINE_S

pytestmark = pytest.mark.anyio

WATCHES: list[Callable[[asyncio.AbstractEventLoop], Watch]] = [watch, LoopWatch]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what has to happen."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - anything may make it true
            await asyncio.sleep(0.001)


class Told(asyncio.Protocol):
    """Keeps what it's told."""

    def __init__(self) -> None:
        self.wire: Wire
        self.heard = b""
        self.words: list[str] = []
        self.keeps = False
        self.fails = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, Wire)
        self.wire = transport
        self.words.append("made")

    def data_received(self, data: bytes) -> None:
        if self.fails:
            raise ValueError("a protocol's fault")
        self.heard += data

    def eof_received(self) -> bool:
        self.words.append("end")
        return self.keeps

    def pause_writing(self) -> None:
        self.words.append("full")

    def resume_writing(self) -> None:
        self.words.append("room")

    def connection_lost(self, exc: Exception | None) -> None:
        self.words.append("lost" if exc is None else type(exc).__name__)


class Pair:
    """A wire, and the other end as a plain socket."""

    def __init__(self, by: Watch) -> None:
        self.by = by
        loop = asyncio.get_running_loop()
        near, self.other = socket.socketpair()
        near.settimeout(0)
        self.other.settimeout(0)
        self.told = Told()
        Wire(by, loop, near, self.told).begin()
        self.wire = self.told.wire

    def read(self) -> bytes:
        found = b""
        while True:
            try:
                piece = self.other.recv(1 << 20)
            except BlockingIOError:
                return found
            if not piece:
                return found
            found += piece


@pytest.fixture(params=WATCHES, ids=["own", "loop"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    by = request.param(asyncio.get_running_loop())
    made = Pair(by)
    yield made
    by.close()
    made.wire.abort()
    await until(lambda: made.told.words[-1] not in {"made", "end", "full", "room"})
    made.other.close()


async def test_what_comes_is_told_and_what_is_written_goes(pair: Pair) -> None:
    pair.other.send(b"hello")
    await until(lambda: pair.told.heard == b"hello")
    pair.wire.write(b"world")
    pair.wire.write(b"")
    assert pair.read() == b"world"


async def test_who_does_not_take_what_is_written_makes_it_wait(pair: Pair) -> None:
    said = os.urandom(1 << 20)
    pair.wire.set_write_buffer_limits(65536)
    for at in range(0, len(said), 65536):
        pair.wire.write(said[at : at + 65536])
    assert pair.told.words == ["made", "full"]
    assert pair.wire.get_write_buffer_size() > 65536
    found = b""
    while len(found) < len(said):
        found += pair.read()
        await asyncio.sleep(0)
    assert found == said
    assert pair.told.words == ["made", "full", "room"]
    assert pair.wire.get_write_buffer_size() == 0


async def test_nothing_is_read_while_it_is_paused(pair: Pair) -> None:
    pair.wire.pause_reading()
    pair.other.send(b"hello")
    for _ in range(5):
        await asyncio.sleep(0)
    assert pair.told.heard == b""
    assert not pair.wire.is_reading()
    pair.wire.resume_reading()
    await until(lambda: pair.told.heard == b"hello")


async def test_an_end_is_told_and_the_rest_is_still_written(pair: Pair) -> None:
    pair.told.keeps = True
    pair.other.shutdown(socket.SHUT_WR)
    await until(lambda: "end" in pair.told.words)
    pair.wire.write(b"the rest")
    pair.wire.write_eof()
    pair.wire.write_eof()
    assert pair.read() == b"the rest"
    assert pair.other.recv(1) == b""
    with pytest.raises(RuntimeError):
        pair.wire.write(b"more")


async def test_closing_writes_what_waits_first(pair: Pair) -> None:
    said = bytes(1 << 20)
    pair.wire.write(said)
    pair.wire.close()
    assert pair.wire.is_closing()
    found = 0
    while found < len(said):
        found += len(pair.read())
        await asyncio.sleep(0)
    await until(lambda: pair.told.words[-1] == "lost")
    assert pair.other.recv(1) == b""


async def test_an_end_waits_for_what_is_written_before_it(pair: Pair) -> None:
    said = bytes(1 << 20)
    pair.wire.write(said)
    pair.wire.write_eof()
    found = 0
    while found < len(said):
        found += len(pair.read())
        await asyncio.sleep(0)
    await until(lambda: select_end(pair.other))


def select_end(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False


async def test_aborting_drops_what_waits_and_tells_from_the_loop(pair: Pair) -> None:
    pair.wire.write(bytes(1 << 20))
    pair.wire.abort()
    assert "lost" not in pair.told.words
    pair.wire.write(b"nothing")
    await until(lambda: pair.told.words[-1] == "lost")


async def test_a_reset_is_told_and_does_not_spin(pair: Pair) -> None:
    pair.wire.pause_reading()
    pair.other.send(b"unread")
    pair.other.close()
    for _ in range(5):
        await asyncio.sleep(0)
    pair.wire.write(b"x")
    await until(lambda: pair.told.words[-1] == "BrokenPipeError")


async def test_a_protocol_at_fault_loses_its_connection_alone(pair: Pair) -> None:
    said: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: said.append(str(context["exception"]))
    )
    other = Pair(pair.by)
    pair.told.fails = True
    pair.other.send(b"hello")
    other.other.send(b"hello")
    await until(lambda: pair.told.words[-1] == "ValueError")
    await until(lambda: other.told.heard == b"hello")
    assert said == ["a protocol's fault"]
    other.wire.abort()
    await until(lambda: other.told.words[-1] == "lost")
    other.other.close()


class Came(Told):
    """What a door makes of who comes."""

    all: list["Came"]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.all.append(self)


@pytest.mark.parametrize("kind", WATCHES, ids=["own", "loop"])
async def test_a_door_lets_in_who_comes_until_it_is_closed(
    kind: Callable[[asyncio.AbstractEventLoop], Watch],
) -> None:
    loop = asyncio.get_running_loop()
    by = kind(loop)
    came: list[Came] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def make() -> Came:
        one = Came()
        one.all = came
        return one

    door = Door(by, loop, listener, make, room=lambda: 100)
    others = [socket.create_connection(listener.getsockname()) for _ in range(40)]
    await until(lambda: len(came) == len(others))
    # What is written in two pieces isn't held back for an acknowledgement of the first.
    there = came[0].wire._sock  # noqa: SLF001
    assert there.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    address = listener.getsockname()
    door.close()
    door.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    # Who nobody watches any more doesn't stay.
    by.close()
    await until(lambda: all(one.words[-1] == "lost" for one in came))
    for each in others:
        each.close()


def descriptors() -> int:
    """How many this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_who_comes_while_it_is_full_waits_outside_and_takes_no_descriptor() -> None:
    loop = asyncio.get_running_loop()
    by = watch(loop)
    came: list[Came] = []
    listener = socket.create_server(("127.0.0.1", 0), backlog=20)

    def make() -> Came:
        one = Came()
        one.all = came
        return one

    door = Door(by, loop, listener, make, room=lambda: 4)
    others = [socket.create_connection(listener.getsockname()) for _ in range(12)]
    await until(lambda: len(came) == 4)
    before = descriptors()
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(came) == 4
    assert descriptors() == before
    for expected in range(5, 13):
        came[expected - 5].wire.abort()
        await until(lambda: len(came) == expected)  # noqa: B023 - at once
    door.close()
    by.close()
    await until(lambda: all(one.words[-1] == "lost" for one in came))
    for each in others:
        each.close()


class Full(socket.socket):
    """A listener of a process without descriptors to spare."""

    refuses = 2

    def accept(self) -> tuple[socket.socket, object]:
        if self.refuses:
            self.refuses -= 1
            raise OSError(errno.EMFILE, "full")
        return super().accept()


async def test_a_door_waits_while_there_are_no_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wires, "_NO_ROOM_PAUSE_S", 0.01)
    loop = asyncio.get_running_loop()
    by = watch(loop)
    listener = Full()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    came: list[Came] = []

    def make() -> Came:
        one = Came()
        one.all = came
        return one

    door = Door(by, loop, listener, make, room=lambda: 100)
    with socket.create_connection(listener.getsockname()):
        await until(lambda: bool(came))
        door.close()
        by.close()
        await until(lambda: came[0].words[-1] == "lost")
    assert listener.refuses == 0


async def test_a_number_that_is_another_sockets_by_now_does_no_harm() -> None:
    by = watching.EpollWatch(asyncio.get_running_loop())
    first, second = Pair(by), Pair(by)
    first.other.send(b"one")
    second.other.send(b"two")

    def swap(data: bytes) -> None:
        # In the same turn, the other is closed and its number taken by a new one.
        gone = second if first.told.heard else first
        gone.wire.abort()
        del data

    first.told.data_received = swap  # type: ignore[method-assign]
    second.told.data_received = swap  # type: ignore[method-assign]
    await until(lambda: "lost" in first.told.words + second.told.words)
    by.close()
    await until(lambda: first.told.words[-1] == second.told.words[-1] == "lost")
    first.other.close()
    second.other.close()
