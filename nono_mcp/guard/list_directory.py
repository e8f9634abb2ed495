"""One directory listed: what is to be gone into in it, and what is guarded.

Architecture invariant: reads only. What can't be looked into is said, and never left out.
"""

from __future__ import annotations

import _stat as stat
import errno
import posix as os

from nono_mcp.guard import finding
from nono_mcp.guard.directory_listings import Listed
from nono_mcp.guard.ways import DIRECTORY

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def listed(prefix: str, path: str, old: Listed | None) -> Listed | None:
    """Return what is in the directory *path* after *prefix*: *old*, if that's how it still is.

    None is that there's no such directory.
    """
    directory = tuple(path.split("/")) if path else ()
    if len(directory) > finding.DEPTH_MAX:
        return _instead(finding.DEEP, directory)
    try:
        status = os.lstat(prefix + path)
        if old is not None and old.changed_ns == status.st_ctime_ns:
            return old
        return _looked_into(prefix + path, directory) if stat.S_ISDIR(status.st_mode) else None
    except OSError as error:
        if error.errno in _GONE:
            return None
        long = error.errno == errno.ENAMETOOLONG
        return _instead(finding.DEEP if long else finding.SHUT, directory)


def _looked_into(path: str, directory: tuple[str, ...]) -> Listed:
    fd = os.open(path, DIRECTORY)
    try:
        status = os.fstat(fd)
        level = finding.Level(directory, fd)
        level.take_in()
    finally:
        os.close(fd)
    found = tuple((one.kind, one.directory, one.name) for one in level.take_found())
    return Listed(status.st_ctime_ns, tuple(level.below), found)


def _instead(kind: str, directory: tuple[str, ...]) -> Listed:
    return Listed(0, (), ((kind, directory, ""),))
