"""Connections of who shows no token: how many, how long, and who is heard in spite of them."""

import asyncio
import contextlib
import http.client
import select
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from nono_mcp.server import unauthenticated
from nono_mcp.server.unauthenticated import ACCEPTED_MAX, Unauthenticated
from tests.server.conftest import DEADLINE_S, until
from tests.server.teamwork import NAMES, Shared, people, sharing
from tests.server.test_http import MODERN, handshake
from tests.server.test_https import certificate
from tests.server.test_shared import discover, get

pytestmark = pytest.mark.linux

FLOOD_COUNT = 500


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    with sharing(people(tmp_path_factory.mktemp("team"))) as found:
        yield found


@contextmanager
def connected(port: int, count: int, source: str = "127.0.0.1") -> Iterator[list[socket.socket]]:
    """Yield connections on which nothing was said."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            one = stack.enter_context(socket.socket())
            one.bind((source, 0))
            one.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                one.connect(("127.0.0.1", port))
            found.append(one)
        yield found


def strangers(shared: Shared) -> int:
    """Return how many the server counts, whoever asks left out."""
    text = get(shared.of("alice"), "/metrics", shared.people.tokens["metrics"])[1]
    return int(text.split("\nnono_unauthenticated ")[1].split("\n")[0]) - 1


@pytest.mark.claim("shared.no-starving")
def test_whoever_holds_connections_and_says_nothing_shuts_nobody_out(shared: Shared) -> None:
    with connected(shared.port, FLOOD_COUNT), connected(shared.port, FLOOD_COUNT, "127.0.0.2"):
        for name in NAMES * 3:
            assert discover(shared.of(name)) == 200
        # They come a few at a time.
        until(lambda: 128 <= strangers(shared) <= 256)
        assert discover(shared.of("alice")) == 200


@pytest.mark.parametrize(
    ("files", "bounds"), [(20000, (256, 128)), (1024, (256, 128)), (256, (128, 64)), (1, (2, 1))]
)
def test_the_bounds_follow_from_how_many_files_may_be_open(
    files: int, bounds: tuple[int, int]
) -> None:
    found = vars(Unauthenticated.within(files))
    assert (found["_all_max"], found["_each_max"]) == bounds


@pytest.mark.claim("shared.no-starving")
def test_a_flood_from_one_address_ends_no_connection_of_anothers(shared: Shared) -> None:
    head = f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{shared.port}\r\nConnection: close\r\n\r\n"
    with connected(shared.port, 20, "127.0.0.3") as slow:
        until(lambda: strangers(shared) >= len(slow))
        with connected(shared.port, FLOOD_COUNT, "127.0.0.4") as flood:
            until(lambda: sum(map(is_ended, flood)) > FLOOD_COUNT // 2)
            for one in slow:
                one.settimeout(DEADLINE_S)
                one.sendall(head.encode())
                assert one.recv(100).startswith(b"HTTP/1.1 200 ")


def is_ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_who_listens_for_news_isnt_turned_out(shared: Shared) -> None:
    alice = shared.of("alice")
    session_id = handshake(alice)
    head = [f"{name}: {value}" for name, value in alice.headers.items()]
    head += [f"Host: 127.0.0.1:{shared.port}", f"Mcp-Session-Id: {session_id}"]
    request = "\r\n".join(["GET /mcp HTTP/1.1", *head, "", ""])
    with socket.create_connection(("127.0.0.1", shared.port), timeout=DEADLINE_S) as stream:
        stream.sendall(request.encode())
        assert stream.recv(4096).startswith(b"HTTP/1.1 200 ")
        with connected(shared.port, FLOOD_COUNT) as flood:
            until(lambda: sum(map(is_ended, flood)) > FLOOD_COUNT // 2)
            stream.settimeout(0)
            assert not is_ended(stream)


@pytest.mark.claim("shared.no-starving")
@pytest.mark.parametrize("version", [None, MODERN])
def test_what_one_sends_at_once_is_bounded_and_nobody_elses(
    shared: Shared, version: str | None
) -> None:
    alice, bob = (shared.of(name) for name in NAMES)
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "server/discover"} if version else {}
    megabyte = b" " * (1 << 20)
    refused = []
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            one = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=DEADLINE_S)
            stack.callback(one.close)
            one.putrequest("POST", "/mcp")
            for name, value in (alice.headers | headers).items():
                one.putheader(name, value)
            one.putheader("Content-Length", str(13 << 20))
            one.endheaders()
            # All of it but the last.
            for _ in range(12):
                with contextlib.suppress(ConnectionError):
                    one.send(megabyte)
            refused.append(one)
        answered = select.select([one.sock for one in refused], [], [], DEADLINE_S)[0]
        statuses = [one.getresponse().status for one in refused if one.sock in answered]
        assert set(statuses) == {503}
        assert discover(bob) == 200
    until(lambda: discover(alice) == 200)


End = tuple[str, int]


@dataclass
class Served:
    """What takes connections and reads of them until they end."""

    port: int
    unauthenticated: Unauthenticated
    ended: dict[End, bool]
    """By the client's address and port, whether it was ended."""
    welcome: asyncio.Event
    """Until it's set, those who said something are somebody."""


