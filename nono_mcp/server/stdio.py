"""MCP over standard input and output, without threads.

The SDK's own stdio transport reads in a thread, which nothing can interrupt, and reads lines
of any length. Here descriptors are waited for by the event loop.

Architecture invariant: nothing else in this process can reach the wire. While it is claimed,
descriptor 0 is empty and descriptor 1 is standard error, and no child inherits it.
"""

from __future__ import annotations

import fcntl
import os
import select
import sys
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
from mcp.shared.message import SessionMessage

from nono_mcp.server.app import build
from nono_mcp.server.messages import Lines, Refusal, encode, parse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from nono_mcp.session import Session

    Received = MemoryObjectReceiveStream[SessionMessage | Exception]
    Sent = MemoryObjectSendStream[SessionMessage]

FLUSH_S_MAX = 1.0
"""How long a client may take to read our last answers once it has closed its side."""
_READ_BYTES = 256 * 1024
_WRITE_BYTES = 4096
"""PIPE_BUF: what a pipe or socket that polls as writable takes without blocking (pipe(7))."""


async def serve(session: Session) -> None:
    """Serve *session* to the client at the other end, until it leaves.

    Raises:
        RefusedError: Its policy requires what this machine can't give.
    """
    if os.isatty(0):
        sys.stderr.write(
            "nono: standard input is for an MCP client to speak on; Ctrl-C ends this\n"
        )
    with claimed_wire() as (read_fd, write_fd):
        app = build(session)
        async with streams(read_fd, write_fd) as (received, sent):
            await app.serve(received, sent)


@contextmanager
def claimed_wire() -> Iterator[tuple[int, int]]:
    """Take standard input and output away from the rest of this process."""
    # Above the standard three, and closed on exec.
    read_fd = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3)
    write_fd = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
    try:
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(nothing, 0)
        os.dup2(2, 1)
        os.close(nothing)
        yield read_fd, write_fd
    finally:
        os.dup2(read_fd, 0)
        os.dup2(write_fd, 1)
        os.close(read_fd)
        os.close(write_fd)


@asynccontextmanager
async def streams(read_fd: int, write_fd: int) -> AsyncIterator[tuple[Received, Sent]]:
    """Yield the streams of messages that the SDK serves; the first ends when the client goes."""
    to_server, received = anyio.create_memory_object_stream[SessionMessage | Exception]()
    sent, from_server = anyio.create_memory_object_stream[SessionMessage]()
    written = anyio.Event()
    reading = anyio.CancelScope()

    async def read() -> None:
        async with to_server, refusals:
            with reading:
                await _read(read_fd, to_server, refusals)

    async def write() -> None:
        async with from_server:
            try:
                async for message in from_server:
                    await _write(write_fd, encode(message.message))
            except (BrokenPipeError, ConnectionResetError):
                # Nobody reads our answers: what still comes is no client's.
                reading.cancel()
        written.set()

    async with anyio.create_task_group() as group:
        refusals = sent.clone()
        group.start_soon(read)
        group.start_soon(write)
        yield received, sent
        reading.cancel()
        with anyio.move_on_after(FLUSH_S_MAX):
            await written.wait()
        group.cancel_scope.cancel()


async def _read(
    fd: int, to_server: MemoryObjectSendStream[SessionMessage | Exception], refusals: Sent
) -> None:
    lines = Lines()
    while True:
        await _wait_readable(fd)
        try:
            chunk = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            continue
        except OSError:
            return  # the connection was reset, the terminal is gone
        if not chunk:
            return
        for line in lines.feed(chunk):
            message = parse(line)
            try:
                if isinstance(message, Refusal):
                    await refusals.send(SessionMessage(message.answer))
                else:
                    await to_server.send(SessionMessage(message))
            except anyio.BrokenResourceError:
                return  # the server has stopped listening


async def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        if not _is_ready(fd, select.POLLOUT):
            await anyio.wait_writable(fd)
        with suppress(BlockingIOError):
            view = view[os.write(fd, view[:_WRITE_BYTES]) :]
        if view:
            await anyio.lowlevel.checkpoint()


async def _wait_readable(fd: int) -> None:
    if _is_ready(fd, select.POLLIN):
        # Also whatever epoll refuses to wait for: a regular file is always ready.
        await anyio.lowlevel.checkpoint()
    else:
        await anyio.wait_readable(fd)


def _is_ready(fd: int, event: int) -> bool:
    """Tell whether reading or writing *fd* doesn't block."""
    poll = select.poll()
    poll.register(fd, event)
    return bool(poll.poll(0))
