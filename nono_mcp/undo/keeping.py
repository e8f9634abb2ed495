"""Keeping the workspace at a moment, with a look at no more than may have changed.

Blocking, and safe to use from several threads.

Architecture invariant: a snapshot is taken by one who has the turn, and so was told of all that
changed since the one before. What is guarded is put right before it is kept.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from nono_mcp.policy.errors import quoted
from nono_mcp.policy.paths import covers
from nono_mcp.snapshots.errors import SnapshotError, WorkspaceReplacedError
from nono_mcp.snapshots.values import Dirty, Unsure
from nono_mcp.snapshots.watch import Watcher
from nono_mcp.undo.beneath import EVERYTHING, Beneath, both
from nono_mcp.undo.in_flight import InFlight
from nono_mcp.undo.opening import broad_error, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nono_mcp.guard.action import Action
    from nono_mcp.guard.subtree_guard import SubtreeGuard
    from nono_mcp.snapshots.snapshots import Snapshots
    from nono_mcp.snapshots.values import Plan, Progress, Reason, Snapshot
    from nono_mcp.snapshots.watch import Stillness
    from nono_mcp.undo.rules import Rules
    from nono_mcp.undo.values import Kept, Wanted

    OnProgress = Callable[[Progress], None] | None

_SOON_S = 0.01
"""How long a row may wait for the call that follows, and be written with that one's."""
_NEVER = -1
"""A generation that is none."""


