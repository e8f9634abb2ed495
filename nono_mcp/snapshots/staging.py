"""Preparing what a restore puts back, where a rename can bring it in (FORMAT.md section 6).

Architecture invariant: while anything can still fail for want of space, rights or whole objects,
nothing in the workspace has changed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from typing import TYPE_CHECKING, Final

from nono_mcp.snapshots import encoding, metadata
from nono_mcp.snapshots.descent import CHANGING, ENTER, Descent
from nono_mcp.snapshots.errors import DamagedStoreError, StagingError
from nono_mcp.snapshots.steps import PUT, key_of
from nono_mcp.snapshots.values import Damage, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nono_mcp.snapshots.encoding import Entry
    from nono_mcp.snapshots.objects import Objects
    from nono_mcp.snapshots.steps import Step

    OnProgress = Callable[[Progress], None]

_DAMAGE_MAX: Final = 20
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_REPORT_EVERY: Final = 128


class Staging:
    """A directory of our own for what is to be put back, beside the workspace or in its root."""

    def __init__(self, root_fd: int, name: str) -> None:
        self._root_fd = root_fd
        self.name = name
        self.inside = False
        self.fd = -1

    def make(self) -> None:
        """Make the directory: beside the workspace, or in it where that can't be.

        Raises:
            OSError: Nothing was made.
        """
        with contextlib.suppress(OSError), self._beside() as beside_fd:
            self._make_in(beside_fd)
        if self.fd < 0:
            self.inside = True
            with Descent(self._root_fd, CHANGING) as descent:
                self._make_in(descent.fd)

    def _make_in(self, dir_fd: int) -> None:
        os.mkdir(self.name, 0o700, dir_fd=dir_fd)
        self.fd = os.open(self.name, ENTER, dir_fd=dir_fd)

    @contextlib.contextmanager
    def _beside(self) -> Iterator[int]:
        """Hold the directory above the workspace, if what is there can be renamed into it."""
        fd = os.open("..", ENTER, dir_fd=self._root_fd)
        try:
            if _mount(fd) != _mount(self._root_fd):
                raise OSError("the directory above is on another mount")
            yield fd
        finally:
            os.close(fd)

    def remove(self) -> None:
        """Remove the directory and what is left in it, wherever a crash left it.

        Raises:
            OSError: Something in it can't be removed.
        """
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        with contextlib.suppress(FileNotFoundError, PermissionError):
            fd = os.open("..", ENTER, dir_fd=self._root_fd)
            try:
                self._remove_in(fd)
            finally:
                os.close(fd)
        with Descent(self._root_fd, CHANGING) as descent:
            self.inside |= self._remove_in(descent.fd)

    def _remove_in(self, dir_fd: int) -> bool:
        """Tell whether it was there."""
        try:
            fd = os.open(self.name, ENTER, dir_fd=dir_fd)
        except FileNotFoundError:
            return False
        try:
            for name in os.listdir(fd):
                os.unlink(name, dir_fd=fd)
        finally:
            os.close(fd)
        os.rmdir(self.name, dir_fd=dir_fd)
        return True

    def sync(self) -> None:
        """Wait until all that was staged survives a loss of power."""
        syncfs(self.fd)


def syncfs(fd: int) -> None:
    """Wait until the file system of *fd* has written all it holds."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):
        os.sync()
    elif libc.syncfs(fd):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _mount(fd: int) -> tuple[int, str]:
    """Return what tells mounts apart: two of one file system have one device."""
    if sys.platform != "linux":
        return os.fstat(fd).st_dev, ""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        mount = next((line for line in file if line.startswith("mnt_id:")), "")
    return os.fstat(fd).st_dev, mount


def in_place(step: Step, replaced: frozenset[bytes]) -> bool:
    """Tell whether a file's content stays, so that nothing but its metadata is set.

    *replaced* are the files with other names: to change one in place would change those too.
    """
    before, after = step.before, step.after
    if before is None or after is None or before.is_directory or step.node.key in replaced:
        return False
    return (before.kind, before.target, before.size, before.uid) == (
        after.kind, after.target, after.size, after.uid,
    )  # fmt: skip


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
        damage: list[Damage] = []
        count = 0
        for step in steps:
            if not self.needs(step) or step.after is None:
                continue
            count += 1
            if on_progress is not None and count % _REPORT_EVERY == 0:
                on_progress(Progress("stage", count, None))
            try:
                self._stage(staging.fd, step.node.key, step.after)
            except DamagedStoreError as error:
                path = os.fsdecode(step.node.path())
                damage += [Damage(each.object, each.why, (path,)) for each in error.damage]
                if len(damage) >= _DAMAGE_MAX:
                    break
            except OSError as error:
                shown = step.node.path().decode(errors="backslashreplace")
                raise StagingError(f"{shown} can't be prepared: {error.strerror}") from error
        if damage:
            raise DamagedStoreError(tuple(damage))
        return count

    def _stage(self, dir_fd: int, key: bytes, entry: Entry) -> None:
        name = key.hex()
        group = self._groups.get(key)
        if group is not None:
            leader = self._leaders.setdefault(group, name)
            if leader != name:
                os.link(leader, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd, follow_symlinks=False)
                return
        if entry.kind == encoding.SYMLINK:
            os.symlink(entry.target, name, dir_fd=dir_fd)
            metadata.apply_named(dir_fd, name, entry)
        elif entry.kind == encoding.FIFO:
            os.mkfifo(name, 0o600, dir_fd=dir_fd)
            metadata.apply_named(dir_fd, name, entry)
        else:
            self._write(dir_fd, name, entry)

    def _write(self, dir_fd: int, name: str, entry: Entry) -> None:
        fd = os.open(name, _NEW, 0o600, dir_fd=dir_fd)
        try:
            if entry.kind == encoding.FILE:
                _write_at(fd, self._objects.blob(entry.target), 0)
            else:
                size, segments = encoding.decode_map(self._objects.map(entry.target))
                os.ftruncate(fd, size)
                for segment in segments:
                    _write_at(fd, self._objects.blob(segment.id), segment.offset)
            metadata.apply(fd, entry)
        finally:
            os.close(fd)


def _write_at(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written
