"""Whether what a confinement names is still what was judged, and spelled as it is stored.

Seatbelt binds names, not objects: between this look and the worker's start a name can change
hands. Symlinks don't help an attacker there, for the kernel resolves them before it compares;
a directory put in another's place is what the identity is for.

Nobody has run it on a Mac; on Linux the kernel's name for a descriptor comes from /proc.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys

from nono_sandbox import granted
from nono_sandbox.errors import ConfinementError
from nono_sandbox.seatbelt.spelling import spellings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_sandbox.confinement import Confinement


def check_places(confinement: Confinement) -> None:
    """Raise if a grant isn't what was judged, or a denial is stored under another spelling.

    Raises:
        ConfinementError: The message names the path. Nothing ran.
    """
    for grant in confinement.grants:
        try:
            status, stored = _look(grant.path)
        except OSError as error:
            raise ConfinementError(
                f"can't open the grant of {grant.path}: {error.strerror}; try again"
            ) from error
        granted.check(grant, grant.path, status)
        _check_spelling(grant.path, stored)
    for denial in confinement.denials:
        try:
            _, stored = _look(denial.path)
        except OSError:
            # It isn't there, or out of reach: then its patterns hold, and nothing else need.
            continue
        _check_spelling(denial.path, stored)


def _look(path: str) -> tuple[os.stat_result, str]:
    """Return the status of what stands at *path*, not followed, and the kernel's name for it."""
    try:
        fd = os.open(path, _FLAGS)
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.EOPNOTSUPP):
            raise
        # A socket, which macOS opens for nobody: by the directory it is in.
        above, _, name = path.rpartition("/")
        fd = os.open(above or "/", _FLAGS)
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            return status, f"{kernel_name(fd).rstrip('/')}/{name}"
        finally:
            os.close(fd)
    try:
        return os.fstat(fd), kernel_name(fd)
    finally:
        os.close(fd)


def _check_spelling(path: str, stored: str) -> None:
    if stored not in spellings(path):
        raise ConfinementError(f"{path!r} is stored as {stored!r}: name it so")


if sys.platform == "darwin":
    # For events alone: it needs no right to read.
    _FLAGS = os.O_EVTONLY | os.O_SYMLINK | os.O_CLOEXEC

    def kernel_name(fd: int) -> str:
        """Return the path the kernel has for an open file, as Seatbelt will compare it."""
        name: bytes = fcntl.fcntl(fd, fcntl.F_GETPATH, bytes(1024))
        return os.fsdecode(name.rstrip(b"\0"))

else:
    _FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

    def kernel_name(fd: int) -> str:
        """Return the path the kernel has for an open file, as Seatbelt would compare it."""
        return os.readlink(f"/proc/self/fd/{fd}")
