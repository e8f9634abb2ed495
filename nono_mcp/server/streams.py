"""A client's two descriptors as the streams that the SDK serves.

Straight from one and to the other: a task and a queue between would cost a message as much as all
that is done with it here. The event loop watches the one for as long as somebody wants more, and
the other while it takes no more.

Architecture invariant: what was begun to be written is written to its end before anything else. One
message waits to be written, and its sender's next one waits for that.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import anyio
import anyio.lowlevel
from mcp.shared.message import SessionMessage

from nono_mcp.server.messages import Lines, Oversized, Refusal, encode, parse

_READ_BYTES = 256 * 1024
_WRITE_BYTES = 4096
"""PIPE_BUF: what a pipe or socket that polls as writable takes without blocking (pipe(7))."""
_WRITES_MAX = 64
"""So many in one turn of the loop, however fast they are taken."""

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Refuse = Callable[[SessionMessage], Awaitable[None]]


class _Stream:
    """What both have in common."""

    async def __aenter__(self) -> Self:
        """Begin nothing."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close it; what was sent is still written."""
        raise NotImplementedError


class Sending(_Stream):
    """What is sent to a client, on an open descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._rest = memoryview(b"")
        """What wasn't taken yet of the last message."""
        self._taken = anyio.Event()
        """All of it was, or nothing more will be."""
        self._is_closed = self._is_broken = self._is_watched = False
        self.on_broken: Callable[[], None] | None = None
        """Hears that nobody reads what is sent."""

    async def send(self, message: SessionMessage) -> None:
        """Write *message*, or have it written as soon as there is room for it.

        Raises:
            BrokenResourceError, ClosedResourceError: Nobody reads it.
        """
        while self._rest and not self._is_broken:
            await self._taken.wait()
        if self._is_broken:
            raise anyio.BrokenResourceError
        if self._is_closed:
            raise anyio.ClosedResourceError
        self._rest = memoryview(encode(message.message))
        self._write()
        if self._rest:
            self._taken = anyio.Event()
            self._watch()

    def _watch(self) -> None:
        """Go on once more is taken."""
        loop = asyncio.get_running_loop()
        try:
            loop.add_writer(self._fd, self._go_on)
        except PermissionError:
            # What epoll refuses to wait for: a regular file is always ready.
            loop.call_soon(self._go_on)
        else:
            self._is_watched = True

    def _go_on(self) -> None:
        self._write()
        if not self._rest:
            self._unwatch()
            self._taken.set()
        elif not self._is_watched:
            self._watch()

    def _write(self) -> None:
        """Write what is taken without blocking, up to a bound."""
        try:
            for _ in range(_WRITES_MAX):
                if not self._rest or not _is_ready(self._fd, select.POLLOUT):
                    return
                self._rest = self._rest[os.write(self._fd, self._rest[:_WRITE_BYTES]) :]
        except BlockingIOError:
            return
        except OSError:
            # Nobody reads our answers, or nobody can: what still comes is no client's.
            self._is_broken = True
            self._rest = memoryview(b"")
            if self.on_broken is not None:
                self.on_broken()

    async def written(self) -> None:
        """Wait until all that was sent is written, or will never be."""
        while self._rest:
            await self._taken.wait()

    async def aclose(self) -> None:
        """Take no more messages."""
        self._is_closed = True

    def let_go(self) -> None:
        """Write nothing more."""
        self._rest = memoryview(b"")
        self._unwatch()

    def _unwatch(self) -> None:
        if self._is_watched:
            asyncio.get_running_loop().remove_writer(self._fd)
            self._is_watched = False


class Receiving(_Stream):
    """What a client sends, on an open descriptor; what is no message is answered by *refuse*."""

    def __init__(self, fd: int, refuse: Refuse) -> None:
        self._fd = fd
        self._refuse = refuse
        self._lines = Lines()
        self._complete: deque[bytes | Oversized] = deque()
        self._is_watched = self._is_over = False
        self._wanted: asyncio.Future[bytes] | None = None

    async def receive(self) -> SessionMessage | Exception:
        """Return the next message.

        Raises:
            EndOfStream: There will be none.
        """
        while True:
            while self._complete and not self._is_over:
                message = parse(self._complete.popleft())
                if not isinstance(message, Refusal):
                    return SessionMessage(message)
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await self._refuse(SessionMessage(message.answer))
            chunk = b"" if self._is_over else await self._read()
            if not chunk:
                raise anyio.EndOfStream
            self._complete.extend(self._lines.feed(chunk))

    async def _read(self) -> bytes:
        loop = asyncio.get_running_loop()
        if not self._is_watched:
            try:
                loop.add_reader(self._fd, self._take)
            except PermissionError:
                # What epoll refuses to wait for: a regular file is always ready.
                await anyio.lowlevel.checkpoint()
                with suppress(OSError):  # it's a directory, or not open for that
                    return os.read(self._fd, _READ_BYTES)
                return b""
            self._is_watched = True
        self._wanted = loop.create_future()
        try:
            return await self._wanted
        finally:
            self._wanted = None

    def _take(self) -> None:
        if self._wanted is None or self._wanted.done():
            # Nobody wants more for now, and the loop would say again and again that it's there.
            self._unwatch()
            return
        try:
            self._wanted.set_result(os.read(self._fd, _READ_BYTES))
        except BlockingIOError:
            return
        except OSError:
            self._wanted.set_result(b"")  # the connection was reset, the terminal is gone

    def _unwatch(self) -> None:
        if self._is_watched:
            asyncio.get_running_loop().remove_reader(self._fd)
            self._is_watched = False

    def end(self) -> None:
        """Receive no more, whatever still comes."""
        self._is_over = True
        self._unwatch()
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(b"")

    async def aclose(self) -> None:
        """Receive no more."""
        self.end()

    def __aiter__(self) -> Self:
        """Return the messages, till the client goes."""
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        """Return the next message."""
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None


def _is_ready(fd: int, event: int) -> bool:
    """Tell whether reading or writing *fd* doesn't block."""
    poll = select.poll()
    poll.register(fd, event)
    return bool(poll.poll(0))
