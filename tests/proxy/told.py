"""A protocol that keeps what it's told, and the ways to watch its socket."""

import asyncio
from collections.abc import Callable

from nono_proxy.watching import LoopWatch, Watch, watch
from nono_proxy.wires import Wire
from tests.proxy.world import DEADLINE_S

WATCHES: list[Callable[[asyncio.AbstractEventLoop], Watch]] = [watch, LoopWatch]


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
