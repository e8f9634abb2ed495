"""A door lets in who comes, while there's room and there are descriptors."""

import asyncio
import errno
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from nono_proxy import door
from nono_proxy.door import Door
from nono_proxy.watching import READ, Watch, watch
from tests.proxy.told import WATCHES, Told, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Came(Told):
    """What a door makes of who comes."""

    def __init__(self, everybody: list["Came"]) -> None:
        super().__init__()
        self._everybody = everybody

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._everybody.append(self)


@pytest.mark.parametrize("kind", WATCHES, ids=["own", "loop"])
async def test_a_door_lets_in_who_comes_until_it_is_closed(
    kind: Callable[[asyncio.AbstractEventLoop], Watch],
) -> None:
    loop = asyncio.get_running_loop()
    by = kind(loop)
    came: list[Came] = []
    listener = socket.create_server(("127.0.0.1", 0))

    front = Door(by, loop, listener, lambda: Came(came), room=lambda: 100)
    others = [socket.create_connection(listener.getsockname()) for _ in range(40)]
    await until(lambda: len(came) == len(others))
    # What is written in two pieces isn't held back for an acknowledgement of the first.
    there = came[0].wire._sock  # noqa: SLF001
    assert there.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    address = listener.getsockname()
    front.close()
    front.close()
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

    front = Door(by, loop, listener, lambda: Came(came), room=lambda: 4)
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
    front.close()
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
    monkeypatch.setattr(door, "_NO_ROOM_PAUSE_S", 0.01)
    loop = asyncio.get_running_loop()
    by = watch(loop)
    listener = Full()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    came: list[Came] = []

    front = Door(by, loop, listener, lambda: Came(came), room=lambda: 100)
    with socket.create_connection(listener.getsockname()):
        await until(lambda: bool(came))
        front.close()
        by.close()
        await until(lambda: came[0].words[-1] == "lost")
    assert listener.refuses == 0


async def test_who_has_asked_by_then_is_heard_as_it_comes_in() -> None:
    loop = asyncio.get_running_loop()
    by = watch(loop)
    came: list[Came] = []
    listener = socket.create_server(("127.0.0.1", 0))

    front = Door(by, loop, listener, lambda: Came(came), room=lambda: 100)
    with socket.create_connection(listener.getsockname()) as asks:
        asks.sendall(b"a request")
        front.ready(READ)
        assert [one.heard for one in came] == [b"a request"]
        front.close()
        by.close()
        await until(lambda: came[0].words[-1] == "lost")


@pytest.mark.linux
async def test_nothing_paces_what_goes_to_a_client() -> None:
    loop = asyncio.get_running_loop()
    by = watch(loop)
    came: list[Came] = []
    listener = socket.create_server(("127.0.0.1", 0))

    front = Door(by, loop, listener, lambda: Came(came), room=lambda: 100)
    with socket.create_connection(listener.getsockname()):
        await until(lambda: bool(came))
        accepted = came[0].wire._sock  # noqa: SLF001
        told = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
        assert told.rstrip(b"\0") == b"reno"
        front.close()
        by.close()
        await until(lambda: came[0].words[-1] == "lost")


async def test_only_so_many_come_in_one_turn() -> None:
    loop = asyncio.get_running_loop()
    by = watch(loop)
    came: list[Came] = []
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    front = Door(by, loop, listener, lambda: Came(came), room=lambda: 100)
    others = [socket.create_connection(listener.getsockname()) for _ in range(40)]
    # The loop hasn't had a turn.
    front.ready(READ)
    assert len(came) == door._ACCEPTS_MAX < len(others)  # noqa: SLF001
    await until(lambda: len(came) == len(others))
    front.close()
    by.close()
    await until(lambda: all(one.words[-1] == "lost" for one in came))
    for each in others:
        each.close()
