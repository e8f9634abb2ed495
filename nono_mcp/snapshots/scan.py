"""Looking at a workspace: what changed is read and stored, the rest is known (FORMAT.md section 5).

Architecture invariant: nothing is taken to be unchanged but what a look or the caller's `Dirty`
says, and where a look is too coarse to tell, the content is read again.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from typing import TYPE_CHECKING, Final

from nono_mcp.snapshots import encoding, statuses, visits
from nono_mcp.snapshots.descent import LISTING, Descent, OtherFileSystemError, closed_to_owner
from nono_mcp.snapshots.marks import Mark, everything
from nono_mcp.snapshots.reading import Reader, UnreadableError
from nono_mcp.snapshots.storing import Storer
from nono_mcp.snapshots.trust import Trust
from nono_mcp.snapshots.visits import Visit

if TYPE_CHECKING:
    from collections.abc import Callable

    from nono_mcp.snapshots.index import Index, Row
    from nono_mcp.snapshots.modes import Modes
    from nono_mcp.snapshots.objects import Objects
    from nono_mcp.snapshots.patterns import Patterns, State

_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()
_REPORT_EVERY: Final = 512
_ROWS_MAX: Final = 512
"""Of how many directories in one the rows are read together."""
_TYPE: Final = 0o170000
_DIRECTORY: Final = stat.S_IFDIR
_REGULAR: Final = stat.S_IFREG
_LINKED: Final = frozenset({stat.S_IFREG, stat.S_IFIFO, stat.S_IFLNK})


class Scan:
    """One look at a workspace."""

    def __init__(
        self,
        objects: Objects,
        rows: Index,
        modes: Modes,
        exclusions: Patterns,
        on_looked: Callable[[int], None],
    ) -> None:
        self._objects = objects
        self._index = rows
        self._modes = modes
        self._exclusions = exclusions
        self._on_looked = on_looked
        self._reader = Reader(objects, modes, self._path)
        self._trust = Trust()
        self._visits: list[Visit] = []
        self._skip: bytes | None = None
        self._looked_count = 0
        self._started_ns = 0
        self._everything = everything()
        """Of all that is looked at because what is above it is; nothing in it is changed."""

    def run(
        self,
        root_fd: int,
        mark: Mark,
        prepare: Callable[[], None],
        trust: Trust,
        *,
        skip: bytes | None = None,
    ) -> Row:
        """Look at what *mark* says, and return the root's row.

        The name *skip* in the root is ours. *prepare* is called before a part of a long look is
        committed.

        Raises:
            WorkspaceReplacedError: Directories are being moved about; try again.
            OSError: Something can't be read, or the store can't be written.
        """
        self._skip = skip
        self._trust = trust
        storer = Storer(self._objects, self._index, self._reader, trust)
        self._visits = []
        self._started_ns = time.time_ns()
        status = os.fstat(root_fd)
        if closed_to_owner(status, LISTING):
            self._modes.note([], status)
        with Descent(root_fd) as descent:
            known = 0, self._index.row(0, b"")
            self._begin(b"", descent, known, mark, self._exclusions.start())
            while True:
                visit = self._visits[-1]
                if visit.pending:
                    self._down(descent, visit)
                    continue
                row = storer.finish(descent, visit)
                self._visits.pop()
                if not self._visits:
                    break
                descent.up()
                above = self._visits[-1]
                above.entries[visit.name] = row.entry
                if visit.old is None or visit.old.entry != row.entry:
                    above.changed = True
                self._objects.commit_batch(prepare)
        self._modes.done()
        return row

    def _path(self) -> list[bytes]:
        return [visit.name for visit in self._visits[1:]]

    def _note(self, name: bytes, status: os.stat_result) -> None:
        self._modes.note([*self._path(), name], status)

    def _down(self, descent: Descent, visit: Visit) -> None:
        """Go into the next directory, if it is one."""
        name = visit.pending.pop()
        # Before its status is looked at: what is changed from now on has a later time.
        self._started_ns = time.time_ns()
        try:
            descent.down_forced(name, self._note)
        except OtherFileSystemError:
            visit.unprotected.append((name, "another file system"))
        except PermissionError:
            visit.unprotected.append((name, "unreadable"))
        except (FileNotFoundError, NotADirectoryError):
            if not visit.listed:
                self._list(descent, visit)
                return
            visit.stale = True
        else:
            mark = visit.mark.beneath.get(name)
            if visit.mark.rescan:
                mark = self._everything if mark is None else mark
                mark.rescan = True
            state = self._exclusions.step(visit.state, name)[1] if self._exclusions else visit.state
            old = visit.rows.pop(name, None) if visit.rows is not None else self._row(visit, name)
            self._begin(name, descent, (visit.row_id, old), mark or Mark(), state)
            return
        visit.entries[name] = None
        visit.changed = True

    def _row(self, visit: Visit, name: bytes) -> Row | None:
        return self._index.row(visit.row_id, name)

    def _begin(
        self,
        name: bytes,
        descent: Descent,
        known: tuple[int, Row | None],
        mark: Mark,
        state: State,
    ) -> None:
        parent, old = known
        status = descent.status
        if old is not None and (not old.seen or statuses.seen_ino(old.seen) != status.st_ino):
            self._index.remove(old.id)
            old = None
        if old is None:
            mark = mark if mark.beneath else self._everything
            mark.rescan = True
        row_id = old.id if old else self._index.insert(parent, name)
        visit = Visit(name, (row_id, old), mark, state, self._started_ns)
        visit.seen = visit.kept = statuses.pack_seen(status)
        if visits.racy(status, visit.started_ns):
            visit.kept = statuses.pack_seen(status, racy=True)
        self._visits.append(visit)
        if mark.rescan or mark.relist or (mark.rehash and not self._look_at(descent, visit)):
            self._list(descent, visit)
            return
        visit.pending = list(mark.beneath)
        if len(visit.pending) <= _ROWS_MAX:
            found = {name: self._row(visit, name) for name in visit.pending}
            visit.rows = {name: row for name, row in found.items() if row is not None}
            unknown = mark.beneath.keys() - visit.rows.keys()
        else:
            unknown = mark.beneath.keys() - self._index.children(row_id).keys()
        if unknown:
            # One that is named isn't known: the listing tells what it is.
            self._list(descent, visit)

    def _look_at(self, descent: Descent, visit: Visit) -> bool:
        """Look at the files that are named, and at no others; tell whether that will do."""
        # What isn't kept is known only of whole directories, and of which files others are links.
        old = visit.old
        if old is None or not old.stats or self._exclusions:
            return False
        if not self._index.is_whole(visit.row_id):
            return False
        for name in visit.mark.rehash:
            try:
                status = os.stat(name, dir_fd=descent.fd, follow_symlinks=False)
            except FileNotFoundError:
                visit.named[name] = None
                continue
            if stat.S_ISDIR(status.st_mode) or status.st_nlink > 1:
                return False
            try:
                fresh, status = self._reader.read(descent.fd, name, status)
            except (UnreadableError, FileNotFoundError):
                return False
            racy = visits.racy(status, visit.started_ns)
            packed = self._trust.kept([*self._path(), name], status, racy=racy)
            visit.named[name] = packed, encoding.encode_entry(fresh)
        return True

    def _list(self, descent: Descent, visit: Visit) -> None:
        """Look at all names in a directory."""
        visit.listed = True
        visit.named.clear()
        visit.pending, visit.rows = [], None
        packed: list[bytes] = []
        directories: list[tuple[bytes, bytes]] = []
        pack, found, directory_fd = statuses.pack_fields, visit.statuses, descent.fd
        files = size = 0
        for name in self._names(directory_fd, visit, packed):
            try:
                status = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
            except FileNotFoundError:
                visit.stale = visit.changed = True
                continue
            found[name] = status
            mode = status.st_mode
            if mode & _TYPE == _DIRECTORY:
                packed.append(statuses.pack_directory(name, status.st_ino))
                directories.append((name, packed[-1]))
            else:
                files += 1
                if mode & _TYPE == _REGULAR:
                    size += status.st_size
                if status.st_nlink > 1 and mode & _TYPE in _LINKED:
                    visit.linked[name] = status.st_ino, status.st_nlink
                # As `statuses.pack_stat` does it, of which each call would cost as much again.
                packed.append(
                    pack(
                        status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns,
                        mode, len(name),
                    ) + name
                )  # fmt: skip
            visit.packed[name] = packed[-1]
        visit.files, visit.size = files, size
        if visit.unprotected:
            packed.sort(key=visits.packed_name)
        visit.stats = b"".join(packed)
        before = self._looked_count // _REPORT_EVERY
        self._looked_count += len(packed)
        if self._looked_count // _REPORT_EVERY > before:
            self._on_looked(self._looked_count)
        if directories:
            self._choose(visit, directories)

    def _names(self, directory_fd: int, visit: Visit, packed: list[bytes]) -> list[bytes]:
        """Return the names to look at; what is left out is *packed*."""
        # What os.fsencode does, without asking each time how.
        names = [text.encode(_ENCODING, _ERRORS) for text in os.listdir(directory_fd)]
        names.sort()
        if len(self._visits) == 1 and self._skip in names:
            names.remove(self._skip)
        if not self._exclusions:
            return names
        kept = []
        for name in names:
            if self._exclusions.step(visit.state, name)[0]:
                visit.unprotected.append((name, "excluded"))
                packed.append(statuses.pack_excluded(name))
            else:
                kept.append(name)
        return kept

    def _choose(self, visit: Visit, directories: list[tuple[bytes, bytes]]) -> None:
        """Decide which of the *directories* in this one to go into."""
        if visit.mark.rescan:
            visit.pending = [name for name, _ in directories]
            if visit.old is not None and len(directories) <= _ROWS_MAX:
                visit.rows = self._index.rows(visit.row_id)
            return
        known = statuses.unpack_stats(visit.old.stats) if visit.old else {}
        visit.pending = [
            name
            for name, packed in directories
            if name in visit.mark.beneath or known.get(name) != packed
        ]
