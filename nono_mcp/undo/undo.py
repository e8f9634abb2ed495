"""A session's snapshots: the workspace as it was before and after each call, and the way back.

    async with undo.around(call_id, call, told) as kept:  # the workspace is kept, or this raises
        ...
    kept.changed  # what the call changed

Architecture invariant: a call that may write runs only once the workspace as it was before is
kept. No snapshot is put back while a call runs, here or in another server of the workspace: the
rollback is refused. A call that comes while one is put back waits for its end.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self, TypeVar

import anyio
import anyio.to_thread

from nono_mcp.snapshots.errors import SnapshotError
from nono_mcp.snapshots.restore_lock import RestoreLock
from nono_mcp.undo import rolling
from nono_mcp.undo.beneath import guarding
from nono_mcp.undo.keeping import Keeping, reason_of
from nono_mcp.undo.rules import Rules
from nono_mcp.undo.thinning import Thinning
from nono_mcp.undo.values import CallsRunError, Changed, Kept, PutBackError, Wanted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from nono_mcp.audit.session import Session as Log
    from nono_mcp.guard.action import Action
    from nono_mcp.guard.subtree_guard import SubtreeGuard
    from nono_mcp.policy.request import Prepared, Request
    from nono_mcp.snapshots.snapshots import Snapshots
    from nono_mcp.snapshots.values import Outcome, Plan, Reason, Snapshot
    from nono_mcp.snapshots.watch import Stillness
    from nono_mcp.undo.beneath import OnGuarded
    from nono_mcp.undo.keeping import OnProgress
    from nono_mcp.undo.values import Told
    from nono_sandbox.confinement import Call

T = TypeVar("T")

LISTED_MAX = 20
"""How many changed paths of a call are named."""
_WAIT_S = 0.02


class Undo:
    """The snapshots of one session, and who is `writing`. Made by `opened`."""

    def __init__(
        self, keeping: Keeping, restore_lock: RestoreLock, rules: Rules, log: Log | None
    ) -> None:
        self.rules = rules
        self._keeping = keeping
        self.commit = keeping.commit
        self._restore_lock = restore_lock
        self._log = log
        self.writing: list[Kept] = []
        self._looking = anyio.Lock(fast_acquire=True)
        self._thinning = Thinning()
        self.listeners: list[Callable[[], None]] = []
        """Told that there is a snapshot more."""

    @classmethod
    def opened(
        cls, request: Request, prepared: Prepared, log: Log | None, below: SubtreeGuard
    ) -> Self | None:
        """Return the snapshots of a session, or None where its policy wants none.

        A rollback that was interrupted is completed, unless calls run in the workspace.

        Raises:
            PolicyError, RefusedError, SnapshotError, OSError: They can't be had.
        """
        if prepared.document.snapshots.enabled is False:
            return None
        rules = Rules.of(request, prepared)
        restore_lock = RestoreLock(request.state_dir, rules.workspace)
        undo = cls(Keeping(rules, below, restore_lock.runs_elsewhere), restore_lock, rules, log)
        try:
            if restore_lock.be_alone():  # else a call that may write does it, or is refused
                undo._recover()
                restore_lock.let_in()
        except BaseException:
            undo.close()
            raise
        return undo

    def close(self) -> None:
        """Let go of the store."""
        self._restore_lock.close()
        self._keeping.close()

    @asynccontextmanager
    async def around(
        self, call_id: str, call: Call, told: Told, *, network: int = 0
    ) -> AsyncIterator[Kept]:
        """Keep the workspace as it is before and after what the body runs, if that may write.

        Its snapshots are recorded here but for those that were taken without a look, of which
        *told* hears. The process *network* has the network of the session's calls, if that is
        theirs alone.

        Raises:
            PutBackError: What was judged may be another object by now. Nothing was recorded.
            SnapshotError: It couldn't be kept before. Run nothing.
            AuditWriteError: It isn't in the log. Run nothing, or tell nobody of it.
        """
        if not self._restore_lock.enter():
            await self._enter()
            self._restore_lock.leave()
            raise PutBackError
        kept = Kept(network)
        try:
            if self.rules.may_write(call):
                async with self._held(call_id, kept, told):
                    yield kept
                told.guarded(kept.guarded)
            else:
                told.begins(None)
                yield kept
        finally:
            self._restore_lock.leave()

    async def _enter(self) -> None:
        # Who lets go of it may be another process.
        while not self._restore_lock.enter():  # noqa: ASYNC110 - see above
            await anyio.sleep(_WAIT_S)

    @asynccontextmanager
    async def _held(self, call_id: str, kept: Kept, told: Told) -> AsyncIterator[None]:
        try:
            before = await self._before(call_id, kept, told)
            for other in self.writing:
                other.overlapped = kept.overlapped = True
            self.writing.append(kept)
            try:
                yield
            finally:
                self.writing.remove(kept)
                after = self._keeping.again("after-call", call_id, kept)
                if after is not None:
                    told.ends(after)
                    self._tell()
                # What was ended in the middle has changed something all the same.
                if after is not None and after.root == before.root:
                    kept.changed = Changed(before, after, overlapped=kept.overlapped)
                else:
                    with anyio.CancelScope(shield=True):
                        kept.changed = await self._changed(before, after, call_id, kept)
        finally:
            self._keeping.end(kept)

    async def put_right(self) -> tuple[Action, ...]:
        """Put right what calls that run have done beneath the top directory by now."""
        return await anyio.to_thread.run_sync(self._keeping.put_right)

    async def take(
        self,
        reason: Reason,
        *,
        call: str | None = None,
        name: str | None = None,
        on_progress: OnProgress = None,
        kept: Kept | None = None,
    ) -> Snapshot:
        """Keep the workspace as it is now; *kept* is the call that begins or ends, if one does.

        Raises:
            SnapshotError: It couldn't be.
            AuditWriteError: It isn't in the log.
        """

        def take() -> Snapshot:
            return self._keeping.take(reason, call, name=name, on_progress=on_progress, kept=kept)

        return self._noted(await anyio.to_thread.run_sync(take))

    def still(self, path: str) -> Stillness | None:
        """Return what stays the same while nothing changes in *path*; None is unknown."""
        return self._keeping.still(path)

    def settle(self, request: Request, prepared: Prepared) -> None:
        """Go by another policy from here on."""
        self.rules = Rules.of(request, prepared)
        self._keeping.settle(self.rules)

    async def _before(self, call: str, kept: Kept, told: Told) -> Snapshot:
        taken = self._keeping.again("before-call", call, kept)
        if taken is None and self._keeping.snapshots.is_interrupted():
            await self._complete()
            if not self._keeping.snapshots.is_interrupted():
                raise PutBackError
        # What is meant is recorded before anything is looked at for it.
        told.begins(taken)
        if taken is None:
            return await self._take_for(call, "before-call", kept)
        self._tell()
        return taken

    async def _take_for(self, call: str, reason: Reason, kept: Kept) -> Snapshot:
        # One look does for all the calls that wait for it, where nothing changes meanwhile.
        async with self._looking:
            taken = self._keeping.again(reason, call, kept)
            if taken is None:
                return await self.take(reason, call=call, kept=kept)
            return self._noted(taken)

    def _noted(self, taken: Snapshot) -> Snapshot:
        if self._log is not None:
            told = {"id": taken.id, "root": taken.root, "reason": taken.reason}
            self._log.append("snapshot", told | ({"call": taken.call} if taken.call else {}))
        self._tell()
        return taken

    def _tell(self) -> None:
        self._keeping.write_soon()
        self._thinning.taken(self.rules)
        for listener in self.listeners:
            listener()

    async def look(self, ask: Callable[[Snapshots], T]) -> T:
        """Return what *ask* finds in the store.

        Raises:
            SnapshotError: It isn't to be had.
        """
        try:
            return await anyio.to_thread.run_sync(ask, self._keeping.snapshots)
        except OSError as error:
            raise SnapshotError(reason_of(error)) from error

    async def plan(self, wanted: Wanted, on_progress: OnProgress = None) -> Plan:
        """Return what a rollback would do.

        Raises:
            SnapshotError: It can't be done.
        """
        return await self.look(lambda _: self._keeping.plan(wanted, on_progress))

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
        if not self._restore_lock.be_alone():
            raise CallsRunError.of(self._restore_lock.count)
        try:
            # Half of it would be worse than either.
            with anyio.CancelScope(shield=True):
                async with guarding(self._keeping, on_guarded):
                    outcome = await self.look(
                        lambda store: rolling.roll_back(
                            store, wanted, self._log, agreed=agreed, on_progress=on_progress
                        )
                    )
        finally:
            self._restore_lock.let_in()
        return outcome

    async def _changed(
        self, before: Snapshot, after: Snapshot | None, call_id: str, kept: Kept
    ) -> Changed:
        try:
            if after is None:
                after = await self._take_for(call_id, "after-call", kept)
            if after.root == before.root:
                return Changed(before, after, overlapped=kept.overlapped)
            ends = before.id, after.id
            found = await self.look(lambda store: store.diff(*ends, limit=LISTED_MAX))
        except SnapshotError as error:
            return Changed(before, after, error=str(error))
        return Changed(before, after, found, kept.overlapped)

    def _recover(self) -> None:
        outcome = self._keeping.snapshots.recover()
        if outcome is not None:
            rolling.record(self._log, outcome.safety.id, "end", rolling.of_outcome(outcome))

    async def _complete(self) -> None:
        """Complete what another server left when it was killed, unless somebody is at it."""
        self._restore_lock.leave()
        with anyio.CancelScope(shield=True):
            alone = self._restore_lock.be_alone()
            try:
                if alone:
                    await anyio.to_thread.run_sync(self._recover)
            finally:
                if alone:
                    self._restore_lock.let_in()
                await self._enter()  # whoever was in leaves in the end
