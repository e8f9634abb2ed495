"""A fair queue of calls, where several share a machine: whose turn it is.

There is a bound for all and one for each, and no queue that one can fill before another.

Architecture invariant: a turn that is free is had by somebody who waits and may have it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from types import TracebackType


class Turns:
    """So many turns at once; who waits gets one in rotation, and not in the order of asking."""

    def __init__(self, calls_max: int) -> None:
        self._free = calls_max
        self._shares: deque[Share] = deque()

    def share(self, calls_max: int) -> Share:
        """Return the share of somebody who may have *calls_max* of them at once."""
        share = Share(self, calls_max)
        self._shares.append(share)
        return share

    def leave(self, share: Share) -> None:
        """Take somebody out of the rotation, who has no turn any more."""
        self._shares.remove(share)

    def give(self) -> None:
        """Hand out what is free."""
        while self._free and any(share.wants for share in self._shares):
            share = self._shares[0]
            self._shares.rotate(-1)
            if share.begin_next():
                self._free -= 1

    def take_back(self) -> None:
        """Have one more to give."""
        self._free += 1
        self.give()


class Share:
    """What one has of the turns: `async with` it for a turn."""

    def __init__(self, turns: Turns, calls_max: int) -> None:
        self._turns = turns
        self._calls_max = calls_max
        self._queue: deque[anyio.Event] = deque()
        self.running_count = 0

    @property
    def waiting_count(self) -> int:
        """Return how many wait for a turn."""
        return len(self._queue)

    @property
    def wants(self) -> bool:
        """Tell whether somebody waits here who may have a turn."""
        return bool(self._queue) and self.running_count < self._calls_max

    def begin_next(self) -> bool:
        """Give a turn to who waits first, if one may have it."""
        if not self.wants:
            return False
        self.running_count += 1
        self._queue.popleft().set()
        return True

    async def __aenter__(self) -> None:
        mine = anyio.Event()
        self._queue.append(mine)
        self._turns.give()
        if mine.is_set():
            return
        try:
            await mine.wait()
        except BaseException:
            if mine.is_set():
                self._end()
            else:
                self._queue.remove(mine)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        self.running_count -= 1
        self._turns.take_back()


class Part:
    """What one session has of a share, which its principal's others have with it."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self.count = 0
        """Turns that it has or waits for."""

    async def __aenter__(self) -> None:
        self.count += 1
        try:
            await self._share.__aenter__()
        except BaseException:
            self.count -= 1
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.count -= 1
        await self._share.__aexit__(kind, error, trace)
