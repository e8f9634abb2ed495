"""The objects that were granted, each opened once.

Architecture invariant: what is enforced is the object that policy judged, whoever has its name now.
"""

from __future__ import annotations

import _stat as stat
import posix as os

from nono_sandbox.errors import ConfinementError
from nono_sandbox.opath import LOOK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nono_sandbox.confinement import Grant


def _open(path: str) -> int:
    return os.open(path, LOOK)


def open_judged(grant: Grant, opened: Callable[[str], int] = _open) -> int:
    """Return a descriptor of what *grant* names, to look at, once it is what was judged.

    Or what else is *opened* of it: a copy of its mount.

    Raises:
        ConfinementError: It is gone, or another object stands there now.
    """
    path = grant.source or grant.path
    try:
        fd = opened(path)
    except OSError as error:
        raise ConfinementError(
            f"can't open the grant of {path}: {error.strerror}; try again"
        ) from error
    try:
        check(grant, path, os.fstat(fd))
    except ConfinementError:
        os.close(fd)
        raise
    return fd


def check(grant: Grant, path: str, status: os.stat_result) -> None:
    """Raise unless what stands at *path*, of which this is the *status*, is what was granted.

    Raises:
        ConfinementError: Another object stands there, or one that can't be granted so.
    """
    # A number is given out again: what is a link by now was none when it was judged.
    is_other = stat.S_ISLNK(status.st_mode) and grant.identity is not None
    if is_other or grant.identity not in (None, (status.st_dev, status.st_ino)):
        raise ConfinementError(f"{path} was replaced since it was granted; try again")
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        raise ConfinementError(f"{path} is a device, and devices can't be granted")
    if stat.S_ISDIR(status.st_mode) == grant.exact:
        kind = "a directory" if grant.exact else "no directory"
        raise ConfinementError(f"{path} is {kind} and was granted as the other")
