"""Where a restore prepares what it puts back: a rename can bring it in (FORMAT.md section 6).

Architecture invariant: nothing but this directory of our own is made, and it can be found again.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from typing import TYPE_CHECKING

from nono_mcp.snapshots.descent import CHANGING, ENTER, Descent, closed_to_owner
from nono_sandbox.opath import open_up

if TYPE_CHECKING:
    from collections.abc import Iterator


class Staging:
    """A directory of our own for what is to be put back, beside the workspace or in its root."""

    def __init__(self, root_fd: int, name: str) -> None:
        self._root_fd = root_fd
        self.name = name
        self.inside = False
        self.fd = -1

    def make(self) -> None:
        """Make the directory: beside the workspace, or in it where that can't be.

        Raises:
            OSError: Nothing was made.
        """
        with contextlib.suppress(OSError), self._beside() as beside_fd:
            self._make_in(beside_fd)
        if self.fd < 0:
            self.inside = True
            with Descent(self._root_fd, CHANGING) as descent:
                self._make_in(descent.fd)

    def _make_in(self, dir_fd: int) -> None:
        os.mkdir(self.name, 0o700, dir_fd=dir_fd)
        self.fd = self._entered(dir_fd)
        _give_nothing(self.fd)

    def _entered(self, dir_fd: int) -> int:
        status = os.stat(self.name, dir_fd=dir_fd, follow_symlinks=False)
        if closed_to_owner(status, CHANGING):
            # By a umask, or the default ACL of what is above.
            open_up(self.name, dir_fd)
        return os.open(self.name, ENTER, dir_fd=dir_fd)

    @contextlib.contextmanager
    def _beside(self) -> Iterator[int]:
        """Hold the directory above the workspace, if what is there can be renamed into it."""
        fd = os.open("..", ENTER, dir_fd=self._root_fd)
        try:
            if _mount(fd) != _mount(self._root_fd):
                raise OSError("the directory above is on another mount")
            yield fd
        finally:
            os.close(fd)

    def remove(self) -> None:
        """Remove the directory and what is left in it, wherever a crash left it.

        Raises:
            OSError: Something in it can't be removed.
        """
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        with contextlib.suppress(FileNotFoundError, PermissionError):
            fd = os.open("..", ENTER, dir_fd=self._root_fd)
            try:
                self._remove_in(fd)
            finally:
                os.close(fd)
        with Descent(self._root_fd, CHANGING) as descent:
            self.inside |= self._remove_in(descent.fd)

    def _remove_in(self, dir_fd: int) -> bool:
        """Tell whether it was there."""
        try:
            fd = self._entered(dir_fd)
        except FileNotFoundError:
            return False
        try:
            for name in os.listdir(fd):
                os.unlink(name, dir_fd=fd)
        finally:
            os.close(fd)
        os.rmdir(self.name, dir_fd=dir_fd)
        return True

    def sync(self) -> None:
        """Wait until all that was staged survives a loss of power."""
        syncfs(self.fd)


def _give_nothing(fd: int) -> None:
    """Have what is made in the directory inherit no ACL, as it does from what is above."""
    if sys.platform == "linux":
        try:
            os.removexattr(fd, "system.posix_acl_default")
        except OSError as error:
            if error.errno not in {errno.ENODATA, errno.ENOTSUP}:
                raise


def syncfs(fd: int) -> None:
    """Wait until the file system of *fd* has written all it holds."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):
        os.sync()
    elif libc.syncfs(fd):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _mount(fd: int) -> tuple[int, str]:
    """Return what tells mounts apart: two of one file system have one device."""
    if sys.platform != "linux":
        return os.fstat(fd).st_dev, ""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
        mount = next((line for line in file if line.startswith("mnt_id:")), "")
    return os.fstat(fd).st_dev, mount
