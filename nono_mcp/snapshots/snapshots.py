"""A workspace's snapshots: taking, finding and comparing them, and going back.

    with Snapshots.open(state_dir, workspace) as snapshots:
        before = snapshots.take("named", name="before the upgrade")

Architecture invariant: every call is one transaction of the store under the workspace's lock; two
processes with the same workspace take turns.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Self, get_args

from nono_mcp.snapshots import rows
from nono_mcp.snapshots.difference import Comparison
from nono_mcp.snapshots.store import Store
from nono_mcp.snapshots.text import text_diff
from nono_mcp.snapshots.values import Reason
from nono_mcp.snapshots.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nono_mcp.snapshots.values import Difference, Dirty, Progress, Snapshot, TextDiff
    from nono_mcp.snapshots.workspace import Looked

    OnProgress = Callable[[Progress], None]

TEXT_BYTES_MAX = 256 << 10


class Snapshots:
    """The snapshots of one workspace. Made by `open`; may be used from any thread."""

    def __init__(self, store: Store, workspace: Workspace) -> None:
        self._store = store
        self._workspace = workspace
        self._turn = threading.Lock()

    @classmethod
    def open(
        cls,
        state_dir: str,
        workspace: str,
        *,
        exclusions: Sequence[str] = (),
        broad: bool = False,
    ) -> Self:
        """Open the store in *state_dir* for the directory *workspace*.

        *exclusions* are patterns of what isn't kept, and so never restored. *broad* allows a
        workspace that is a whole home or file system.

        Raises:
            BroadWorkspaceError: It is one, and *broad* wasn't said.
            StoreError, PatternError: Nothing was opened.
        """
        with contextlib.ExitStack() as stack:
            store = stack.enter_context(Store(state_dir))
            opened = Workspace(store, state_dir, workspace, exclusions, broad=broad)
            stack.pop_all()
        return cls(store, opened)

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
        with self._turn, self._workspace.held():
            return self._take((reason, name, call), dirty, progress)

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
            return rows.newest(self._store.db, self._workspace.id, limit)

    def get(self, prefix: str) -> Snapshot:
        """Return the snapshot whose id begins with *prefix*, or that has it as its name.

        "latest" is the newest.

        Raises:
            NoSuchSnapshotError, AmbiguousIdError: There's none, or more than one.
        """
        with self._turn:
            return self._get(prefix)

    def _get(self, prefix: str) -> Snapshot:
        return rows.find(self._store.db, self._workspace.id, prefix)

    def diff(self, a: str, b: str, *, paths: Sequence[str] = (), limit: int = 1000) -> Difference:
        """Return how *b* differs from *a*, where *paths* match if there are any.

        Raises:
            SnapshotError: One of them isn't there, or is damaged.
        """
        with self._turn, self._store.using():
            roots = [bytes.fromhex(self._get(each).root) for each in (a, b)]
            return Comparison(self._store.objects, *roots).difference(paths, limit)

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
