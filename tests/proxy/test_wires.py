"""The proxy's own transports do what asyncio's do, whoever watches them."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator

import pytest

from nono_proxy import watching, wires
from nono_proxy.watching import Watch
from nono_proxy.wires import Wire
from tests.proxy.told import WATCHES, Told, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


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


async def test_only_so_much_is_read_in_one_turn(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wires, "_PIECE_BYTES", 10)
    pair.other.send(b"x" * 1000)
    pair.wire.ready(watching.READ)
    assert len(pair.told.heard) == 10 * wires._PIECES_MAX  # noqa: SLF001
    await until(lambda: len(pair.told.heard) == 1000)
