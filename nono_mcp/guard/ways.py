"""Ways to a directory in a hostile tree: by descriptors, opened up where a worker had one shut.

Architecture invariant: no symlink is followed, and no directory is opened up that isn't ours.
"""

from __future__ import annotations

import _stat as stat
import posix as os
import sys

from nono_sandbox.opath import WAY, open_up

_NAMES = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def encoded(name: str) -> bytes:
    """Return *name* as `os.fsencode` does, whose import every start would pay for."""
    return name.encode(*_NAMES)


def decoded(name: bytes) -> str:
    """Return *name* as `os.fsdecode` does."""
    return name.decode(*_NAMES)


def is_same(status: os.stat_result, other: os.stat_result) -> bool:
    """Tell whether both are of the same file."""
    return (status.st_ino, status.st_dev) == (other.st_ino, other.st_dev)


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


def opened_up(path: str) -> int:
    """Open the directory *path*, which a worker had shut.

    Raises:
        OSError: It is no directory, or not ours.
    """
    above, _, name = path.rpartition("/")
    parent = os.open(above or "/", WAY)
    try:
        return enter(name, parent)
    finally:
        os.close(parent)


def walk(directory: tuple[str, ...], root: int, *, make: bool) -> int | None:
    """Open a directory beneath *root*, if it's there; the last one of it is made, if so asked."""
    fd = os.dup(root)
    for depth, name in enumerate(directory, start=1):
        try:
            if make and depth == len(directory) and not is_there(name, fd):
                with Writable(fd):
                    os.mkdir(name, 0o755, dir_fd=fd)
            below = enter(name, fd)
        except (FileNotFoundError, NotADirectoryError):
            return None
        finally:
            os.close(fd)
        fd = below
    return fd
