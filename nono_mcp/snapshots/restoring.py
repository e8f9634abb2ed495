"""Restoring: planned, prepared, applied, looked at, done (FORMAT.md section 6).

Architecture invariant: from the moment the workspace changes until it's done, the index says where
it was to lead; who finds that goes there.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Final, NamedTuple

from nono_mcp.snapshots import database, encoding, metadata, rows
from nono_mcp.snapshots.applied import Applied
from nono_mcp.snapshots.applying import Applier
from nono_mcp.snapshots.descent import CHANGING, Descent
from nono_mcp.snapshots.difference import Comparison
from nono_mcp.snapshots.errors import (
    RestoreInterruptedError,
    SnapshotError,
    StagingError,
)
from nono_mcp.snapshots.fixed import fixed
from nono_mcp.snapshots.patterns import Patterns
from nono_mcp.snapshots.preparing import Stager
from nono_mcp.snapshots.staging import Staging, syncfs
from nono_mcp.snapshots.steps import key_of
from nono_mcp.snapshots.values import LISTED_MAX, Conflict, Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from nono_mcp.snapshots.marks import Mark
    from nono_mcp.snapshots.values import Snapshot
    from nono_mcp.snapshots.workspace import Looked, Workspace

    OnProgress = Callable[[Progress], None]

STAGE: Final = "stage"
"""The phase in which nothing has changed yet."""
APPLY: Final = "apply"
"""The phase in which it has, or may have."""
_NAME_BYTES: Final = 8


class Journal(NamedTuple):
    """What the index says of a restore that isn't done."""

    current: bytes
    target: bytes
    safety: str
    staging: str
    phase: str


class Restored(NamedTuple):
    """What came of a restore."""

    applied: Applied
    root: str
    verified: bool


def journal(workspace: Workspace) -> Journal | None:
    """Return what is written of a restore of *workspace* that isn't done."""
    row = workspace.store.db.execute(
        "SELECT current, target, safety, staging, phase FROM restores WHERE workspace = ?",
        (workspace.id,),
    ).fetchone()
    return None if row is None else Journal(*row)


