"""A directory of a call's own for temporary files, where it can't have a /tmp of its own.

Architecture invariant: nothing outside the directory is ever removed or changed, whatever was
left in it; and however deep that is, it takes no more than a few descriptors and no recursion.
"""

from __future__ import annotations

import posix as os

from nono_sandbox import private
from nono_sandbox.opath import open_up

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RANDOM_BYTES = 8
_LEAD = "nono-"
_DIGITS = frozenset("0123456789abcdef")


def unused(parent: str) -> str:
    """Return the path of one to make in *parent*, which nobody knows yet."""
    return f"{parent.rstrip('/')}/{_LEAD}{os.urandom(_RANDOM_BYTES).hex()}"


def is_name(name: str) -> bool:
    """Tell whether such a directory may have the name *name*."""
    digits = name.removeprefix(_LEAD)
    return (
        len(digits) == 2 * _RANDOM_BYTES and name == _LEAD + digits and _DIGITS.issuperset(digits)
    )


def make(parent: str) -> str:
    """Make a directory in *parent* that nobody else can enter, and return its path.

    Raises:
        OSError: It can't be made.
    """
    path = unused(parent)
    private.make_directory(path)
    return path


def remove(path: str, parent: int | None = None) -> None:
    """Remove the directory *path* and all in it; no process may be at work there any more.

    A relative path is as seen from the directory *parent*.

    Raises:
        OSError: Something in it can't be removed. What could be, has been.
    """
    top = os.open(path, _DIRECTORY, dir_fd=parent)
    try:
        empty(top)
    finally:
        os.close(top)
    os.rmdir(path, dir_fd=parent)


def empty(top: int) -> None:
    """Remove all that is in the open directory *top*, at which no process may be at work.

    Raises:
        OSError: Something in it can't be removed. What could be, has been.
    """
    # A directory found in another is moved to the top, and so is emptied in its turn.
    moved_count = 0
    pending = [entry.name for entry in os.scandir(top)]
    while pending:
        name = pending.pop()
        directory = _enter(name, top)
        if directory is None:
            continue
        for entry in os.listdir(directory):
            if open_up(entry, directory):
                moved_count += 1
                unused = f"{moved_count}.{os.urandom(_RANDOM_BYTES).hex()}"
                os.rename(entry, unused, src_dir_fd=directory, dst_dir_fd=top)
                pending.append(unused)
            else:
                os.unlink(entry, dir_fd=directory)
        os.close(directory)
        os.rmdir(name, dir_fd=top)


def _enter(name: str, parent: int) -> int | None:
    """Open the directory *name*, or remove it if it's none."""
    if not open_up(name, parent):
        os.unlink(name, dir_fd=parent)
        return None
    return os.open(name, _DIRECTORY, dir_fd=parent)
