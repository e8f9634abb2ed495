"""MCP over standard input and output, without threads.

The SDK's own stdio transport reads in a thread, which nothing can interrupt, and reads lines
of any length. Here descriptors are waited for by the event loop.

Architecture invariant: nothing else in this process can reach the wire. While it is claimed,
descriptor 0 is empty and descriptor 1 is standard error, and no child inherits it.
"""

from __future__ import annotations

import fcntl
import os
import sys
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import anyio

from nono_mcp.server.app import build
from nono_mcp.server.streams import Receiving, Sending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from nono_mcp.session import Session

FLUSH_S_MAX = 1.0
"""How long a client may take to read our last answers once it has closed its side."""


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
async def streams(read_fd: int, write_fd: int) -> AsyncIterator[tuple[Receiving, Sending]]:
    """Yield the streams of messages that the SDK serves; the first ends when the client goes."""
    sent = Sending(write_fd)
    received = Receiving(read_fd, sent.send)
    sent.on_broken = received.end
    try:
        yield received, sent
        with anyio.move_on_after(FLUSH_S_MAX):
            await sent.written()
    finally:
        received.end()
        sent.let_go()
