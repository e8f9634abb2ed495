"""Where a session's workers may write, as the kernel would tell it of a descriptor.

Landlock judges what is opened by the directories it lies in. This does the same, for what Landlock
has no right for: the kernel is asked for the place of an open object, not anybody for a name.

Architecture invariant: changes nothing, and holds nothing open. A place is the object that was
granted, or it is no place.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nono_sandbox.confinement import Grant


class Writable:
    """The places of *grants*, each of which has an identity."""

    def __init__(self, grants: Iterable[Grant]) -> None:
        grants = tuple(grants)
        self._files = {grant.identity for grant in grants if grant.exact}
        self._directories = {
            os.fsencode(grant.path): grant.identity for grant in grants if not grant.exact
        }

    def holds(self, fd: int) -> bool:
        """Tell whether what *fd* refers to is one of the places, or lies in one.

        A worker moves nothing into a place that didn't lie in one already: Landlock sees to that.
        """
        if self._files:
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) in self._files:
                return True
        # What was removed lies where it lay, with a word added to its name. What lies nowhere (a
        # pipe, a socket, memory, another mount namespace) has no path that begins at the root.
        path = os.readlink(b"/proc/self/fd/%d" % fd)
        while path.startswith(b"/"):
            identity = self._directories.get(path)
            if identity is not None and identity == _identity(path):
                return True
            path = path.rpartition(b"/")[0]
        return False


def _identity(path: bytes) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None  # moved away, so that what was granted lies elsewhere
    return status.st_dev, status.st_ino
