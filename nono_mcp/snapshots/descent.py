"""Going down and up a tree of directories by descriptors, with few of them open.

Architecture invariant: no path is looked up. A name is entered only if it's a directory of the
root's own file system and no symlink, and the way up leads to the directory that was come from,
or nowhere. At most `OPEN_MAX` descriptors are held, however deep the tree is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, Final, Self

from nono_mcp.snapshots.errors import WorkspaceReplacedError
from nono_sandbox.opath import LOOK, change_mode, reopen

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

OPEN_MAX: Final = 24
ENTER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OWNER: Final = 0o700
LISTING: Final = 0o500
CHANGING: Final = 0o700


def closed_to_owner(status: os.stat_result, need: int) -> bool:
    """Tell whether only its mode keeps us from what we *need* in a directory of ours."""
    return bool(status.st_mode & need != need and status.st_uid == os.geteuid() != 0)


class OtherFileSystemError(OSError):
    """A directory lies on another file system than the root."""


class _Level:
    __slots__ = ("fd", "mode", "status")

    def __init__(self, fd: int, status: os.stat_result, mode: int | None) -> None:
        self.fd = fd
        self.status = status
        self.mode = mode


class Descent:
    """The directory that a walker is in, and the way it came."""

    def __init__(self, root_fd: int, need: int = LISTING) -> None:
        self.need = need
        status = os.fstat(root_fd)
        mode = None
        if closed_to_owner(status, need):
            mode = stat.S_IMODE(status.st_mode)
            change_mode(root_fd, mode | OWNER)
        fd = reopen(root_fd, os.O_RDONLY | os.O_DIRECTORY)
        self._levels = [_Level(fd, status, mode)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._levels:
            level = self._levels.pop()
            if level.fd >= 0:
                if level.mode is not None:
                    with contextlib.suppress(OSError):
                        os.chmod(level.fd, level.mode)
                os.close(level.fd)

    @property
    def depth(self) -> int:
        """Return how many directories lie above this one."""
        return len(self._levels) - 1

    @property
    def fd(self) -> int:
        """Return a descriptor of the directory."""
        return self._levels[-1].fd

    @property
    def status(self) -> os.stat_result:
        """Return the directory's status, as it was on the way in."""
        return self._levels[-1].status

    def down(self, name: bytes) -> os.stat_result:
        """Go into the directory *name*, and return its status.

        Raises:
            OtherFileSystemError: It's a mount point; we're where we were.
            OSError: It's no directory, or can't be entered; likewise.
        """
        fd = os.open(name, ENTER, dir_fd=self.fd)
        return self._enter(fd, os.fstat(fd), None)

    def _enter(self, fd: int, status: os.stat_result, mode: int | None) -> os.stat_result:
        if status.st_dev != self._levels[0].status.st_dev:
            os.close(fd)
            raise OtherFileSystemError("it isn't the file system of the root")
        self._levels.append(_Level(fd, status, mode))
        level = self._levels[max(0, len(self._levels) - OPEN_MAX)]
        # One whose mode is to be put back stays open for that, and so does the root.
        if len(self._levels) > OPEN_MAX and level.mode is None and level.fd >= 0:
            os.close(level.fd)
            level.fd = -1
        return status

    def _down_closed(self, look_fd: int) -> os.stat_result:
        status = os.fstat(look_fd)
        mode = stat.S_IMODE(status.st_mode)
        change_mode(look_fd, mode | OWNER)
        try:
            fd = reopen(look_fd, os.O_RDONLY | os.O_DIRECTORY)
            return self._enter(fd, status, mode)
        except OSError:
            change_mode(look_fd, mode)
            raise

    def down_forced(
        self, name: bytes, note: Callable[[bytes, os.stat_result], None]
    ) -> os.stat_result:
        """Go into the directory *name*, even if it's ours and closed; *note* hears before.

        Raises:
            OSError: As `down`.
        """
        try:
            status = self.down(name)
        except PermissionError:
            pass
        else:
            if not closed_to_owner(status, self.need):
                return status
            # It can be listed, but not looked into, or not changed.
            self.up()
        fd = os.open(name, LOOK, dir_fd=self.fd)
        try:
            status = os.fstat(fd)
            if not stat.S_ISDIR(status.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, "became something else")
            if not closed_to_owner(status, self.need):
                raise PermissionError(errno.EACCES, "closed to us")
            note(name, status)
            return self._down_closed(fd)
        finally:
            os.close(fd)

    def leave_mode(self, mode: int) -> None:
        """Have *mode* set when the directory is left."""
        self._levels[-1].mode = mode

    def up(self) -> None:
        """Go back to the directory above.

        Raises:
            WorkspaceReplacedError: What is above now is another directory.
        """
        level = self._levels[-1]
        above = self._levels[-2]
        if above.fd < 0:
            fd = os.open("..", ENTER, dir_fd=level.fd)
            found = os.fstat(fd)
            if (found.st_dev, found.st_ino) != (above.status.st_dev, above.status.st_ino):
                os.close(fd)
                raise WorkspaceReplacedError("a directory was moved while it was read; try again")
            above.fd = fd
        if level.mode is not None:
            os.chmod(level.fd, level.mode)
        os.close(level.fd)
        self._levels.pop()