@asynccontextmanager
async def served(tls: ssl.SSLContext | None = None, **bounds: float) -> AsyncIterator[Served]:
    found = Served(0, Unauthenticated(**bounds), {}, asyncio.Event())  # type: ignore[arg-type]
    tasks = []

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        peer = writer.get_extra_info("peername")
        found.ended[peer[:2]] = False
        with contextlib.suppress(ConnectionError):
            if await reader.read(1) == b"!":
                with found.unauthenticated.known(peer):
                    await found.welcome.wait()
            while await reader.read(1):
                pass
        found.ended[peer[:2]] = True
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    listener = socket.create_server(("127.0.0.1", 0))
    found.port = listener.getsockname()[1]
    watched = found.unauthenticated.at(listener)
    async with await asyncio.start_server(read, sock=watched, ssl=tls, backlog=ACCEPTED_MAX):
        yield found
        for task in tasks:
            assert task is not None
            await task


@asynccontextmanager
async def talking(
    port: int, source: str = "127.0.0.1"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    yield reader, writer
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def end_of(writer: asyncio.StreamWriter) -> End:
    """Return its address and port: of another address another may have the same port."""
    end: End = writer.get_extra_info("sockname")
    return end


async def reached(condition: Callable[[], bool]) -> None:
    # On a thread, since what it waits for happens on this loop.
    await anyio.to_thread.run_sync(until, condition)


@pytest.mark.anyio
async def test_who_trickles_is_ended_in_time_and_who_is_served_isnt() -> None:
    async with served() as server, talking(server.port) as (_, known):
        known.write(b"!")
        await reached(lambda: server.unauthenticated.count == 0 and end_of(known) in server.ended)
        server.unauthenticated.patience_s = 0.1
        async with talking(server.port) as (reader, writer):
            with anyio.fail_after(DEADLINE_S), contextlib.suppress(ConnectionError):
                while not reader.at_eof():
                    writer.write(b"x")
                    with anyio.move_on_after(0.05):
                        await reader.read(1)
            await reached(lambda: server.ended[end_of(writer)])
        assert not server.ended[end_of(known)]
        assert server.unauthenticated.count == 0
        # It is one again from now on, of which there may be so many.
        server.welcome.set()
        await reached(lambda: server.unauthenticated.count == 1)
        known.close()
        await reached(lambda: server.unauthenticated.count == 0)


@pytest.mark.anyio
async def test_half_a_handshake_is_ended_in_time(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(tmp_path, "127.0.0.1"))
    async with (
        served(context, patience_s=0.3) as server,
        talking(server.port) as (reader, writer),
    ):
        writer.write(b"\x16\x03\x01\x02\x00\x01")
        with anyio.fail_after(DEADLINE_S):
            assert await reader.read() == b""
        await reached(lambda: server.unauthenticated.count == 0)
        assert not server.ended


@pytest.mark.anyio
async def test_one_over_the_bound_takes_an_older_ones_place() -> None:
    async with served(each_max=4) as server, contextlib.AsyncExitStack() as stack:
        ends = []
        for _ in range(12):
            _, writer = await stack.enter_async_context(talking(server.port))
            ends.append(end_of(writer))
            await reached(lambda: len(server.ended) == len(ends))
            assert server.unauthenticated.count == min(len(ends), 4)
        await reached(lambda: sum(server.ended.values()) == 8)
        # The newer half stays.
        assert not any(server.ended[one] for one in ends[-2:])


@pytest.mark.anyio
async def test_one_over_the_bound_of_all_takes_the_place_of_one_of_the_most() -> None:
    async with served(each_max=4, all_max=6) as server, contextlib.AsyncExitStack() as stack:
        ends: dict[str, list[End]] = {}
        for source, count in (("127.0.0.2", 4), ("127.0.0.3", 2), ("127.0.0.4", 2)):
            for _ in range(count):
                _, writer = await stack.enter_async_context(talking(server.port, source))
                ends.setdefault(source, []).append(end_of(writer))
                await reached(lambda: len(server.ended) == sum(map(len, ends.values())))
        await reached(lambda: sum(server.ended.values()) == 2)
        assert server.unauthenticated.count == 6
        assert sum(server.ended[one] for one in ends["127.0.0.2"]) == 2


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2%eth0", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)
def test_connections_count_as_one_hosts_by_what_one_can_have(
    one: str, other: str, *, same: bool
) -> None:
    address = unauthenticated._address  # noqa: SLF001
    assert (address((one, 1)) == address((other, 2))) == same


@pytest.mark.anyio
@pytest.mark.parametrize("comes", [False, True])
async def test_a_connection_that_ended_while_it_was_known_is_counted_no_more(
    *, comes: bool
) -> None:
    found, peer = Unauthenticated(), ("127.0.0.1", 1)
    ends = [socket.socketpair() for _ in range(2)]
    accepted = [found._accepted(end.detach(), peer) for end, _ in ends[:1]]  # noqa: SLF001
    assert found.count == 1
    with found.known(peer):
        assert found.count == 0
        accepted[0].close()
        if comes:
            accepted.append(found._accepted(ends[1][0].detach(), peer))  # noqa: SLF001
    assert found.count == comes
    for one in (*accepted, *(end for pair in ends for end in pair)):
        one.close()
    assert found.count == 0
