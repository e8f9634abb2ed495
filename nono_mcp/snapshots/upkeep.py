"""A store as a whole: verifying it, thinning it, and what it takes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from nono_mcp.snapshots import database, encoding, restore_lock
from nono_mcp.snapshots.collecting import Marking, collect
from nono_mcp.snapshots.errors import DamagedStoreError, NoSuchSnapshotError
from nono_mcp.snapshots.retention import Kept, expendable, over_quota
from nono_mcp.snapshots.steps import LEAVE, steps
from nono_mcp.snapshots.store import Store
from nono_mcp.snapshots.values import (
    Damage,
    Progress,
    Pruned,
    Retention,
    Usage,
    Verification,
    WorkspaceUsage,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    OnProgress = Callable[[Progress], None]

_PATHS_MAX: Final = 20
_REPORT_EVERY: Final = 1024
_WITHOUT_OBJECT: Final = frozenset({encoding.SYMLINK, encoding.FIFO})
_NOTHING: Final = encoding.Entry(b"", encoding.DIRECTORY, 0, 0, 0, 0, 0, b"", b"")


def usage(state_dir: str) -> Usage:
    """Return what a store takes, and for which workspaces."""
    with Store(state_dir) as store:
        db = store.db
        objects, raw = db.execute(
            "SELECT COUNT(*), COALESCE(SUM(length), 0) FROM objects"
        ).fetchone()
        found = db.execute(
            "SELECT path, COUNT(snapshots.id), COALESCE(MAX(time_ns), 0) FROM workspaces"
            " LEFT JOIN snapshots ON workspace = workspaces.id GROUP BY workspaces.id ORDER BY path"
        ).fetchall()
        workspaces = tuple(WorkspaceUsage(os.fsdecode(path), n, t) for path, n, t in found)
        total = sum(each.snapshots_count for each in workspaces)
        return Usage(_store_bytes(store), objects, raw, total, workspaces)


def _store_bytes(store: Store) -> int:
    index = os.stat(database.NAME, dir_fd=store.fd).st_size
    return index + sum(store.packs.sizes().values())


def delete(state_dir: str, snapshot_id: str) -> None:
    """Remove a snapshot, one that a person named too; pruning gives back its space.

    Raises:
        NoSuchSnapshotError: There's none of exactly this id.
    """
    with Store(state_dir) as store, database.writing(store.db):
        removed = store.db.execute("DELETE FROM snapshots WHERE id = ?", (snapshot_id,))
        if not removed.rowcount:
            raise NoSuchSnapshotError(f"no snapshot {snapshot_id!r}")


def prune(
    state_dir: str,
    retention: Retention | None = None,
    *,
    spared: str = "",
    progress: OnProgress | None = None,
) -> Pruned:
    """Remove what *retention* doesn't keep, and more, the oldest first, while it's over quota.

    The snapshot *spared* stays, as those do that a person named.

    Raises:
        DamagedStoreError: Snapshots may have been removed, but nothing that others need.
        BusyError: Somebody uses the store for too long.
    """
    retention = retention or Retention()
    with Store(state_dir) as store:
        before = _store_bytes(store)
        removed = _remove(store, expendable(_kept(store, state_dir, spared), retention))
        collect(store, progress)
        while _store_bytes(store) > retention.quota_bytes:
            more = over_quota(_kept(store, state_dir, spared))
            if not more:
                break
            # A few at a time: to find out what is needed costs more than to remove a row.
            removed += _remove(store, more[: max(1, len(more) // 4)])
            collect(store, progress)
        _shrink(store)
        after = _store_bytes(store)
        return Pruned(tuple(removed), max(0, before - after), after, after > retention.quota_bytes)


def _kept(store: Store, state_dir: str, spared: str) -> list[Kept]:
    running = {
        workspace
        for workspace, path in store.db.execute("SELECT id, path FROM workspaces").fetchall()
        if restore_lock.runs(state_dir, os.fsdecode(path))
    }
    # The safety snapshot of a restore that isn't done is what it's undone by, and one before a
    # call that isn't done what that is.
    found = store.db.execute(
        "SELECT id, workspace, time_ns, reason = 'named'"
        " OR id = ? OR id IN (SELECT safety FROM restores),"
        " reason = 'before-call' AND NOT EXISTS (SELECT 1 FROM snapshots AS after"
        " WHERE after.call = snapshots.call AND after.reason = 'after-call') FROM snapshots",
        (spared,),
    ).fetchall()
    return [
        Kept(name, workspace, time, bool(named or (is_open and workspace in running)))
        for name, workspace, time, named, is_open in found
    ]


def _remove(store: Store, snapshots: list[Kept]) -> list[str]:
    with database.writing(store.db):
        store.db.executemany("DELETE FROM snapshots WHERE id = ?", [(s.id,) for s in snapshots])
    return [snapshot.id for snapshot in snapshots]


def _shrink(store: Store) -> None:
    """Give back what the index no longer needs."""
    with store.alone():
        free, total = (
            store.db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("freelist_count", "page_count")
        )
        if free * 4 > total:
            store.db.execute("VACUUM")
        store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def verify(state_dir: str, *, progress: OnProgress | None = None) -> Verification:
    """Read and hash every object, and see that every snapshot has all it needs."""
    with Store(state_dir) as store, store.using():
        damaged = _damaged(store, progress)
        found = store.db.execute("SELECT id, root FROM snapshots ORDER BY seq").fetchall()
        snapshots = {bytes(root): str(snapshot) for snapshot, root in reversed(found)}
        for root in snapshots:
            damaged |= _missing(store, root, damaged)
        needing = {name: list[str]() for name in damaged}
        if damaged:
            for root, snapshot in snapshots.items():
                _name_files(store, root, f"{snapshot}:", needing)
        (count,) = store.db.execute("SELECT COUNT(*) FROM objects").fetchone()
        damage = tuple(
            Damage(name.hex(), why, tuple(needing[name])) for name, why in sorted(damaged.items())
        )
        return Verification(count, len(found), damage)


def _damaged(store: Store, progress: OnProgress | None) -> dict[bytes, str]:
    """Return the objects that aren't what their names say, and why."""
    damaged: dict[bytes, str] = {}
    (count,) = store.db.execute("SELECT COUNT(*) FROM objects").fetchone()
    found = store.db.execute("SELECT id FROM objects ORDER BY frame, offset")
    for number, (name,) in enumerate(found):
        if progress is not None and number % _REPORT_EVERY == 0:
            progress(Progress("verify", number, count))
        why = store.objects.why_damaged(bytes(name))
        if why is not None:
            damaged[bytes(name)] = why
    return damaged


