"""A workspace's snapshots: taking, finding and comparing them, and going back.

    with Snapshots.open(state_dir, workspace) as snapshots:
        before = snapshots.take("named", name="before the upgrade")

Architecture invariant: every call is one transaction of the store under the workspace's lock; two
processes with the same workspace take turns.
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Self, TypeVar, get_args

from nono_mcp.snapshots import answers, restoring, rows, upkeep
from nono_mcp.snapshots.errors import (
    NothingToRestoreError,
    QuotaError,
    SnapshotError,
    StalePlanError,
)
from nono_mcp.snapshots.planning import NOTHING, Planning, check_scope
from nono_mcp.snapshots.repeating import Repeating
from nono_mcp.snapshots.store import Store
from nono_mcp.snapshots.text import text_diff
from nono_mcp.snapshots.values import Outcome, Plan, Reason, Retention, Scope
from nono_mcp.snapshots.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nono_mcp.snapshots.values import Difference, Dirty, Progress, Snapshot, TextDiff
    from nono_mcp.snapshots.workspace import Looked

    OnProgress = Callable[[Progress], None]

_Result = TypeVar("_Result")
TEXT_BYTES_MAX = 256 << 10


class Snapshots:
    """The snapshots of one workspace. Made by `open`; may be used from any thread."""

    def __init__(self, store: Store, workspace: Workspace, state_dir: str, keep: Retention) -> None:
        self._store = store
        self._workspace = workspace
        self._state_dir = state_dir
        self._keep = keep
        store.packs.quota_bytes = keep.quota_bytes
        self._turn = Repeating(workspace)
        self.write = self._turn.write
        self.commit = self._turn.commit
        self.is_interrupted = self._turn.is_interrupted

    @classmethod
    def open(
        cls,
        state_dir: str,
        workspace: str,
        *,
        exclusions: Sequence[str] = (),
        broad: bool = False,
        keep: Retention | None = None,
    ) -> Self:
        """Open the store in *state_dir* for the directory *workspace*.

        *exclusions* are patterns of what isn't kept, and so never restored. *broad* allows a
        workspace that is a whole home or file system. *keep* says what goes once the store is full.

        Raises:
            BroadWorkspaceError: It is one, and *broad* wasn't said.
            StoreError, PatternError: Nothing was opened.
        """
        with contextlib.ExitStack() as stack:
            store = stack.enter_context(Store(state_dir))
            opened = Workspace(store, state_dir, workspace, exclusions, broad=broad)
            stack.pop_all()
        return cls(store, opened, state_dir, keep or Retention())

    def be_of(self, owner: str | None) -> None:
        """Take snapshots as *owner*, who sees their own, and others' by their whole id alone."""
        self._workspace.owner = owner

    def close(self) -> None:
        """Let go of the store and the workspace."""
        with self._turn:
            self._workspace.close()
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(
        self,
        reason: Reason,
        *,
        name: str | None = None,
        call: str | None = None,
        dirty: Dirty | None = None,
        progress: OnProgress | None = None,
    ) -> Snapshot:
        """Keep the workspace as it is.

        Raises:
            SnapshotError, OSError: There's no new snapshot.
        """
        if reason not in get_args(Reason):
            raise ValueError(f"{reason!r} is no reason for a snapshot")
        if name is not None and not rows.is_text(name):
            raise SnapshotError("a snapshot's name has to be text")
        with self._turn:
            return self._within_quota(lambda: self._take((reason, name, call), dirty, progress))

    def again(
        self, last: Snapshot, reason: Reason, call: str, *, later: bool = False
    ) -> Snapshot | None:
        """Write down that the workspace is as it is in *last*, of which the caller is sure.

        None if that needs a look, or a wait: then `take` it. *later* is with `write`, or the next;
        otherwise `commit` follows, for which others wait.
        """
        if not self._turn.try_turn():
            return None
        try:
            say = self._turn.later if later else self._turn.again
            return say(last, reason, call) if self._store.is_there() else None
        finally:
            self._turn.leave_turn()

    def _within_quota(self, act: Callable[[], _Result], spared: str = "") -> _Result:
        """Do *act*, once more after pruning of all but *spared* if the store is full.

        Raises:
            QuotaError: It's full of what a person named.
        """
        try:
            with self._workspace.held():
                return act()
        except QuotaError:
            # To what a quarter of it is free of, so that it isn't full again at once.
            room = replace(self._keep, quota_bytes=self._keep.quota_bytes * 3 // 4)
            upkeep.prune(self._state_dir, room, spared=spared)
        with self._workspace.held():
            return act()

    def _take(
        self,
        why: tuple[Reason, str | None, str | None],
        dirty: Dirty | None,
        progress: OnProgress | None,
    ) -> Snapshot:
        taken: list[Snapshot] = []

        def finish(looked: Looked) -> None:
            taken.append(rows.insert(self._store.db, self._workspace, looked, why))

        self._workspace.look(dirty, on_progress=progress, finish=finish)
        return taken[0]

    def list(self, *, limit: int | None = None) -> tuple[Snapshot, ...]:
        """Return the snapshots, the newest first."""
        with self._turn:
            return rows.newest(self._workspace, limit)

    def get(self, prefix: str) -> Snapshot:
        """Return the snapshot whose id begins with *prefix*, or that has it as its name.

        "latest" is the newest.

        Raises:
            NoSuchSnapshotError, AmbiguousIdError: There's none, or more than one.
        """
        with self._turn:
            return self._get(prefix)

    def recover(self, *, progress: OnProgress | None = None) -> Outcome | None:
        """Complete a restore that was interrupted, or undo it if nothing was changed yet.

        Call it once after `open`. None: there was none, or the workspace is as before it.

        Raises:
            SnapshotError: It's as interrupted as before.
        """
        with self._turn, self._workspace.held(interrupted=True):
            found = restoring.recover(self._workspace, progress)
        return None if found is None else answers.outcome(*found, (), ())

    def plan(  # noqa: PLR0913 - by name, most of them
        self,
        snapshot_id: str,
        *,
        scope: Scope = "everything",
        paths: Sequence[str] = (),
        leave: Sequence[bytes] = (),
        dirty: Dirty | None = None,
        progress: OnProgress | None = None,
    ) -> Plan:
        """Return what restoring a snapshot would do; the workspace is only looked at.

        What is at the paths *leave* stays as it is.

        Raises:
            SnapshotError, OSError, PatternError: There's no plan.
        """
        check_scope(scope, paths)

        with self._turn:
            snapshot = self._get(snapshot_id)
            planning = Planning(self._workspace, (snapshot, scope, paths), leave)
            act = functools.partial(planning.plan, dirty, progress)
            return self._within_quota(act, snapshot.id)

    def restore(
        self,
        plan: Plan,
        *,
        dirty: Callable[[], Dirty | None] | None = None,
        progress: OnProgress | None = None,
    ) -> Outcome:
        """Do what *plan* says, after a snapshot of what is there now.

        *dirty* is asked before that and again when all is done. No worker may be alive.

        Raises:
            NothingToRestoreError: There's nothing to do.
            StalePlanError, DamagedStoreError, StagingError: The workspace is as it was.
            RestoreInterruptedError: It's mixed, and `recover` goes on.
        """
        if plan.nothing:
            raise NothingToRestoreError(NOTHING, plan.kept)

        def check(now: Plan) -> None:
            if (now.current_root, now.target_root) != (plan.current_root, plan.target_root):
                raise StalePlanError("the workspace changed since the plan; plan again")

        planning = Planning(self._workspace, (plan.snapshot, plan.scope, plan.paths))
        with self._turn:
            act = functools.partial(planning.roll_back, check, dirty, progress)
            return self._within_quota(act, plan.snapshot.id)

    def roll_back(  # noqa: PLR0913 - by name, most of them
        self,
        snapshot_id: str,
        *,
        scope: Scope = "everything",
        paths: Sequence[str] = (),
        leave: Sequence[bytes] = (),
        begin: Callable[[Plan], None],
        progress: OnProgress | None = None,
    ) -> Outcome:
        """Plan and restore in one, with one look at what is there now for both.

        *begin* hears the plan before anything is changed, and may raise.

        Raises:
            NothingToRestoreError: There's nothing to do.
            DamagedStoreError, StagingError: The workspace is as it was; so it is where *begin*
                raised.
            RestoreInterruptedError: It's mixed, and `recover` goes on.
        """
        check_scope(scope, paths)
        with self._turn:
            snapshot = self._get(snapshot_id)
            planning = Planning(self._workspace, (snapshot, scope, paths), leave)
            act = functools.partial(planning.roll_back, begin, None, progress)
            return self._within_quota(act, snapshot.id)

    def _get(self, prefix: str) -> Snapshot:
        return rows.find(self._workspace, prefix)

    def diff(self, a: str, b: str, *, paths: Sequence[str] = (), limit: int = 1000) -> Difference:
        """Return how *b* differs from *a*, where *paths* match if there are any.

        Raises:
            SnapshotError: One of them isn't there, or is damaged.
        """
        with self._turn, self._store.using():
            roots = [bytes.fromhex(self._get(each).root) for each in (a, b)]
            return self._workspace.comparisons.of(*roots).difference(paths, limit)

    def text_diff(
        self, a: str, b: str, path: bytes, *, context: int = 3, bytes_max: int = TEXT_BYTES_MAX
    ) -> TextDiff:
        """Return how the file at *path* differs, as text.

        Raises:
            SnapshotError: A snapshot isn't there, or is damaged.
            FileNotFoundError: Neither has the file.
        """
        with self._turn, self._store.using():
            roots = [bytes.fromhex(self._get(each).root) for each in (a, b)]
            return text_diff(self._store.objects, roots, path, context, bytes_max)
