"""What can go wrong with snapshots. Unless a class says otherwise, the workspace is as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nono_mcp.snapshots.values import Conflict, Damage


class SnapshotError(Exception):
    """The message says what happened and what to do."""


class BroadWorkspaceError(SnapshotError):
    """The workspace is a home directory or the whole file system, and nobody said yes to that."""


class WorkspaceReplacedError(SnapshotError):
    """The path no longer leads to the directory that was opened."""


class StoreError(SnapshotError):
    """The store isn't safely ours, or its index is damaged."""


class DamagedStoreError(SnapshotError):
    """Objects that are needed are missing or aren't what their names say."""

    def __init__(self, damage: tuple[Damage, ...]) -> None:
        first = damage[0]
        where = f" ({', '.join(first.paths)})" if first.paths else ""
        more = f" and {len(damage) - 1} more" if len(damage) > 1 else ""
        rest = "; what lies elsewhere can be restored by naming its paths" if first.paths else ""
        super().__init__(
            f"the store is damaged: object {first.object[:16]} {first.why}{where}{more}{rest}"
        )
        self.damage = damage


class BusyError(SnapshotError):
    """Another process has held a lock for too long."""


class NoSuchSnapshotError(SnapshotError):
    """No snapshot has this id or name."""


class AmbiguousIdError(SnapshotError):
    """More than one snapshot has an id that begins so."""


class NothingToRestoreError(SnapshotError):
    """There is nothing that a restore would change."""

    def __init__(self, message: str, kept: tuple[Conflict, ...] = ()) -> None:
        super().__init__(message)
        self.kept = kept


class StalePlanError(SnapshotError):
    """The workspace isn't as it was when the restore was planned; plan again."""


class StagingError(SnapshotError):
    """What is to be restored couldn't be prepared: no space, no permission."""


class RestoreInterruptedError(SnapshotError):
    """Applying stopped in the middle: the workspace is mixed, and `recover` completes it."""


class UnrecoveredError(SnapshotError):
    """A restore was interrupted here; `recover` first."""


class QuotaError(SnapshotError):
    """The store is full, and only snapshots that a person named could make room."""
