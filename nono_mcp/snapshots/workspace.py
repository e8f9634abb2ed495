"""One workspace as a store knows it: its directory, its lock, and looking at it."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nono_mcp.snapshots import database, encoding, looking, place
from nono_mcp.snapshots.difference import Comparisons
from nono_mcp.snapshots.encoding import Root
from nono_mcp.snapshots.errors import (
    BroadWorkspaceError,
    SnapshotError,
    UnrecoveredError,
    WorkspaceReplacedError,
)
from nono_mcp.snapshots.index import Index
from nono_mcp.snapshots.modes import Modes
from nono_mcp.snapshots.patterns import Patterns, literal
from nono_mcp.snapshots.scan import Scan
from nono_mcp.snapshots.trust import times_tell
from nono_mcp.snapshots.values import LISTED_MAX, Dirty, Progress, Unprotected
from nono_sandbox.opath import LOOK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nono_mcp.snapshots.marks import Mark
    from nono_mcp.snapshots.store import Store

    OnProgress = Callable[[Progress], None]

_TRIES: Final = 3


class _UnsettledError(Exception):
    """A look met a file of which it doesn't know all names."""


class Looked:
    """What a look at the workspace found."""

    __slots__ = ("bytes_total", "files_count", "generation", "root", "root_hash", "unprotected",
                 "unprotected_count")  # fmt: skip

    def __init__(
        self, root_hash: bytes, root: Root, totals: tuple[int, int, int],
        unprotected: tuple[tuple[Unprotected, ...], int],
    ) -> None:  # fmt: skip
        self.root_hash = root_hash
        self.root = root
        self.files_count, self.bytes_total, self.generation = totals
        self.unprotected, self.unprotected_count = unprotected


