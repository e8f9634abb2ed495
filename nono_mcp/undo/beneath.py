"""The guard beneath the top directory, told by the watcher of snapshots what changed.

Architecture invariant: what changed while a call ran that may write is judged, and never taken for
the person's.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from nono_mcp.guard.below import Changed
from nono_mcp.snapshots.values import Dirty
from nono_mcp.undo.values import Kept

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from nono_mcp.guard.below import Below
    from nono_mcp.guard.guard import Action
    from nono_sandbox.confinement import Call

    OnGuarded = Callable[[Iterable[Action]], None]

EVERYTHING = frozenset({b""})


class Beneath:
    """What a session's calls do beneath the top directory, while its snapshots are kept.

    All but `begin` and `end` has to be done by one who has the turn to take a snapshot.
    """

    def __init__(self, below: Below) -> None:
        self._below = below
        self._running: list[Kept] = []

    def running(self, but: Kept | None) -> list[Kept]:
        """Return the calls that run and may write, all *but* one."""
        return [kept for kept in self._running if kept is not but]

    def begin(self, kept: Kept) -> None:
        """Judge what changes from here on, as done by the call of *kept* or another."""
        self._running.append(kept)

    def end(self, kept: Kept) -> None:
        """Hold that call responsible for nothing more."""
        if kept in self._running:
            self._running.remove(kept)

    def is_still(self) -> bool:
        """Tell whether nothing differs of what is guarded, where there were no events.

        If nothing does, it was taken in as `look` does.
        """
        return self._below.is_still(learning=not self._running)

    def look(self, dirty: Dirty | None, ending: Kept | None = None) -> None:
        """Take in what changed or, while a call runs, put it right and tell the calls of it.

        If one of them is *ending*, it alone is told.
        """
        if not self._running:
            self._below.learn(_changed(dirty))
            return
        actions = self._below.put_right(_changed(dirty))
        for kept in self._running if ending is None else [ending]:
            kept.guarded += actions

    def learn(self) -> None:
        """Take all that is there for the person's; no call that may write runs."""
        self._below.learn(None)

    def put_right(self, dirty: Dirty | None) -> tuple[Action, ...]:
        """Put right what changed, and return what was done."""
        return self._below.put_right(_changed(dirty))


def _changed(dirty: Dirty | None) -> Changed | None:
    if dirty is None or b"" in dirty.rescan:
        return None
    trees = frozenset(map(os.fsdecode, dirty.rescan))
    return Changed(frozenset(map(os.fsdecode, dirty.rehash)), trees)


def both(one: Dirty | None, other: Dirty | None) -> Dirty | None:
    """Return what changed in either time; None is everything."""
    if one is not None and other is not None:
        return Dirty(
            one.relist | other.relist, one.rehash | other.rehash, one.rescan | other.rescan
        )
    known = one or other
    return Dirty(rescan=EVERYTHING, rehash=known.rehash) if known and known.rehash else None


class Unkept:
    """The same without snapshots, whose watcher would tell what changed: by looks at everything."""

    def __init__(self, below: Below) -> None:
        self._below = below
        self._turn = anyio.Lock()
        self._running_count = 0

    @asynccontextmanager
    async def around(self, call: Call, on_guarded: OnGuarded) -> AsyncIterator[Kept]:
        """Put right what the body did, if *call* may write; *on_guarded* is told of it."""
        kept = Kept()
        if call.narrowing.writes == ():
            yield kept
            return
        async with self._turn:
            if not self._running_count:
                await anyio.to_thread.run_sync(self._below.learn, None)
            self._running_count += 1
        try:
            yield kept
        finally:
            with anyio.CancelScope(shield=True):
                kept.guarded += await self.put_right()
                self._running_count -= 1
            on_guarded(kept.guarded)

    async def put_right(self) -> tuple[Action, ...]:
        """Put right what changed since no call ran, and return what was done."""
        async with self._turn:
            return await anyio.to_thread.run_sync(self._below.put_right, None)
