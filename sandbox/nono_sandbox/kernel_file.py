"""Files by which the kernel is told something, each in one write.

Specified by user_namespaces(7), and by Documentation/admin-guide of the kernel for /proc/sys and
for control groups.

Architecture invariant: nothing is made, and no name is looked up but the one that was given.
"""

from __future__ import annotations

import posix as os


def write(path: str, text: str, directory: int | None = None) -> None:
    """Write *text* to the file at *path*, or there in the open *directory*; it's there already.

    Raises:
        OSError: The kernel refused it.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
