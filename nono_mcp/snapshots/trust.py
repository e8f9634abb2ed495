"""What a look may go by: whether a file's times tell that it changed, and who may change it yet.

Architecture invariant: what is read while programs run that may change it unseen is marked as
unsure in the index, and whoever looks when they have ended reads it again.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
from typing import TYPE_CHECKING, Final

from nono_mcp.snapshots import statuses

if TYPE_CHECKING:
    from nono_mcp.snapshots.values import Unsure

# Where a file can't be made without a name, the disk or whoever serves it is written to when a
# map is let go, and keeps its own times.
_NO_NAMELESS: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR})
_PAGE: Final = mmap.PAGESIZE


class Trust:
    """What one look goes by."""

    def __init__(
        self,
        unsure: Unsure | None = None,
        *,
        whole: bool = True,
        times: bool = True,
        marks: bool = False,
    ) -> None:
        self.whole = whole
        """The look before this one wasn't broken off."""
        self.times = times
        """A file whose status is the same holds the same."""
        self._unsure = unsure
        self._marks = marks
        """What is marked as unsure is left to another look."""

    def known(self, was: bytes | None, seen: bytes) -> bool:
        """Tell whether an entry that is kept as *was* needn't be read, if *seen* is its status."""
        if was is None or not self.times:
            return False
        return was == seen or (self._marks and was == statuses.unsure(seen))

    def kept(self, path: list[bytes], status: os.stat_result, *, racy: bool) -> bytes:
        """Return what to keep of the entry at *path*, which was read."""
        packed = statuses.pack_stat(path[-1], status, racy=racy)
        if self._unsure is None:
            return packed
        self._unsure.add(b"/".join(path))
        return packed if racy else statuses.unsure(packed)


def times_tell(directory_fd: int) -> bool:
    """Tell whether a store to a mapped page gives its file a new time, where this directory is.

    In memory (tmpfs, ramfs) it doesn't. It is tried, with a file that has no name.
    """
    if sys.platform != "linux":
        return True
    flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
    try:
        fd = os.open(".", flags, 0o600, dir_fd=directory_fd)
    except OSError as error:
        return error.errno in _NO_NAMELESS
    try:
        os.truncate(fd, _PAGE)
        with mmap.mmap(fd, _PAGE) as shared:
            os.utime(fd, ns=(0, 0))
            # A page that was read first is mapped for writing too, where nobody asks to be told.
            shared[0] = shared[0] + 1
            return os.fstat(fd).st_mtime_ns != 0
    except OSError as error:
        # What can't be mapped isn't changed by a map.
        return error.errno == errno.ENODEV
    finally:
        os.close(fd)