def _missing(store: Store, root: bytes, damaged: dict[bytes, str]) -> dict[bytes, str]:
    """Return what a snapshot needs and the index doesn't know."""
    marking = Marking(store)
    found: dict[bytes, str] = {}
    try:
        marking.mark([root])
    except DamagedStoreError as error:
        found = {bytes.fromhex(each.object): each.why for each in error.damage}
    needed = marking.needed - {encoding.NO_ID}
    found |= {name: "is missing" for name in needed if not store.objects.has(name)}
    return {name: why for name, why in found.items() if name not in damaged}


def _name_files(store: Store, root: bytes, prefix: str, needing: dict[bytes, list[str]]) -> None:
    """Note which files of a snapshot need what is damaged."""

    def note(name: bytes, path: str) -> None:
        listed = needing.get(name)
        if listed is not None and len(listed) < _PATHS_MAX:
            listed.append(f"{prefix}{path}")

    note(root, "")
    try:
        top = store.objects.root(root)
        note(top.links, "")
        # What lies beneath a damaged directory isn't known any more; the directory is named.
        for step in steps(store.objects, (_NOTHING, top.entry), lost=lambda *_: None):
            if step.after is None or step.what == LEAVE or step.after.kind in _WITHOUT_OBJECT:
                continue
            path = os.fsdecode(step.node.path())
            note(step.after.target, path)
            if step.after.kind == encoding.MAPPED and step.after.target not in needing:
                _, segments = encoding.decode_map(store.objects.map(step.after.target))
                for segment in segments:
                    note(segment.id, path)
    except DamagedStoreError:
        # Without its root, or the map of one of its files, no more can be named.
        return
