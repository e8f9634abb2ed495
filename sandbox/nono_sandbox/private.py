"""Directories and files that are ours alone, and ours to use, whatever the umask says.

A umask takes bits from whatever is made, and it may take its owner's own (0277, 0777): what was
made like that couldn't be entered or read again by who made it. A process has one umask, which a
program that imports us needs as it is, and so do the programs we start; so it's left alone, and
what it took from the owner is given back to each thing that is made.

Architecture invariant: nothing is made for others than the owner here, and no symlink followed in
giving back.
"""

from __future__ import annotations

import _stat as stat
import posix as os

from nono_sandbox.opath import is_directory, open_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

_DIRECTORY = 0o700
_FILE = 0o600
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
"""Flags of a file that isn't there yet, to be written."""


class Unmasked:
    """What the body makes has the modes that it says: for a process that has one thread."""

    def __enter__(self) -> Self:
        self._mask = os.umask(0)
        return self

    def __exit__(self, *_: object) -> None:
        os.umask(self._mask)


def make_directory(path: str, parent: int | None = None, mode: int = _DIRECTORY) -> None:
    """Make a directory; a relative path is as seen from the directory *parent*.

    Raises:
        OSError: It couldn't be made, or is there.
    """
    os.mkdir(path, mode, dir_fd=parent)
    made = os.stat(path, dir_fd=parent, follow_symlinks=False).st_mode
    if made & _DIRECTORY != _DIRECTORY:
        open_up(path, parent)


def ensure_directory(path: str, parent: int | None = None) -> None:
    """Make a directory, unless something has its name: what, shows when it's opened.

    Raises:
        OSError: It couldn't be made.
    """
    # contextlib.suppress would cost its import on the way to every program.
    try:  # noqa: SIM105
        make_directory(path, parent)
    except FileExistsError:
        pass


def ensure_directories(path: str, mode: int = _DIRECTORY) -> None:
    """Make the directory *path*, and those above it, unless they are there.

    Raises:
        OSError: It couldn't be made.
    """
    try:
        _ensure(path, mode)
    except FileNotFoundError:
        above = path.rstrip("/").rpartition("/")[0]
        if not above:
            raise
        # It may be there by now: others make the same.
        ensure_directories(above, mode)
        _ensure(path, mode)


def _ensure(path: str, mode: int) -> None:
    try:
        make_directory(path, mode=mode)
    except FileExistsError:
        if not is_directory(path):
            raise


def open_file(path: str, flags: int, parent: int | None = None, mode: int = _FILE) -> int:
    """Open a file, which *flags* may have made if it isn't there, and return its descriptor.

    Raises:
        OSError: It couldn't be opened; a symlink isn't.
    """
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=parent)
    if flags & os.O_CREAT:
        made = os.fstat(fd).st_mode
        if made & _FILE != _FILE:
            os.fchmod(fd, stat.S_IMODE(made) | _FILE)
    return fd
