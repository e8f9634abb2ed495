"""Bringing a workspace from one tree to another, what was staged being at hand.

Architecture invariant: only what is as it was seen is removed or replaced; anything else has been
changed by somebody meanwhile, and stays. Nothing is followed, and no name is used but in a
directory that is held open. Done again from any point, it leads to the same.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from nono_mcp.snapshots import metadata, statuses
from nono_mcp.snapshots.applied import Applied
from nono_mcp.snapshots.descent import CHANGING, Descent, OtherFileSystemError
from nono_mcp.snapshots.steps import ENTER, LEAVE, Step, in_place
from nono_mcp.snapshots.values import Progress
from nono_sandbox.opath import LOOK, change_mode, reopen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nono_mcp.snapshots.encoding import Entry
    from nono_mcp.snapshots.index import Index
    from nono_mcp.snapshots.marks import Mark
    from nono_mcp.snapshots.staging import Staging

    OnProgress = Callable[[Progress], None]

_REPORT_EVERY: Final = 128
_GONE: Final = "is gone, or something else by now"
_CHANGED: Final = "was changed meanwhile"
_APPEARED: Final = "appeared meanwhile"


class _Level:
    """A directory that is being changed."""

    __slots__ = ("_index", "_stats", "mark", "row_id")

    def __init__(self, rows: Index, row_id: int | None, stats: bytes, mark: Mark) -> None:
        self._index = rows
        self._stats: dict[bytes, bytes] | bytes = stats
        self.row_id = row_id
        self.mark = mark

    def below(self, name: bytes, *, known: bool) -> _Level:
        row = self._index.row(self.row_id, name) if known and self.row_id is not None else None
        mark = self.mark.at([name])
        return _Level(self._index, row.id if row else None, row.stats if row else b"", mark)

    def seen(self, name: bytes) -> bytes | None:
        """Return what tells whether *name* is as it was."""
        if isinstance(self._stats, bytes):
            self._stats = statuses.unpack_stats(self._stats)
        return self._stats.get(name)


class Applier:
    """Does steps to a workspace."""

    def __init__(
        self,
        rows: Index,
        staging: Staging,
        replaced: frozenset[bytes],
        on_progress: OnProgress | None,
    ) -> None:
        self._index = rows
        self._staging = staging
        self._replaced = replaced
        self._on_progress = on_progress
        self._levels: list[_Level] = []
        self._skipping = 0
        self._count = 0
        self.applied = Applied()

    def run(self, root_fd: int, steps: Iterable[Step], total: int | None) -> Applied:
        """Do *steps*; what is staged is gone afterwards.

        Raises:
            OSError, WorkspaceReplacedError: Some were done.
        """
        top = self._index.row(0, b"")
        if top is None:
            raise RuntimeError("the workspace wasn't looked at")
        self._levels = [_Level(self._index, top.id, top.stats, self.applied.touched)]
        with Descent(root_fd, CHANGING) as descent:
            for step in steps:
                self._count += 1
                if self._on_progress is not None and self._count % _REPORT_EVERY == 0:
                    self._on_progress(Progress("apply", self._count, total))
                if self._skipping:
                    self._skip(step)
                elif step.what == ENTER:
                    self._enter(descent, step)
                elif step.what == LEAVE:
                    self._leave(descent, step)
                else:
                    self._put(descent, step)
        return self.applied

    def _skip(self, step: Step) -> None:
        if step.what == ENTER:
            self._skipping += 1
        elif step.what == LEAVE:
            self._skipping -= 1

    def _enter(self, descent: Descent, step: Step) -> None:
        if step.node.above is None:
            return
        name, before = step.node.name, step.before
        known = before is not None and before.is_directory
        why = None
        if not known:
            why = self._clear(descent, step)
            if why is None:
                os.mkdir(name, 0o700, dir_fd=descent.fd)
        if why is None:
            try:
                descent.down_forced(name, lambda *_: None)
            except OtherFileSystemError:
                why = "another file system"
            except (FileNotFoundError, NotADirectoryError):
                why = _GONE
        if why is not None:
            self.applied.left(step, why)
            self._skipping = 1
            return
        self._levels[-1].mark.relist = True
        self._levels.append(self._levels[-1].below(name, known=known))

    def _leave(self, descent: Descent, step: Step) -> None:
        after = step.after
        level = self._levels.pop()
        level.mark.relist = True
        if not self._levels:
            self._staging.remove()
        if after is None or not after.is_directory:
            descent.up()
            self._remove_directory(descent, step)
            return
        before = step.before
        same = before is not None and before.is_directory
        if before is None or not same or _but_for_time(before) != _but_for_time(after):
            same = False
            self.applied.done(step)
        self._set_directory(descent, after, same=same)
        if self._levels:
            descent.up()

    def _set_directory(self, descent: Descent, after: Entry, *, same: bool) -> None:
        """Give the directory its times, and, where that isn't the *same* already, all the rest."""
        found = descent.status
        if same and (found.st_uid, found.st_gid) == (after.uid, after.gid):
            os.utime(descent.fd, ns=(found.st_atime_ns, after.mtime_ns))
            if self._levels and stat.S_IMODE(found.st_mode) == after.mode:
                return
        else:
            metadata.apply(descent.fd, after, mode=False)
        if not self._levels:
            os.fchmod(descent.fd, after.mode)
        descent.leave_mode(after.mode)

    def _remove_directory(self, descent: Descent, step: Step) -> None:
        name = step.node.name
        try:
            try:
                os.rmdir(name, dir_fd=descent.fd)
            except OSError as error:
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                    raise
                self._remove_sockets(descent, name)
                os.rmdir(name, dir_fd=descent.fd)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR}:
                raise
            self.applied.left(step, "holds what the snapshot before this doesn't")
        else:
            if step.after is None:
                self.applied.done(step)

    def _remove_sockets(self, descent: Descent, name: bytes) -> None:
        """Remove sockets that are left over: whoever listened on them is gone."""
        descent.down_forced(name, lambda *_: None)
        for entry in os.listdir(descent.fd):
            found = os.stat(entry, dir_fd=descent.fd, follow_symlinks=False)
            if stat.S_ISSOCK(found.st_mode):
                os.unlink(entry, dir_fd=descent.fd)
        descent.up()

    def _clear(self, descent: Descent, step: Step) -> str | None:
        """Remove what is where something else comes; return why that can't be."""
        before = step.before
        name = step.node.name
        try:
            found = os.stat(name, dir_fd=descent.fd, follow_symlinks=False)
        except FileNotFoundError:
            # Whoever removed it did what was to be done.
            return None
        if before is None or before.is_directory:
            return _APPEARED
        if not self._unchanged(step, found):
            return _CHANGED
        os.unlink(name, dir_fd=descent.fd)
        return None

    def _unchanged(self, step: Step, found: os.stat_result) -> bool:
        seen = self._levels[-1].seen(step.node.name)
        # To remove one name of a file changes the ctime that its others show.
        ctime = step.node.key not in self._replaced
        return seen is not None and statuses.matches(seen, found, ctime=ctime)

    def _put(self, descent: Descent, step: Step) -> None:
        self._levels[-1].mark.relist = True
        name, after = step.node.name, step.after
        if after is not None and in_place(step, self._replaced):
            why = self._set(descent, step)
        elif after is None:
            why = self._clear(descent, step)
        else:
            why = self._bring(descent, step)
        if why is not None:
            self.applied.left(step, why)
            return
        self._levels[-1].mark.rehash.add(name)
        self.applied.done(step)

    def _bring(self, descent: Descent, step: Step) -> str | None:
        """Rename into its place what was staged; return why that can't be."""
        name = step.node.name
        try:
            found = os.stat(name, dir_fd=descent.fd, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            if step.before is None or step.before.is_directory:
                return _APPEARED
            if not self._unchanged(step, found):
                return _CHANGED
        os.rename(step.node.key.hex(), name, src_dir_fd=self._staging.fd, dst_dir_fd=descent.fd)
        return None

    def _set(self, descent: Descent, step: Step) -> str | None:
        """Set what is said of a file whose content stays; return why that can't be."""
        name, after = step.node.name, step.after
        if after is None:
            raise RuntimeError("nothing is set of what isn't to be")
        try:
            fd = os.open(name, LOOK, dir_fd=descent.fd)
        except FileNotFoundError:
            return _GONE
        try:
            found = os.fstat(fd)
            if not self._unchanged(step, found):
                return _CHANGED
            if not stat.S_ISREG(found.st_mode):
                metadata.apply_named(descent.fd, name, after)
                return None
            change_mode(fd, 0o600)
            # Never for writing: a program that runs couldn't be opened.
            opened = reopen(fd, os.O_RDONLY)
            try:
                metadata.apply(opened, after)
            finally:
                os.close(opened)
        finally:
            os.close(fd)
        return None


def _but_for_time(directory: Entry) -> Entry:
    return directory._replace(target=b"", mtime_ns=0)
