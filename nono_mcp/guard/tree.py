"""What stands at a name: told quickly, kept for later, put away, put back.

Architecture invariant: a name is looked up in an open directory and never followed if it's a
symlink. What is kept is bounded, and says so if it isn't all.
"""

from __future__ import annotations

import os
import stat

from nono_sandbox import scratch
from nono_sandbox.look import open_up
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    Print = tuple[object, ...] | None

BYTES_MAX = 4 * 1024 * 1024
"""Of one guarded name, with all beneath it: what is kept."""
ENTRIES_MAX = 2000
DEPTH_MAX = 24

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


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


def enter(name: str, parent: int) -> int:
    """Open the directory *name*, which is made accessible to us if a worker had it shut.

    Raises:
        OSError: It is no directory, or not ours.
    """
    return entered(name, parent)[0]


def entered(name: str, parent: int) -> tuple[int, int | None]:
    """Open the directory *name*, and return the mode that it was shut by, or None.

    Whoever leaves no trace gives it that mode again, once done with all beneath it.

    Raises:
        OSError: It is no directory, or not ours.
    """
    try:
        return _open(name, parent), None
    except PermissionError:
        mode = stat.S_IMODE(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
        open_up(name, parent)
        return _open(name, parent), mode


def _open(name: str, parent: int) -> int:
    """Open the directory *name*, if what is in it can be both listed and looked up."""
    fd = os.open(name, DIRECTORY, dir_fd=parent)
    try:
        os.stat(".", dir_fd=fd)
    except OSError:
        os.close(fd)
        raise
    return fd


def shut_again(directory: int, mode: int | None) -> None:
    """Give the open *directory* back the *mode* that it was shut by, if it was."""
    try:
        if mode is not None:
            os.fchmod(directory, mode)
    except OSError:
        return  # then it stays open, to its owner alone


class Writable:
    """Names in the open *directory* come and go by our hand, if a worker had it shut to that."""

    def __init__(self, directory: int) -> None:
        self._directory = directory
        self._mode: int | None = None

    def __enter__(self) -> None:
        status = os.fstat(self._directory)
        mode = stat.S_IMODE(status.st_mode)
        if not mode & stat.S_IWUSR and status.st_uid == os.geteuid():
            os.fchmod(self._directory, mode | stat.S_IRWXU)
            self._mode = mode

    def __exit__(self, *_: object) -> None:
        shut_again(self._directory, self._mode)


def beneath(directory: tuple[str, ...], root: int, *, entering: bool = True) -> int | None:
    """Open a directory beneath the open *root*, or return None if there is none.

    Directories on the way that were shut are opened up, unless *entering* is false.
    """
    fd = os.dup(root)
    for name in directory:
        try:
            below = enter(name, fd) if entering else os.open(name, DIRECTORY, dir_fd=fd)
        except OSError:
            return None
        finally:
            os.close(fd)
        fd = below
    return fd


def is_there(name: str, parent: int) -> bool:
    """Tell whether something stands at *name*, be it a symlink that leads nowhere."""
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def is_absent(parts: tuple[str, ...], root: int) -> bool:
    """Tell whether nothing is at *parts* beneath the open *root*, nor a symlink on the way."""
    for depth, name in enumerate(parts):
        fd = beneath(parts[:depth], root, entering=False)
        if fd is None:
            return False
        try:
            if not is_there(name, fd):
                return True
        finally:
            os.close(fd)
    return False


def look(name: str, parent: int) -> Print:
    """Return what changes whenever what stands at *name*, or beneath it, does; None if nothing."""
    return _look(name, parent, [ENTRIES_MAX], 0)


def _look(name: str, parent: int, left: list[int], depth: int) -> Print:
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
    mode = status.st_mode
    own = _own(status)
    if not stat.S_ISDIR(mode):
        return own
    left[0] -= 1
    if left[0] < 0 or depth >= DEPTH_MAX:
        return own
    directory = enter(name, parent)
    try:
        beneath = [
            (entry, _look(entry, directory, left, depth + 1))
            for entry in sorted(os.listdir(directory))
        ]
    finally:
        os.close(directory)
    # A directory's own times change with what comes and goes in it, which is told by the rest.
    return (mode, status.st_ino, *beneath)


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
    return all(
        isinstance(entry, tuple) and is_same(entry[1], f"{path}/{entry[0]}") for entry in found[2:]
    )


def keep(name: str, parent: int) -> Kept | None:
    """Return what stands at *name*, as much of it as may be kept; None if nothing does."""
    return _keep(name, parent, _Room(), 0)


def _keep(name: str, parent: int, room: _Room, depth: int) -> Kept | None:
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(os.fsencode(name), dir_fd=parent)
            return Kept("symlink", mode, target, is_whole=room.take(len(target)))
        if stat.S_ISREG(status.st_mode):
            return _keep_file(name, parent, room, status)
        if stat.S_ISDIR(status.st_mode):
            return _keep_directory(name, parent, room, depth, mode)
    except FileNotFoundError:
        return None
    return Kept("other", mode, is_whole=False)


def _keep_file(name: str, parent: int, room: _Room, status: os.stat_result) -> Kept:
    mode = stat.S_IMODE(status.st_mode)
    if not room.take(status.st_size):
        return Kept("file", mode, is_whole=False)
    try:
        fd = os.open(name, _READ, dir_fd=parent)
    except PermissionError:
        return Kept("file", mode, is_whole=False)
    with open(fd, "rb") as file:
        data = file.read(BYTES_MAX + 1)
    return Kept("file", mode, data, is_whole=len(data) <= BYTES_MAX)


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
        os.symlink(kept.data, os.fsencode(name), dir_fd=parent)
    elif kept.kind == "file":
        with open(os.open(name, _NEW, 0o600, dir_fd=parent), "wb") as file:
            file.write(kept.data)
            os.fchmod(file.fileno(), kept.mode)
    elif kept.kind == "directory":
        os.mkdir(name, 0o700, dir_fd=parent)
        directory = os.open(name, DIRECTORY, dir_fd=parent)
        try:
            for entry, inner in kept.entries:
                put_back(inner, entry, directory)
            os.fchmod(directory, kept.mode)
        finally:
            os.close(directory)


def put_away(name: str, parent: int, quarantine: int) -> None:
    """Move what stands at *name* into the directory *quarantine*, under the same name.

    Where that is on another file system, as much of it as may be kept is copied there.

    Raises:
        OSError: It is still there.
    """
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        # To be moved, and to be looked into by the person, it must be open to us.
        open_up(name, parent)
    try:
        os.rename(name, name, src_dir_fd=parent, dst_dir_fd=quarantine)
    except OSError:
        # EXDEV, or a mount on the way: there it can only be copied.
        kept = keep(name, parent)
        if kept is not None and kept.kind != "other":
            put_back(kept, name, quarantine)
        remove(name, parent)


def remove(name: str, parent: int) -> None:
    """Remove what stands at *name*, with all beneath it."""
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        scratch.remove(name, parent)
    else:
        os.unlink(name, dir_fd=parent)