class Keeping:
    """The store of one workspace, and what is known of its changes since the last snapshot."""

    def __init__(
        self, rules: Rules, below: SubtreeGuard, runs_elsewhere: Callable[[], bool]
    ) -> None:
        self._rules = rules
        self._runs_elsewhere = runs_elsewhere
        """Tells whether calls of another server run in the workspace."""
        self._generation: int | None = None
        """What the last look of ours made it."""
        self._in_flight = InFlight()
        self.snapshots = _opened(rules)
        self._watcher = Watcher(rules.workspace) if rules.watched else None
        self._turn = threading.Lock()
        self._beneath = Beneath(below)
        self._ahead: Dirty | None = Dirty()
        """What was told of as changed, and isn't in a snapshot yet."""
        self._last: tuple[Stillness, Snapshot] | None = None
        self._writing: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Let go of the store."""
        if self._writing is not None:
            self._writing.cancel()
        if self._watcher is not None:
            self._watcher.close()
        self._in_flight.close()
        self.snapshots.close()

    def settle(self, rules: Rules) -> None:
        """Go by the *rules* of another policy from here on."""
        self._rules = rules
        if self._watcher is not None and not rules.watched:
            # What is written from where it can be written now may raise no event.
            self._watcher.close()
            self._watcher = None

    def still(self, path: str) -> Stillness | None:
        """Return what stays the same while nothing changes in *path*; None is unknown."""
        if self._watcher is None or not covers(self._rules.workspace, path):
            return None
        return self._watcher.still()

    def take(
        self,
        reason: Reason,
        call: str | None,
        *,
        name: str | None = None,
        on_progress: OnProgress = None,
        kept: Kept | None = None,
    ) -> Snapshot:
        """Keep the workspace as it is now; *kept* is the call that begins or ends, if one does.

        Raises:
            SnapshotError: It couldn't be.
        """
        ending = kept if reason == "after-call" else None
        beginning = None if ending is not None else kept

        def take() -> Snapshot:
            with self._turn, self._changes(ending) as dirty:
                # Before it is kept: what is put right is in no snapshot.
                self._beneath.look(dirty, ending, beginning)
                since = None if self._watcher is None else self._watcher.since
                unsure = self._unsure(ending)
                known = self._known(dirty, unsure, ending)
                taken = self.snapshots.take(
                    reason, name=name, call=call, dirty=known, progress=on_progress
                )
                self._generation = taken.generation
                self._tell_running(unsure, ending)
                self._last = None if since is None else (since, taken)
                if beginning is not None:
                    self._beneath.begin(beginning)
                return taken

        try:
            try:
                return take()
            except WorkspaceReplacedError:
                # The session has judged it anew as well.
                self._reopen()
                return take()
        except OSError as error:
            raise SnapshotError(f"the workspace can't be kept: {reason_of(error)}") from error

    def again(self, reason: Reason, call: str, kept: Kept) -> Snapshot | None:
        """Keep it without a look, if nothing has changed since the last one; else return None.

        This waits for nobody.
        """
        if not self._turn.acquire(blocking=False):
            return None
        try:
            unseen = reason == "after-call" and self._may_have_changed_unseen(kept)
            taken = None if unseen else self._again(reason, call)
            if taken is not None and reason == "before-call":
                self._beneath.begin(kept)
            return taken
        finally:
            self._turn.release()

    def _may_have_changed_unseen(self, ended: Kept) -> bool:
        # What others read while it ran is to be read again, whether it left files open or not.
        return self._left_open(ended) or bool(ended.unsure.paths) or ended.unsure.is_full

    def _left_open(self, ended: Kept) -> bool:
        # Where everything is looked at in any case, nobody has to ask. While other calls run there
        # are sockets of theirs: the last one asks.
        alone = self._watcher is not None and not self._beneath.running(ended)
        if alone and not ended.left_open:
            ended.left_open = self._in_flight.left(ended.network)
        return ended.left_open

    def _again(self, reason: Reason, call: str) -> Snapshot | None:
        if self._last is None or self.still(self._rules.workspace) != self._last[0]:
            return None
        if self._ahead != Dirty() or not self._beneath.is_still():
            return None
        # Whoever is killed before that is written leaves one of the same tree, before the call.
        later = reason == "after-call"
        taken = self.snapshots.again(self._last[1], reason, call, later=later)
        if taken is not None and not later:
            # While its call runs nobody takes that one away, to which the next will refer.
            self._last = self._last[0], taken
        return taken

    def commit(self) -> None:
        """Complete what `again` wrote before a call, while that begins.

        Should that fail, the snapshot before it has the same root.
        """
        self.snapshots.commit()

    def write_soon(self) -> None:
        """Write down what was left for later, by the loop that runs, if no call does it first."""
        if self._writing is None:
            self._writing = asyncio.get_running_loop().call_later(_SOON_S, self._write)

    def _write(self) -> None:
        self._writing = None
        if not self.snapshots.write():
            self.write_soon()

    def plan(self, wanted: Wanted, on_progress: OnProgress) -> Plan:
        """Return what a rollback would do, as all there is is found, whatever events said.

        Raises:
            SnapshotError, OSError: It can't be done.
        """
        with self._turn:
            found = self.snapshots.get(wanted.snapshot).id
            unsure = self._unsure(None)
            plan = self.snapshots.plan(
                found, scope=wanted.scope, paths=wanted.paths, leave=wanted.leave,
                progress=on_progress, dirty=Dirty(rescan=EVERYTHING, unsure=unsure),
            )  # fmt: skip
            self._tell_running(unsure, None)
            return plan

    def _unsure(self, ending: Kept | None) -> Unsure | None:
        """Return what is to be told of what is read now, if anybody may change it meanwhile."""
        alone = not self._beneath.running(ending) and not self._runs_elsewhere()
        return None if alone else Unsure()

    def _known(self, dirty: Dirty | None, unsure: Unsure | None, ending: Kept | None) -> Dirty:
        # Who looked while a call of ours ran may have read what that changed afterwards.
        generation = self._generation if self._beneath.running(None) else None
        if ending is not None and ending.unsure.is_full:
            generation = _NEVER
        if ending is not None and self._left_open(ending):
            dirty = both(dirty, None)
        dirty = Dirty(rescan=EVERYTHING) if dirty is None else dirty
        return replace(dirty, unsure=unsure, generation=generation)

    def _tell_running(self, unsure: Unsure | None, ending: Kept | None) -> None:
        if unsure is not None:
            for kept in self._beneath.running(ending):
                kept.unsure.merge(unsure)

    def end(self, kept: Kept) -> None:
        """Hold the call of *kept* responsible for nothing more, whether it was begun or not."""
        self.commit()
        self._beneath.end(kept)

    def put_right(self) -> tuple[Action, ...]:
        """Put right what calls that run have done beneath the top directory by now."""
        with self._turn:
            dirty = None if self._watcher is None else self._watcher.take()
            self._ahead = both(self._ahead, dirty)
            return self._beneath.put_right(dirty)

    def learn(self) -> tuple[Action, ...]:
        """Take all that is guarded for the person's; no call that may write runs."""
        with self._turn:
            return self._beneath.learn()

    def put_all_right(self) -> tuple[Action, ...]:
        """Put right, wherever it is, what differs from what was learnt."""
        with self._turn:
            return self._beneath.put_all_right()

    @contextmanager
    def _changes(self, ending: Kept | None) -> Iterator[Dirty | None]:
        if ending is not None:
            # It may have changed what others have read since, by a lost name or a map.
            self._ahead = both(self._ahead, Dirty(rehash=frozenset(ending.unsure.paths)))
        with nullcontext() if self._watcher is None else self._watcher.changes() as dirty:
            yield both(self._ahead, dirty)
            self._ahead = Dirty()

    def _reopen(self) -> None:
        with self._turn:
            # First, since nothing may be there now and the old one back later.
            fresh = _opened(self._rules)
            self.snapshots.close()
            self._last = None
            self.snapshots = fresh


def _opened(rules: Rules) -> Snapshots:
    remedy = "say broad = true, or enabled = false, in the policy's [snapshots]"
    if rules.is_broad and not rules.broad:
        raise broad_error(rules.workspace, remedy)
    where = rules.state_dir, rules.workspace
    store = open_store(*where, rules.section, broad=rules.broad, remedy=remedy)
    store.be_of(rules.owner)
    return store


def reason_of(error: OSError) -> str:
    """Return what the system said, and of what, for people."""
    where = f"{quoted(os.fsdecode(error.filename))}: " if error.filename else ""
    return f"{where}{(error.strerror or str(error)).lower()}"
