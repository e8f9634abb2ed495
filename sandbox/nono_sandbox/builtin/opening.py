"""Files by their paths, opened to be read: regular ones, whatever else has the name meanwhile."""

from __future__ import annotations

import os
import stat

from nono_sandbox.builtin.failures import FailedError

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK


_DIRECTORIES = ("", ".", "..")
"""What a path that names a directory, there or not, may end in after its last slash."""


def real(path: str) -> str:
    """Return where *path* leads, which is to be a file's.

    Raises:
        FailedError: It can't be.
    """
    if os.path.basename(path) in _DIRECTORIES:
        raise FailedError("its end names a directory: name a file", path)
    return os.path.realpath(path)


def regular(path: str) -> tuple[int, os.stat_result]:
    """Open the regular file at *path*, where symlinks lead; return it and its status.

    Raises:
        FailedError: It is something else, which wasn't opened.
        OSError: It can't be opened.
    """
    # Before it is opened, since that can do something to a device; and after, since the name
    # may lead elsewhere by then.
    _require_regular(os.stat(path), path)
    fd = os.open(path, _OPEN)
    status = os.fstat(fd)
    try:
        _require_regular(status, path)
    except FailedError:
        os.close(fd)
        raise
    return fd, status


def _require_regular(status: os.stat_result, path: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise FailedError("it is a directory: list_directory shows it", path)
    if not stat.S_ISREG(status.st_mode):
        raise FailedError("it is no regular file but a device, pipe or socket", path)


def whole(path: str, bytes_max: int) -> tuple[bytes, os.stat_result]:
    """Return all of the regular file at *path*, and its status from before it was read.

    Raises:
        FailedError: It has more than *bytes_max*, or isn't regular.
        OSError: It can't be read.
    """
    fd, status = regular(path)
    with open(fd, "rb") as stream:
        data = stream.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise FailedError(f"it has more than {bytes_max} bytes; use run_sandboxed", path)
    return data, status
