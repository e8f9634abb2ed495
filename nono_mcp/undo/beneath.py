"""The guard beneath the top directory, told by the watcher of snapshots what changed.

Architecture invariant: what changed while a call ran that may write is judged, and never taken for
the person's.
"""

from __future__ import annotations

import os
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from nono_mcp.guard.looking import Changed
from nono_mcp.snapshots.values import Dirty
from nono_mcp.undo.values import Kept

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from nono_mcp.guard.action import Action
    from nono_mcp.guard.subtree_guard import SubtreeGuard
    from nono_mcp.undo.keeping import Keeping
    from nono_sandbox.confinement import Call

    OnGuarded = Callable[[Iterable[Action]], None]

EVERYTHING = frozenset({b""})


class Beneath:
    """What a session's calls do beneath the top directory, while its snapshots are kept.

    All but `begin` and `end` has to be done by one who has the turn to take a snapshot.
    """

    def __init__(self, below: SubtreeGuard) -> None:
        self._below = below
        self._running: list[Kept] = []
        self._counting = threading.Lock()
        """Who begins does so with the turn, and who ends without."""

    def running(self, but: Kept | None) -> list[Kept]:
        """Return the calls that run and may write, all *but* one."""
        return [kept for kept in self._running if kept is not but]

    def begin(self, kept: Kept) -> None:
        """Judge what changes from here on, as done by the call of *kept* or another.

        Raises:
            OSError: Others aren't told. Run nothing.
        """
        with self._counting:
            self._running.append(kept)
        self._below.run()

    def end(self, kept: Kept) -> None:
        """Hold that call responsible for nothing more."""
        with self._counting:
            if kept in self._running:
                self._running.remove(kept)
            if not self._running:
                self._below.rest()

    def is_still(self) -> bool:
        """Tell whether nothing differs of what is guarded, where there were no events.

        If nothing does, it was taken in as `look` does.
        """
        return self._below.is_still(learning=not self._running)

    def look(
        self, dirty: Dirty | None, ending: Kept | None = None, beginning: Kept | None = None
    ) -> None:
        """Take in what changed or, while a call runs, put it right and tell the calls of it.

        If one of them is *ending*, it alone is told. One that is *beginning* is told of what
        others' calls did.
        """
        if not self._running:
            actions = self._below.learn(_changed(dirty), beginning=beginning is not None)
            told = [] if beginning is None else [beginning]
        else:
            actions = self._below.put_right(_changed(dirty))
            told = self._running if ending is None else [ending]
        for kept in told:
            kept.guarded += actions

    def learn(self) -> tuple[Action, ...]:
        """Take all that is there for the person's; no call that may write runs.

        What others' calls did is put right, and returned.
        """
        return self._below.begin(None)

    def put_right(self, dirty: Dirty | None) -> tuple[Action, ...]:
        """Put right what changed, and return what was done."""
        return self._below.put_right(_changed(dirty))

    def put_all_right(self) -> tuple[Action, ...]:
        """Put right what differs from what was taken in by `learn`, and return what was done."""
        return self._below.end()


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


@asynccontextmanager
async def guarding(keeping: Keeping, on_guarded: OnGuarded | None) -> AsyncIterator[None]:
    """Put right what the body brings back of what a call had planted, if *on_guarded* is to hear.

    Without it the body brings back whatever it does.
    """
    if on_guarded is None:
        yield
        return
    await anyio.to_thread.run_sync(keeping.learn)
    try:
        yield
    finally:
        on_guarded(await anyio.to_thread.run_sync(keeping.put_all_right))


class Unkept:
    """The same without snapshots, whose watcher would tell what changed: by looks at everything."""

    def __init__(self, below: SubtreeGuard) -> None:
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
                kept.guarded += await anyio.to_thread.run_sync(self._below.begin, None)
            self._running_count += 1
        try:
            yield kept
        finally:
            with anyio.CancelScope(shield=True):
                kept.guarded += await self.put_right()
                self._running_count -= 1
                if not self._running_count:
                    self._below.rest()
            on_guarded(kept.guarded)

    async def put_right(self) -> tuple[Action, ...]:
        """Put right what changed since no call ran, and return what was done."""
        async with self._turn:
            return await anyio.to_thread.run_sync(self._below.put_right, None)