class Workspace:
    """A workspace that is open."""

    def __init__(
        self, store: Store, state_dir: str, path: str, exclusions: Sequence[str], *, broad: bool
    ) -> None:
        self.store = store
        self.path = path
        self.owner: str | None = None
        """Whose snapshots are taken, and seen: None is everybody's."""
        if not broad:
            _refuse_broad(path)
        self.exclusions = (*exclusions, *_own_state(state_dir, path))
        self.patterns = Patterns(self.exclusions)
        try:
            self.fd = os.open(path, LOOK | os.O_DIRECTORY)
        except OSError as error:
            raise SnapshotError(f"{path}: can't be opened as a directory: {error}") from error
        self.status = os.fstat(self.fd)
        self.times_tell = times_tell(self.fd)
        self.id = self._register()
        self.index = Index(store.db, self.id)
        self.modes = Modes(store.fd, self.id)
        self.comparisons = Comparisons(store.objects)

    def close(self) -> None:
        """Let go of the directory, if that wasn't done before."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def _register(self) -> int:
        """Return the workspace's number; what was seen of another directory there is forgotten."""
        db, path = self.store.db, os.fsencode(self.path)
        identity = (self.status.st_dev, self.status.st_ino)
        with database.writing(db):
            row = db.execute(
                "SELECT id, dev, ino FROM workspaces WHERE path = ?", (path,)
            ).fetchone()
            if row is None:
                cursor = db.execute(
                    "INSERT INTO workspaces (path, dev, ino, generation, whole, files, bytes,"
                    " rules) VALUES (?, ?, ?, 0, 1, 0, 0, '')",
                    (path, *_signed(identity)),
                )
                return cursor.lastrowid or 0
            number = int(row[0])
            if row[1:] != _signed(identity):
                Index(db, number).clear()
                db.execute(
                    "UPDATE workspaces SET dev = ?, ino = ?, files = 0, bytes = 0, links = NULL"
                    " WHERE id = ?",
                    (*_signed(identity), number),
                )
            return number

    @contextlib.contextmanager
    def held(self, *, interrupted: bool = False) -> Iterator[None]:
        """Keep others from looking at the workspace or restoring it.

        Raises:
            BusyError: Somebody has it for too long.
            WorkspaceReplacedError: The path leads elsewhere by now.
            UnrecoveredError: A restore was *interrupted* here, unless that is what is awaited.
        """
        name = f"workspace-{self.id}.lock"
        with self.store.using(), place.locked(self.store.fd, name, f"{self.path}"):
            self.check()
            self.modes.put_back(self.fd)
            if not interrupted and self.is_interrupted():
                raise UnrecoveredError(
                    f"a restore of {self.path} was interrupted; recover it first"
                )
            yield

    def is_interrupted(self) -> bool:
        """Tell whether a restore wasn't completed."""
        found = self.store.db.execute("SELECT 1 FROM restores WHERE workspace = ?", (self.id,))
        return found.fetchone() is not None

    def check(self) -> None:
        """Make sure that the path still leads to the directory that was opened.

        Raises:
            WorkspaceReplacedError: It doesn't.
        """
        try:
            found = os.stat(self.path, follow_symlinks=False)
        except OSError as error:
            raise WorkspaceReplacedError(f"{self.path}: {error.strerror}") from error
        if (found.st_dev, found.st_ino) != (self.status.st_dev, self.status.st_ino):
            raise WorkspaceReplacedError(
                f"{self.path} is another directory than when it was opened"
            )

    def look(
        self,
        dirty: Dirty | Mark | None,
        *,
        skip: bytes | None = None,
        on_progress: OnProgress | None = None,
        finish: Callable[[Looked], None] | None = None,
    ) -> Looked:
        """Look at the workspace, and store what changed; call it inside `held`.

        *finish* writes to the index what is to be there with it or not at all.

        Raises:
            WorkspaceReplacedError, OSError: What was stored so far is found the next time.
        """
        for attempt in range(_TRIES):
            try:
                told = _all_of(dirty) if attempt else dirty
                return self._look(told, skip, on_progress, finish, again=bool(attempt))
            except _UnsettledError:
                # Nothing of it was kept; the next look is at everything.
                continue
            except (WorkspaceReplacedError, PermissionError):
                # Moved, or closed by its owner, while it was open: another look finds it so.
                if attempt == _TRIES - 1:
                    raise
            except BaseException:
                self._distrust()
                raise
            self._distrust()
        raise AssertionError("unreachable")

    def _distrust(self) -> None:
        """Have the next look be a full one."""
        self.store.db.execute("UPDATE workspaces SET whole = 0 WHERE id = ?", (self.id,))

    def _look(
        self,
        dirty: Dirty | Mark | None,
        skip: bytes | None,
        on_progress: OnProgress | None,
        finish: Callable[[Looked], None] | None,
        *,
        again: bool,
    ) -> Looked:
        db, rules = self.store.db, json.dumps(self.exclusions)

        def on_looked(count: int) -> None:
            if on_progress is not None:
                on_progress(Progress("scan", count, None))

        scan = Scan(self.store.objects, self.index, self.modes, self.patterns, on_looked)
        with self.store.objects.writing():
            mark, trust = looking.where(self, dirty, rules, None if again else on_looked)
            self.index.begin()
            row = scan.run(self.fd, mark, self._save_part, trust, skip=skip)
            if not mark.rescan and not self.index.is_settled():
                # Something got another name, and no event tells in which directory the first is:
                # what is written by one of them is to be found at both.
                raise _UnsettledError
            links = self._links()
            totals = db.execute(
                "UPDATE workspaces SET whole = 1, rules = ?, generation = generation + 1,"
                " files = files + ?, bytes = bytes + ?, links = ? WHERE id = ?"
                " RETURNING files, bytes, generation",
                (rules, self.index.files_change, self.index.bytes_change, links, self.id),
            ).fetchall()[0]
            root = Root(encoding.decode_entry(row.entry), links, self.exclusions)
            root_hash = self.store.objects.put_root(encoding.encode_root(root))
            listed, count = self.index.unprotected(LISTED_MAX)
            unprotected = tuple(Unprotected(path, why) for path, why in listed)
            looked = Looked(root_hash, root, totals, (unprotected, count))
            if finish is not None:
                finish(looked)
        return looked

    def _save_part(self) -> None:
        self.store.db.execute(
            "UPDATE workspaces SET whole = 0, links = NULL, files = files + ?, bytes = bytes + ?"
            " WHERE id = ?",
            (self.index.files_change, self.index.bytes_change, self.id),
        )
        self.index.begin()
        self.index.links_change = True

    def untouchable(self) -> list[list[bytes]]:
        """Return where there is what isn't kept, and so isn't to go; sockets may."""
        return [[*self.index.components(row_id), name] for row_id, name in self.index.untouchable()]

    def _links(self) -> bytes:
        """Return the id of the hard-link groups."""
        (known,) = self.store.db.execute(
            "SELECT links FROM workspaces WHERE id = ?", (self.id,)
        ).fetchone()
        if known is not None and not self.index.links_change:
            return bytes(known)
        groups: dict[int, list[bytes]] = {}
        for row_id, name, ino in self.index.links():
            groups.setdefault(ino, []).append(self.index.path(row_id, name))
        shared = [paths for paths in groups.values() if len(paths) > 1]
        if not shared:
            return encoding.NO_ID
        return self.store.objects.put_links(encoding.encode_links(shared))


def _all_of(dirty: Dirty | Mark | None) -> Dirty | None:
    """Return everything, and what is known of it."""
    return replace(dirty, rescan=frozenset({b""})) if isinstance(dirty, Dirty) else None


def _signed(identity: tuple[int, int]) -> tuple[int, int]:
    # SQLite's integers are signed.
    dev, ino = (number - (1 << 64) if number >> 63 else number for number in identity)
    return dev, ino


def _refuse_broad(path: str) -> None:
    resolved = Path(path).resolve()
    if resolved in {Path("/"), Path.home().resolve()}:
        raise BroadWorkspaceError(f"{path} is all your files, not one workspace: say so explicitly")


def _own_state(state_dir: str, path: str) -> tuple[str, ...]:
    """Return the exclusion of our own state, where it lies in the workspace."""
    state, root = Path(state_dir).resolve(), Path(path).resolve()
    if not state.is_relative_to(root):
        return ()
    if state == root:
        raise BroadWorkspaceError(f"{path} is where nono keeps its own state")
    return ("/" + literal(os.fsencode(state.relative_to(root))),)
