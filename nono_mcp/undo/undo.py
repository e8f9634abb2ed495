"""A session's snapshots: the workspace as it was before and after each call, and the way back.

    async with undo.around(call_id, call) as kept:  # the workspace is kept, or this raises
        ...
    kept.changed  # what the call changed

Architecture invariant: a call that may write runs only once the workspace as it was before is
kept. No snapshot is put back while a call runs, here or in another server of the workspace: the
rollback is refused. A call that comes while one is put back waits for its end.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Self, TypeVar

import anyio
import anyio.to_thread

from nono_mcp.policy.errors import quoted
from nono_mcp.policy.paths import covers
from nono_mcp.snapshots import upkeep
from nono_mcp.snapshots.errors import SnapshotError, WorkspaceReplacedError
from nono_mcp.snapshots.living import Living
from nono_mcp.snapshots.values import Dirty
from nono_mcp.snapshots.watch import Watcher
from nono_mcp.undo import rolling
from nono_mcp.undo.beneath import Beneath, both
from nono_mcp.undo.opening import broad_error, open_store, retention
from nono_mcp.undo.rules import Rules
from nono_mcp.undo.values import CallsRunError, Changed, Kept, Wanted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from nono_mcp.audit.session import Session as Log
    from nono_mcp.guard.below import Below
    from nono_mcp.guard.guard import Action
    from nono_mcp.policy.request import Prepared, Request
    from nono_mcp.snapshots.snapshots import Snapshots
    from nono_mcp.snapshots.values import (
        Outcome,
        Plan,
        Progress,
        Reason,
        Snapshot,
    )
    from nono_mcp.snapshots.watch import Stillness
    from nono_mcp.undo.beneath import OnGuarded
    from nono_sandbox.confinement import Call

    OnProgress = Callable[[Progress], None] | None

T = TypeVar("T")

LISTED_MAX = 20
"""How many changed paths of a call are named."""
TAKES_A_PRUNE = 200
"""Snapshots after which the old ones are thinned."""
_WAIT_S = 0.02


class Undo:
    """The snapshots of one session. Made by `opened`."""

    def __init__(
        self, snapshots: Snapshots, living: Living, rules: Rules, log: Log | None, below: Below
    ) -> None:
        self.rules = rules
        self.recovered: Outcome | None = None
        """What came of a rollback that an earlier process didn't finish."""
        self._snapshots = snapshots
        self._living = living
        self._log = log
        self._watcher = Watcher(rules.workspace) if rules.watched else None
        # Who takes a snapshot has to be told all that changed since the one before.
        self._turn = threading.Lock()
        self._beneath = Beneath(below)
        self._ahead: Dirty | None = Dirty()
        """What was told of as changed, and isn't in a snapshot yet."""
        self._last: tuple[Stillness, Snapshot] | None = None
        self._writing: list[Kept] = []
        self._takes_count = 0
        self.listeners: list[Callable[[], None]] = []
        """Told that there is a snapshot more."""

    @classmethod
    def opened(
        cls, request: Request, prepared: Prepared, log: Log | None, below: Below
    ) -> Self | None:
        """Return the snapshots of a session, or None where its policy wants none.

        A rollback that was interrupted is completed, unless calls run in the workspace.

        Raises:
            PolicyError, RefusedError, SnapshotError, OSError: They can't be had.
        """
        if prepared.document.snapshots.enabled is False:
            return None
        rules = Rules.of(request, prepared)
        snapshots = _opened(rules)
        undo = cls(snapshots, Living(request.state_dir, rules.workspace), rules, log, below)
        try:
            undo._recover()
        except BaseException:
            undo.close()
            raise
        return undo

    def close(self) -> None:
        """Let go of the store."""
        if self._watcher is not None:
            self._watcher.close()
        self._living.close()
        self._snapshots.close()

    @asynccontextmanager
    async def around(self, call_id: str, call: Call, on_guarded: OnGuarded) -> AsyncIterator[Kept]:
        """Keep the workspace as it is before and after what the body runs, if that may write.

        *on_guarded* is told what was put right beneath the top directory.

        Raises:
            SnapshotError: It couldn't be kept before. Run nothing.
            AuditWriteError: It isn't in the log. Run nothing, or tell nobody of it.
        """
        # Who lets go of it may be another process.
        while not self._living.enter():  # noqa: ASYNC110 - see above
            await anyio.sleep(_WAIT_S)
        kept = Kept()
        try:
            if self.rules.may_write(call):
                async with self._held(call_id, kept):
                    yield kept
                on_guarded(kept.guarded)
            else:
                yield kept
        finally:
            self._living.leave()

    @asynccontextmanager
    async def _held(self, call_id: str, kept: Kept) -> AsyncIterator[None]:
        try:
            before = await self._take_for(call_id, "before-call", kept)
            self._begin(kept)
            try:
                yield
            finally:
                self._writing.remove(kept)
                # What was ended in the middle has changed something all the same.
                with anyio.CancelScope(shield=True):
                    kept.changed = await self._changed(before, call_id, kept)
        finally:
            self._beneath.end(kept)

    async def put_right(self) -> tuple[Action, ...]:
        """Put right what calls that run have done beneath the top directory by now."""

        def look() -> tuple[Action, ...]:
            with self._turn:
                dirty = None if self._watcher is None else self._watcher.take()
                self._ahead = both(self._ahead, dirty)
                return self._beneath.put_right(dirty)

        return await anyio.to_thread.run_sync(look)

    async def take(
        self,
        reason: Reason,
        *,
        call: str | None = None,
        name: str | None = None,
        on_progress: OnProgress = None,
    ) -> Snapshot:
        """Keep the workspace as it is now.

        Raises:
            SnapshotError: It couldn't be.
            AuditWriteError: It isn't in the log.
        """
        return await self._take(reason, call, name=name, on_progress=on_progress)

    async def _take(
        self,
        reason: Reason,
        call: str | None,
        *,
        name: str | None = None,
        on_progress: OnProgress = None,
        kept: Kept | None = None,
    ) -> Snapshot:
        ending = kept if reason == "after-call" else None

        def take() -> Snapshot:
            with self._turn, self._changes() as dirty:
                # Before it is kept: what is put right is in no snapshot.
                self._beneath.look(dirty, ending)
                since = None if self._watcher is None else self._watcher.since
                taken = self._snapshots.take(
                    reason, name=name, call=call, dirty=dirty, progress=on_progress
                )
                self._last = None if since is None else (since, taken)
                if kept is not None and kept is not ending:
                    self._beneath.begin(kept)
                return taken

        def take_anew() -> Snapshot:
            try:
                return take()
            except WorkspaceReplacedError:
                # The session has judged it anew as well.
                self._reopen()
                return take()

        try:
            taken = await anyio.to_thread.run_sync(take_anew)
        except OSError as error:
            raise SnapshotError(f"the workspace can't be kept: {_reason(error)}") from error
        return self._noted(taken)

    def still(self, path: str) -> Stillness | None:
        """Return what stays the same while nothing changes in *path*; None is unknown."""
        if self._watcher is None or not covers(self.rules.workspace, path):
            return None
        return self._watcher.still()

    def settle(self, request: Request, prepared: Prepared) -> None:
        """Go by another policy from here on."""
        self.rules = Rules.of(request, prepared)
        if self._watcher is not None and not self.rules.watched:
            # What is written from where it can be written now may raise no event.
            self._watcher.close()
            self._watcher = None

    async def _take_for(self, call: str, reason: Reason, kept: Kept) -> Snapshot:
        """Take a snapshot, without a look if nothing has changed since the last."""
        if not self._turn.acquire(blocking=False):
            return await self._take(reason, call, kept=kept)
        try:
            taken = self._again(call, reason)
            if taken is not None and reason == "before-call":
                self._beneath.begin(kept)
        finally:
            self._turn.release()
        return await self._take(reason, call, kept=kept) if taken is None else self._noted(taken)

    def _again(self, call: str, reason: Reason) -> Snapshot | None:
        if self._last is None or self.still(self.rules.workspace) != self._last[0]:
            return None
        if self._ahead != Dirty() or not self._beneath.is_still():
            return None
        return self._snapshots.again(self._last[1], reason, call)

    def _noted(self, taken: Snapshot) -> Snapshot:
        if self._log is not None:
            fields = {"id": taken.id, "root": taken.root, "reason": taken.reason}
            self._log.append(
                "snapshot", fields | ({} if taken.call is None else {"call": taken.call})
            )
        self._thin_sometimes()
        for listener in self.listeners:
            listener()
        return taken

    async def look(self, ask: Callable[[Snapshots], T]) -> T:
        """Return what *ask* finds in the store.

        Raises:
            SnapshotError: It isn't to be had.
        """
        try:
            return await anyio.to_thread.run_sync(ask, self._snapshots)
        except OSError as error:
            raise SnapshotError(_reason(error)) from error

    async def plan(self, wanted: Wanted, on_progress: OnProgress = None) -> Plan:
        """Return what a rollback would do.

        Raises:
            SnapshotError: It can't be done.
        """
        return await self.look(lambda _: self._planned(wanted, on_progress))

    async def roll_back(
        self,
        wanted: Wanted,
        on_progress: OnProgress = None,
        agreed: Plan | None = None,
        on_guarded: OnGuarded | None = None,
    ) -> Outcome:
        """Put a snapshot back; if somebody *agreed* to a plan, as that says and not otherwise.

        With *on_guarded*, what is guarded beneath the top directory stays as it is, and that is
        told what had to be put right for it.

        Raises:
            StalePlanError: The workspace isn't what it was then. Nothing was changed.
            CallsRunError: A call runs. Nothing was changed.
            SnapshotError: The error says in what state the workspace is.
            AuditWriteError: It isn't in the log.
        """
        if not self._living.be_alone():
            raise CallsRunError(self._who_runs())
        try:
            # Half of it would be worse than either.
            with anyio.CancelScope(shield=True):
                async with self._guarding(on_guarded):
                    outcome = await self.look(
                        lambda store: rolling.roll_back(
                            store, wanted, self._log, agreed=agreed, on_progress=on_progress
                        )
                    )
        finally:
            self._living.let_in()
        return outcome

    @asynccontextmanager
    async def _guarding(self, on_guarded: OnGuarded | None) -> AsyncIterator[None]:
        """Put right what the body brings back of what a call had planted."""
        if on_guarded is None:
            yield
            return

        def learn() -> None:
            with self._turn:
                self._beneath.learn()

        def put_right() -> tuple[Action, ...]:
            with self._turn:
                return self._beneath.put_right(None)

        await anyio.to_thread.run_sync(learn)
        try:
            yield
        finally:
            on_guarded(await anyio.to_thread.run_sync(put_right))

    @contextmanager
    def _changes(self) -> Iterator[Dirty | None]:
        if self._watcher is None:
            yield None
            return
        with self._watcher.changes() as dirty:
            yield both(self._ahead, dirty)
            self._ahead = Dirty()

    def _reopen(self) -> None:
        with self._turn:
            self._snapshots.close()
            self._last = None
            self._snapshots = _opened(self.rules)

    def _planned(self, wanted: Wanted, on_progress: OnProgress) -> Plan:
        # Of everything there is, whatever events said: what is put back has to be right.
        return self._snapshots.plan(
            self._snapshots.get(wanted.snapshot).id,
            scope=wanted.scope,
            paths=wanted.paths,
            progress=on_progress,
        )

    def _who_runs(self) -> str:
        count = self._living.count
        if count:
            who = "a call runs" if count == 1 else f"{count} calls run"
        else:
            who = "a call runs in another server of this workspace, or a rollback does"
        return f"{who}: nothing was put back; wait for the end, or end it, and ask again"

    def _begin(self, kept: Kept) -> None:
        for other in self._writing:
            other.overlapped = kept.overlapped = True
        self._writing.append(kept)

    async def _changed(self, before: Snapshot, call_id: str, kept: Kept) -> Changed:
        after = None
        try:
            after = await self._take_for(call_id, "after-call", kept)
            if after.root == before.root:
                return Changed(before, after, overlapped=kept.overlapped)
            ends = before.id, after.id
            found = await self.look(lambda store: store.diff(*ends, limit=LISTED_MAX))
        except SnapshotError as error:
            return Changed(before, after, error=str(error))
        return Changed(before, after, found, kept.overlapped)

    def _recover(self) -> None:
        if not self._living.be_alone():
            return  # a call is refused until somebody has
        try:
            outcome = self._snapshots.recover()
            if outcome is not None:
                self.recovered = outcome
                rolling.record(self._log, outcome.safety.id, "end", rolling.of_outcome(outcome))
        finally:
            self._living.let_in()

    def _thin_sometimes(self) -> None:
        if self._takes_count % TAKES_A_PRUNE == 0:
            threading.Thread(target=self._thin, daemon=True, name="thin").start()
        self._takes_count += 1

    def _thin(self) -> None:
        try:
            upkeep.prune(self.rules.state_dir, retention(self.rules.section))
        except (SnapshotError, OSError) as error:
            logging.getLogger("nono").warning("old snapshots weren't thinned: %s", error)


def _opened(rules: Rules) -> Snapshots:
    remedy = "say broad = true, or enabled = false, in the policy's [snapshots]"
    if rules.is_broad and not rules.broad:
        raise broad_error(rules.workspace, remedy)
    where = rules.state_dir, rules.workspace
    return open_store(*where, rules.section, broad=rules.broad, remedy=remedy)


def _reason(error: OSError) -> str:
    where = f"{quoted(os.fsdecode(error.filename))}: " if error.filename else ""
    return f"{where}{(error.strerror or str(error)).lower()}"
