"""Preparing what a restore puts back, in its staging directory (FORMAT.md section 6).

Files that are one blob are written in the order in which the store has them, many together.

Architecture invariant: while anything can still fail for want of space, rights or whole objects,
nothing in the workspace has changed.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from nono_mcp.snapshots import encoding, metadata
from nono_mcp.snapshots.errors import DamagedStoreError, StagingError
from nono_mcp.snapshots.place import write_whole
from nono_mcp.snapshots.steps import PUT, in_place, key_of
from nono_mcp.snapshots.values import Damage, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nono_mcp.snapshots.encoding import Entry
    from nono_mcp.snapshots.objects import Objects
    from nono_mcp.snapshots.staging import Staging
    from nono_mcp.snapshots.steps import Step

    OnProgress = Callable[[Progress], None]

_DAMAGE_MAX: Final = 20
_TOGETHER_MAX: Final = 2048
"""How many files at most are written in the order of the store."""
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_REPORT_EVERY: Final = 128


class Stager:
    """Writes what steps need into a staging directory."""

    def __init__(
        self, objects: Objects, groups: list[tuple[bytes, ...]], replaced: frozenset[bytes]
    ) -> None:
        self._objects = objects
        self._replaced = replaced
        self._groups: dict[bytes, int] = {}
        for number, group in enumerate(groups):
            for path in group:
                self._groups[key_of(path.split(b"/"))] = number
        self._leaders: dict[int, str] = {}
        self._fresh = metadata.Fresh()
        self._damage: list[Damage] = []

    def needs(self, step: Step) -> bool:
        """Tell whether *step* needs something prepared."""
        if step.what != PUT or step.after is None:
            return False
        return not in_place(step, self._replaced)

    def bytes_needed(self, steps: Iterator[Step]) -> int:
        """Return how much is to be prepared."""
        return sum(step.after.size for step in steps if self.needs(step) and step.after)

    def stage(self, staging: Staging, steps: Iterator[Step], on_progress: OnProgress | None) -> int:
        """Write all that *steps* need, and return how many files that is.

        Raises:
            DamagedStoreError: Some of it isn't whole; it names the files.
            StagingError: It can't be written.
        """
        self._damage = []
        count = 0
        together: list[Step] = []
        for step in steps:
            if not self.needs(step):
                continue
            count += 1
            if on_progress is not None and count % _REPORT_EVERY == 0:
                on_progress(Progress("stage", count, None))
            together.append(step)
            if len(together) >= _TOGETHER_MAX:
                self._stage(staging.fd, together)
                together = []
            if len(self._damage) >= _DAMAGE_MAX:
                break
        self._stage(staging.fd, together)
        if self._damage:
            raise DamagedStoreError(tuple(self._damage[:_DAMAGE_MAX]))
        return count

    def _stage(self, dir_fd: int, steps: list[Step]) -> None:
        """Make what *steps* need: files in the order of the store, other names of them last."""
        waiting: dict[bytes, list[Step]] = {}
        links: list[tuple[str, Step]] = []
        for step in steps:
            leader = self._leader(step)
            if step.after is None:
                continue
            if leader is not None:
                links.append((leader, step))
            elif step.after.kind == encoding.FILE:
                waiting.setdefault(step.after.target, []).append(step)
            else:
                with self._about(step):
                    self._make(dir_fd, step.node.key.hex(), step.after)
        for name, blob in self._objects.blobs(list(waiting)):
            for step in waiting[name]:
                if isinstance(blob, Damage):
                    self._note(step, blob)
                elif step.after is not None:
                    with self._about(step):
                        self._write(dir_fd, step.node.key.hex(), step.after, blob)
        for leader, step in links:
            # Of what isn't whole there is nothing to make another name of.
            with self._about(step), contextlib.suppress(*self._missing()):
                os.link(
                    leader, step.node.key.hex(), src_dir_fd=dir_fd, dst_dir_fd=dir_fd,
                    follow_symlinks=False,
                )  # fmt: skip

    def _missing(self) -> tuple[type[OSError], ...]:
        return (FileNotFoundError,) if self._damage else ()

    def _leader(self, step: Step) -> str | None:
        """Return what to make a file another name of, or None if it's the first."""
        group = self._groups.get(step.node.key)
        if group is None:
            return None
        name = step.node.key.hex()
        leader = self._leaders.setdefault(group, name)
        return None if leader == name else leader

    def _note(self, step: Step, damage: Damage) -> None:
        path = os.fsdecode(step.node.path())
        self._damage.append(Damage(damage.object, damage.why, (path,)))

    @contextlib.contextmanager
    def _about(self, step: Step) -> Iterator[None]:
        """Say of which file it is that something isn't whole or can't be made."""
        try:
            yield
        except DamagedStoreError as error:
            for each in error.damage:
                self._note(step, each)
        except OSError as error:
            shown = step.node.path().decode(errors="backslashreplace")
            raise StagingError(f"{shown} can't be prepared: {error.strerror}") from error

    def _make(self, dir_fd: int, name: str, entry: Entry) -> None:
        if entry.kind == encoding.SYMLINK:
            os.symlink(entry.target, name, dir_fd=dir_fd)
            metadata.apply_named(dir_fd, name, entry)
        elif entry.kind == encoding.FIFO:
            os.mkfifo(name, metadata.NEW_MODE, dir_fd=dir_fd)
            metadata.apply_named(dir_fd, name, entry)
        else:
            self._assemble(dir_fd, name, entry)

    def _write(self, dir_fd: int, name: str, entry: Entry, blob: bytes) -> None:
        fd = os.open(name, _NEW, metadata.NEW_MODE, dir_fd=dir_fd)
        try:
            if blob:
                write_whole(fd, blob, 0)
            self._fresh.apply(fd, entry)
        finally:
            os.close(fd)

    def _assemble(self, dir_fd: int, name: str, entry: Entry) -> None:
        """Write a file that is kept in pieces."""
        fd = os.open(name, _NEW, metadata.NEW_MODE, dir_fd=dir_fd)
        try:
            size, segments = encoding.decode_map(self._objects.map(entry.target))
            os.ftruncate(fd, size)
            for segment in segments:
                write_whole(fd, self._objects.blob(segment.id), segment.offset)
            self._fresh.apply(fd, entry)
        finally:
            os.close(fd)
