"""What stands at a name: told quickly, kept for later, put away, put back.

Architecture invariant: a name is looked up in an open directory and never followed if it's a
symlink. What is kept is bounded, and says so if it isn't all.
"""

from __future__ import annotations

import _stat as stat
import marshal
import posix as os

from nono_mcp.guard.ways import DIRECTORY, encoded, enter
from nono_sandbox import private, scratch
from nono_sandbox.opath import open_up
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Print = tuple[object, ...] | None

BYTES_MAX = 16 * 1024 * 1024
"""Of one guarded name, with all beneath it: what is kept."""
ENTRIES_MAX = 2000
DEPTH_MAX = 24
PRINTED_MAX = 2000
"""Of the names beneath one: of what is more, its number and a hash stand for all of it."""
_MANY = 3
"""Where that hash is in a directory's print."""

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Kept(Value):
    """What stood at a name."""

    kind: str
    """file, directory, symlink, or other."""
    mode: int
    data: bytes = b""
    """A file's content, or a symlink's target."""
    entries: tuple[tuple[str, Kept], ...] = ()
    is_whole: bool = True
    """All of it was kept."""


class _Room:
    """How much may still be kept."""

    def __init__(self) -> None:
        self.bytes = BYTES_MAX
        self.entries = ENTRIES_MAX

    def take(self, size: int) -> bool:
        """Take *size* bytes and an entry of what is left; tell whether there was that much."""
        self.entries -= 1
        self.bytes -= size
        return self.entries >= 0 and self.bytes >= 0


class _Left:
    """How many directories may still be looked into, and how many names printed one by one."""

    def __init__(self, printed: int) -> None:
        self.entered = ENTRIES_MAX
        self.printed = printed


def look(name: str, parent: int) -> Print:
    """Return what changes whenever what stands at *name*, or beneath it, does; None if nothing."""
    return _look(name, parent, _Left(PRINTED_MAX), 0)


def _look(name: str, parent: int, left: _Left, depth: int) -> Print:
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
    own = _own(status)
    if not stat.S_ISDIR(status.st_mode):
        return own
    left.entered -= 1
    if left.entered < 0 or depth >= DEPTH_MAX:
        return own
    directory = enter(name, parent)
    try:
        beneath = _beneath(directory, left, depth)
    finally:
        os.close(directory)
    # A directory's own times change with what comes and goes in it, which is told by the rest.
    return (status.st_mode, status.st_ino, *beneath)


def _beneath(directory: int, left: _Left, depth: int) -> tuple[object, ...]:
    """Return the print of each name in the open *directory* or, of many, their number and hash."""
    found = os.listdir(directory)
    found.sort()
    prints = ((name, _look(name, directory, left, depth + 1)) for name in found)
    if len(found) <= left.printed:
        left.printed -= len(found)
        return tuple(prints)
    left.printed = 0
    # Who has less than that doesn't wait for the import.
    from hashlib import sha256

    hashed = sha256()
    one: Any
    for one in prints:
        # Version 2 says the same of equal values.
        hashed.update(marshal.dumps(one, 2))
    return len(found), hashed.digest()


def _own(status: os.stat_result) -> tuple[int, ...]:
    return (
        status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )  # fmt: skip


def is_same(found: Print, path: str) -> bool:
    """Tell whether the files are as *found* has them, where no name came, went or was moved.

    Raises:
        OSError: It can't be told.
    """
    if found is None:
        return True
    status = os.stat(path, follow_symlinks=False)
    if found == _own(status):
        return True
    if not stat.S_ISDIR(status.st_mode) or found[:2] != (status.st_mode, status.st_ino):
        return False
    if len(found) > _MANY and isinstance(found[_MANY], bytes):
        return found[2:] == _many(path)
    return all(
        isinstance(entry, tuple) and is_same(entry[1], f"{path}/{entry[0]}") for entry in found[2:]
    )


def _many(path: str) -> tuple[object, ...]:
    directory = os.open(path, DIRECTORY)
    try:
        return _beneath(directory, _Left(0), 0)
    finally:
        os.close(directory)


def keep(name: str, parent: int) -> Kept | None:
    """Return what stands at *name*, as much of it as may be kept; None if nothing does."""
    return _keep(name, parent, _Room(), 0)


def _keep(name: str, parent: int, room: _Room, depth: int) -> Kept | None:
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(encoded(name), dir_fd=parent)
            return Kept("symlink", mode, target, is_whole=room.take(len(target)))
        if stat.S_ISREG(status.st_mode):
            return _keep_file(name, parent, room, mode)
        if stat.S_ISDIR(status.st_mode):
            return _keep_directory(name, parent, room, depth, mode)
    except FileNotFoundError:
        return None
    return Kept("other", mode, is_whole=False)


def _keep_file(name: str, parent: int, room: _Room, mode: int) -> Kept:
    try:
        fd = os.open(name, READ, dir_fd=parent)
    except PermissionError:
        room.take(0)
        return Kept("file", mode, is_whole=False)
    with open(fd, "rb") as file:
        # Where a program runs it may be another file by now, or a larger one.
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return Kept("other", mode, is_whole=False)
        if not room.take(status.st_size):
            return Kept("file", mode, is_whole=False)
        data = file.read(status.st_size + 1)
    return Kept("file", mode, data, is_whole=len(data) <= status.st_size)


def _keep_directory(name: str, parent: int, room: _Room, depth: int, mode: int) -> Kept:
    if not room.take(0) or depth >= DEPTH_MAX:
        return Kept("directory", mode, is_whole=False)
    directory = enter(name, parent)
    try:
        entries = []
        for entry in sorted(os.listdir(directory)):
            kept = _keep(entry, directory, room, depth + 1)
            if kept is not None:
                entries.append((entry, kept))
            if room.entries < 0:
                break
    finally:
        os.close(directory)
    whole = room.entries >= 0 and all(kept.is_whole for _, kept in entries)
    return Kept("directory", mode, b"", tuple(entries), is_whole=whole)


def put_back(kept: Kept, name: str, parent: int) -> None:
    """Make at *name*, where nothing stands, what was kept.

    Raises:
        OSError: It can't be made; part of it may have been.
    """
    if kept.kind == "symlink":
        os.symlink(kept.data, encoded(name), dir_fd=parent)
    elif kept.kind == "file":
        with open(private.open_file(name, private.NEW, parent), "wb") as file:
            file.write(kept.data)
            os.fchmod(file.fileno(), kept.mode)
    elif kept.kind == "directory":
        private.make_directory(name, parent)
        directory = os.open(name, DIRECTORY, dir_fd=parent)
        try:
            for entry, inner in kept.entries:
                put_back(inner, entry, directory)
            os.fchmod(directory, kept.mode)
        finally:
            os.close(directory)


def put_away(name: str, parent: int, quarantine: int) -> None:
    """Move what stands at *name* into the directory *quarantine*, under the same name.

    Raises:
        OSError: It is still there.
    """
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        # To be moved, and to be looked into by the person, it must be open to us.
        open_up(name, parent)
    os.rename(name, name, src_dir_fd=parent, dst_dir_fd=quarantine)


def remove(name: str, parent: int) -> None:
    """Remove what stands at *name*, with all beneath it."""
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        scratch.remove(name, parent)
    else:
        os.unlink(name, dir_fd=parent)
