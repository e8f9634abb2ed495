"""Files without a name: what is too much for a message, or a program's standard input.

Architecture invariant: nothing is left behind, save an empty file where a system knows no files
without a name and this process is killed between making one and taking its name away.
"""

from __future__ import annotations

import os
import sys


def holding(data: bytes) -> int:
    """Return a descriptor, for reading from the start, of a file without a name holding *data*.

    Raises:
        OSError: It can't be made.
    """
    if sys.platform == "linux":
        memfd = os.memfd_create("nono")
        try:
            _write(memfd, data)
            return os.open(f"/proc/self/fd/{memfd}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(memfd)
    else:
        return in_directory(data)


def in_directory(data: bytes) -> int:
    """Return what `holding` does, made as every system can: in the directory for such files."""
    # Only this pays for the import.
    import tempfile

    written, path = tempfile.mkstemp(prefix="nono-")
    try:
        reading = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        os.unlink(path)
        try:
            _write(written, data)
        except OSError:
            os.close(reading)
            raise
    finally:
        os.close(written)
    return reading


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
