"""Descriptors of what stands at a name, which isn't followed if it's a symlink; and their use.

Linux has O_PATH (open(2)), whose descriptors need no rights to what they are of, and have names in
/proc. macOS has neither: there a descriptor needs the right to read, so there is none of what is
closed to its own owner, and a mode is changed by its name, which isn't followed.

Nobody has run the half that is macOS's.
"""

from __future__ import annotations

import _stat as stat
import errno
import posix as os
import sys

if sys.platform == "linux":
    LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    """Flags for opening a name, a symlink's own included, to look at."""
    WAY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    """Flags for opening a directory to look names up in."""

    def change_mode(fd: int, mode: int) -> None:
        """Set the mode of what *fd* holds."""
        os.chmod(f"/proc/self/fd/{fd}", mode)

    def reopen(fd: int, flags: int) -> int:
        """Open what *fd* holds, for something else than looking."""
        return os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)

    def open_up(name: str, parent: int | None) -> bool:
        """Give its owner every right to the directory *name*; tell whether it's one."""
        fd = os.open(name, LOOK, dir_fd=parent)
        try:
            status = os.fstat(fd)
            if not stat.S_ISDIR(status.st_mode):
                return False
            change_mode(fd, stat.S_IMODE(status.st_mode) | stat.S_IRWXU)
        finally:
            os.close(fd)
        return True

else:
    # No write, no wait for who writes to a FIFO, and a symlink itself.
    LOOK = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | getattr(os, "O_SYMLINK", os.O_NOFOLLOW)
    WAY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

    def change_mode(fd: int, mode: int) -> None:
        """Set the mode of what *fd* holds."""
        os.fchmod(fd, mode)

    def reopen(fd: int, flags: int) -> int:
        """Open what *fd* holds, for something else than looking.

        Raises:
            OSError: It can't be, or something else has its name by now.
        """
        # Not from /dev/fd, whose descriptors are copies and keep their flags (fd(4)).
        from nono_sandbox.seatbelt.places import kernel_name

        opened = os.open(kernel_name(fd), flags | os.O_NOFOLLOW | os.O_CLOEXEC)
        status, wanted = os.fstat(opened), os.fstat(fd)
        if (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino):
            return opened
        os.close(opened)
        raise OSError(errno.EAGAIN, "changed while it was opened")

    def open_up(name: str, parent: int | None) -> bool:
        """Give its owner every right to the directory *name*; tell whether it's one."""
        mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
        if not stat.S_ISDIR(mode):
            return False
        wanted = stat.S_IMODE(mode) | stat.S_IRWXU
        os.chmod(name, wanted, dir_fd=parent, follow_symlinks=False)
        return True


def is_directory(path: str) -> bool:
    """Tell whether *path* leads to a directory."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except OSError:
        return False


def is_there(path: str) -> bool:
    """Tell whether anything has the name *path*, a symlink that leads nowhere too."""
    try:
        os.lstat(path)
    except OSError:
        return False
    return True
