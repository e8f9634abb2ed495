"""What relaying costs in Python when nothing at all is looked at: the floor under any proxy.

A relay reads no head and checks nothing; each client has an upstream connection of its own. One is
made of asyncio's transports, one of epoll and two system calls for each piece.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PIECE_BYTES = 65536


class _Relay(asyncio.Protocol):
    """One side of a relay."""

    def __init__(self, peer: _Relay | None = None) -> None:
        self.peer = peer
        self.transport: asyncio.Transport | None = None
        self.early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        if isinstance(transport, asyncio.Transport):
            self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Pass it on."""
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.write(data)
        else:
            self.early += data

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other side."""
        del exc
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.close()


async def by_asyncio(listener: socket.socket, upstream: int) -> None:
    """Relay by asyncio's own transports."""
    loop = asyncio.get_running_loop()

    class Near(_Relay):
        """A client's side, that dials when it's there."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            """Dial."""
            super().connection_made(transport)
            self.peer = _Relay(self)
            tasks.add(asyncio.ensure_future(self.dial(self.peer)))

        async def dial(self, far: _Relay) -> None:
            """Connect, and send what has come by then."""
            await loop.create_connection(lambda: far, "127.0.0.1", upstream)
            early, self.early = self.early, b""
            self.data_received(early)

    listener.settimeout(0)
    # Asyncio does it for those sockets alone that name their protocol.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    tasks: set[asyncio.Future[None]] = set()
    server = await loop.create_server(Near, sock=listener)
    await server.serve_forever()


def by_epoll(listener: socket.socket, upstream: int) -> None:
    """Relay by epoll alone."""
    poll = select.epoll()
    poll.register(listener.fileno(), select.EPOLLIN)
    ways: dict[int, tuple[Callable[..., int], Callable[..., int], tuple[socket.socket, ...]]] = {}
    buffer = bytearray(_PIECE_BYTES)
    view = memoryview(buffer)
    front = listener.fileno()
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == front:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", upstream))
                pair = (near, far)
                ways[near.fileno()] = near.recv_into, far.send, pair
                ways[far.fileno()] = far.recv_into, near.send, pair
                for sock in pair:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    poll.register(sock.fileno(), select.EPOLLIN)
                continue
            way = ways.get(descriptor)
            if way is None:
                continue
            with contextlib.suppress(ConnectionError):
                if count := way[0](buffer):
                    way[1](view[:count])
                    continue
            for sock in way[2]:
                ways.pop(sock.fileno())
                sock.close()