class Restore:
    """One restore of a workspace; all of it happens inside `held`."""

    def __init__(
        self, workspace: Workspace, current: bytes, target: bytes, on_progress: OnProgress | None
    ) -> None:
        self._workspace = workspace
        self._objects = workspace.store.objects
        self._comparison = workspace.comparisons.of(current, target)
        self._current, self._target = current, target
        self._on_progress = on_progress
        self._bytes_needed: int | None = None
        self._replaced = self._with_other_names()
        links = encoding.decode_links(self._objects.links(self._comparison.after.links))
        self._stager = Stager(self._objects, links, self._replaced)

    def _with_other_names(self) -> frozenset[bytes]:
        """Return the keys of files that have more names than one, or will."""
        keys = {
            key_of([*self._workspace.index.components(row_id), name])
            for row_id, name, _ in self._workspace.index.links()
        }
        return frozenset(keys | self._comparison.relinked.keys)

    @property
    def bytes_needed(self) -> int:
        """Return how much has to be staged."""
        if self._bytes_needed is None:
            self._bytes_needed = self._stager.bytes_needed(self._comparison.steps())
        return self._bytes_needed

    def run(
        self,
        safety: Snapshot,
        dirty: Callable[[], Mark | None] | None = None,
        *,
        again: bool = False,
    ) -> Restored:
        """Restore; *again* after it was interrupted, when the workspace is mixed already.

        Raises:
            DamagedStoreError, StagingError: The workspace is as it was.
            RestoreInterruptedError: It's mixed; `recover` goes on.
        """
        staging = Staging(self._workspace.fd, f".nono-restore-{os.urandom(_NAME_BYTES).hex()}")
        phase = APPLY if again else STAGE
        self._write_journal(Journal(self._current, self._target, safety.id, staging.name, phase))
        try:
            staged_count = self._prepare(staging)
        except BaseException:
            if again:
                staging.remove()
            else:
                undo(self._workspace, staging, self._comparison.before.entry)
            raise
        self._set_phase(APPLY)
        try:
            applier = Applier(self._workspace.index, staging, self._replaced, self._on_progress)
            with database.reading(self._workspace.store.db):
                steps = self._comparison.steps_to_do()
                applied = applier.run(self._workspace.fd, steps, staged_count or None)
            return self._verify(applied, dirty)
        except (OSError, sqlite3.Error, SnapshotError) as error:
            raise RestoreInterruptedError(
                f"the restore stopped in the middle ({error}); it goes on when it's recovered"
            ) from error

    def _prepare(self, staging: Staging) -> int:
        self._check_changeable()
        try:
            staging.make()
            self._check_space(staging)
            with database.reading(self._workspace.store.db):
                steps = self._comparison.steps()
                count = self._stager.stage(staging, steps, self._on_progress)
            staging.sync()
            store_fd = self._workspace.store.fd
            if os.fstat(store_fd).st_dev != os.fstat(staging.fd).st_dev:
                syncfs(store_fd)
        except OSError as error:
            raise StagingError(f"a restore can't be prepared: {error}") from error
        return count

    def _check_changeable(self) -> None:
        with database.reading(self._workspace.store.db):
            path = fixed(self._workspace.fd, self._comparison.steps(), self._replaced)
        if path is not None:
            shown = path.decode(errors="backslashreplace") or "the workspace itself"
            raise StagingError(f"{shown} can't be changed by anybody: chattr -i -a it first")

    def _check_space(self, staging: Staging) -> None:
        found = os.fstatvfs(staging.fd)
        free, needed = found.f_bavail * found.f_frsize, self.bytes_needed
        if needed > free:
            raise StagingError(f"a restore needs {needed} bytes, and {free} are free")

    def _write_journal(self, entry: Journal) -> None:
        with database.durable(self._workspace.store.db):
            self._workspace.store.db.execute(
                "INSERT OR REPLACE INTO restores"
                " (workspace, current, target, safety, staging, phase) VALUES (?, ?, ?, ?, ?, ?)",
                (self._workspace.id, *entry),
            )

    def _set_phase(self, phase: str) -> None:
        with database.durable(self._workspace.store.db):
            self._workspace.store.db.execute(
                "UPDATE restores SET phase = ? WHERE workspace = ?", (phase, self._workspace.id)
            )

    def _verify(self, applied: Applied, dirty: Callable[[], Mark | None] | None) -> Restored:
        if self._on_progress is not None:
            self._on_progress(Progress("verify", 0, None))
        mark = dirty() if dirty is not None else None
        if mark is not None:
            mark.merge(applied.touched)
        with self._workspace.store.packs.unbounded():
            looked = self._workspace.look(mark, finish=self._finish)
        verified = looked.root_hash == self._target
        if not verified:
            self._explain(looked, applied)
        return Restored(applied, looked.root_hash.hex(), verified)

    def _finish(self, _: Looked) -> None:
        self._workspace.store.db.execute(
            "DELETE FROM restores WHERE workspace = ?", (self._workspace.id,)
        )

    def _explain(self, looked: Looked, applied: Applied) -> None:
        """List what isn't as planned, beside what was seen on the way."""
        known = {conflict.path for conflict in applied.conflicts}
        comparison = Comparison(self._objects, looked.root_hash, self._target)
        for step, _ in comparison.changes(Patterns(())):
            if len(applied.conflicts) >= LISTED_MAX:
                return
            path = step.node.path()
            if path not in known:
                applied.conflicts.append(Conflict(path, "isn't as planned: changed meanwhile"))
        if not applied.conflicts:
            applied.conflicts.append(Conflict(b"", "times of directories changed meanwhile"))


def undo(workspace: Workspace, staging: Staging, root: encoding.Entry) -> None:
    """Leave no trace of what was only prepared."""
    staging.remove()
    if staging.inside:
        # The root's time is all that it changed.
        with Descent(workspace.fd, CHANGING) as descent:
            metadata.apply(descent.fd, root, mode=False)
    _forget(workspace)


def recover(
    workspace: Workspace, on_progress: OnProgress | None
) -> tuple[Snapshot, Restored] | None:
    """Complete or undo a restore that was interrupted; call it inside `held`.

    Raises:
        SnapshotError: It's as interrupted as before.
    """
    found = journal(workspace)
    if found is None:
        return None
    staging = Staging(workspace.fd, found.staging)
    objects = workspace.store.objects
    if found.phase == STAGE:
        undo(workspace, staging, objects.root(found.current).entry)
        return None
    staging.remove()
    safety = rows.find(workspace, found.safety)
    why: rows.Why = ("safety", None, None)
    # What somebody did since then is in a snapshot before it's undone.
    looked = workspace.look(
        None, finish=lambda looked: rows.insert_if_new(workspace, looked, why, found.target)
    )
    if looked.root_hash == found.target:
        _forget(workspace)
        return safety, Restored(Applied(), looked.root_hash.hex(), verified=True)
    restore = Restore(workspace, looked.root_hash, found.target, on_progress)
    return safety, restore.run(safety, again=True)


def _forget(workspace: Workspace) -> None:
    with database.durable(workspace.store.db):
        workspace.store.db.execute("DELETE FROM restores WHERE workspace = ?", (workspace.id,))
