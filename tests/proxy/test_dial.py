"""The connector dials the address that it's given, and says how that ended."""

import asyncio
import socket

import pytest

from nono_proxy.proxy import tcp_connector
from tests.proxy.world import DEADLINE_S

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_who_listens_is_reached_and_told_at_once(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener:
        port = listener.getsockname()[1]
        with await tcp_connector(address, port) as sock:
            assert sock.getpeername()[:2] == (address, port)
            assert sock.gettimeout() == 0
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    with pytest.raises(ConnectionRefusedError):
        await tcp_connector(address, port)


async def test_who_is_busy_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        to = listener.getsockname()
        # The queue has room for one; who comes next has to come again (RFC 6298 2: after a second).
        with socket.create_connection(to):
            late = asyncio.ensure_future(tcp_connector(*to))
            for _ in range(20):
                await asyncio.sleep(0)
            assert not late.done()
            listener.accept()[0].close()
            async with asyncio.timeout(DEADLINE_S):
                (await late).close()


async def test_who_gives_up_leaves_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        to = listener.getsockname()
        with socket.create_connection(to), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await tcp_connector(*to)
