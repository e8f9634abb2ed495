"""A copy with all that a move would have kept, and the removal of what was copied.

Modes, owners, times, extended attributes and ACLs, hard links within it, holes, FIFOs and sockets.
What the kernel or the machine's rules say of a file (`security.*`) isn't taken along.

Architecture invariant: the tree is hostile. Nothing in it is followed, and nothing is removed that
isn't byte for byte in the copy by then.
"""

from __future__ import annotations

import _stat as stat
import errno
import posix as os
import sys

from nono_mcp.guard import contents, ways
from nono_mcp.guard.ways import DIRECTORY
from nono_sandbox import private
from nono_sandbox.opath import open_up

BYTES_MAX = 1024**3
"""That the copies of one look may take on the disk together; holes count for nothing."""
ENTRIES_MAX = 100_000
DEPTH_MAX = 64
FREE_SHARE = 2
"""One copy takes no more than a half of what is free where it's made,"""
RESERVED_SHARE = 20
"""and leaves at least a twentieth of the file system."""

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL


class Room:
    """How much may still be copied."""

    def __init__(self) -> None:
        self.bytes = BYTES_MAX
        self.entries = ENTRIES_MAX


class Copy:
    """One copy, made in the open directory *target*; it takes what it needs from *room*."""

    def __init__(self, target: int, room: Room) -> None:
        self._target = target
        self._room = room
        self._bytes_left, self._entries_left = _room(target)
        self._links: dict[tuple[int, int], str] = {}
        """Where each file is that has several names."""

    def make(self, name: str, parent: int, new: str) -> None:
        """Copy what stands at *name* in the open directory *parent* to *new*, where nothing is.

        Raises:
            OSError: It isn't whole: too large, unreadable, changed meanwhile, or there is no room.
        """
        self._one(name, parent, (new,), self._target)

    def _one(self, name: str, parent: int, at: tuple[str, ...], target: int) -> None:
        self._entries_left -= 1
        self._room.entries -= 1
        if min(self._entries_left, self._room.entries) < 0 or len(at) > DEPTH_MAX:
            raise OSError(errno.EFBIG, "there are too many files in it, or too many levels")
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            self._directory(name, parent, at, target)
        elif stat.S_ISREG(status.st_mode):
            self._file(name, parent, at, target)
        else:
            _special(name, parent, status, at[-1], target)

    def _directory(self, name: str, parent: int, at: tuple[str, ...], target: int) -> None:
        source, shut_by = ways.entered(name, parent)
        try:
            status = os.fstat(source)
            mode = stat.S_IMODE(status.st_mode) if shut_by is None else shut_by
            private.make_directory(at[-1], target)
            made = os.open(at[-1], DIRECTORY, dir_fd=target)
            try:
                for entry in os.listdir(source):
                    self._one(entry, source, (*at, entry), made)
                _dress(source, made, status, mode)
            finally:
                os.close(made)
        finally:
            ways.shut_again(source, shut_by)
            os.close(source)

    def _file(self, name: str, parent: int, at: tuple[str, ...], target: int) -> None:
        source, mode = contents.opened(name, parent)
        try:
            status = os.fstat(source)
            key = status.st_dev, status.st_ino
            if key in self._links:
                os.link(self._links[key], at[-1], src_dir_fd=self._target, dst_dir_fd=target)
                return
            if status.st_nlink > 1:
                self._links[key] = "/".join(at)
            made = private.open_file(at[-1], _NEW, target)
            try:
                self._fill(source, made, status.st_size)
                _dress(source, made, status, mode)
            finally:
                os.close(made)
        finally:
            os.close(source)

    def _fill(self, source: int, made: int, size: int) -> None:
        for start, end in contents.written(source, size):
            self._bytes_left -= end - start
            self._room.bytes -= end - start
            if min(self._bytes_left, self._room.bytes) < 0:
                raise OSError(errno.EFBIG, "it's too large for what may be copied there")
            at = start
            while at < end:
                data = os.pread(source, min(end - at, contents.CHUNK_BYTES), at)
                if not data:
                    break
                at += os.pwrite(made, data, at)
        os.ftruncate(made, size)


def sync(fd: int) -> None:
    """Wait until the file system of the open *fd* has written all that it holds.

    Raises:
        OSError: It hasn't.
    """
    if sys.platform != "linux":
        os.sync()
        return
    from nono_sandbox._uapi import LIBC, checked

    checked(LIBC.call("syncfs", fd), "syncfs")


def _room(target: int) -> tuple[int, int]:
    """Return how many bytes and files may be copied to where the open *target* is."""
    free = os.statvfs(target)
    free_bytes = free.f_bavail * free.f_frsize
    reserved = free.f_blocks * free.f_frsize // RESERVED_SHARE
    room = min(free_bytes // FREE_SHARE, free_bytes - reserved)
    # Some file systems have no number of files that they can hold, and say that it's none.
    entries = free.f_favail // FREE_SHARE if free.f_files else ENTRIES_MAX
    return max(room, 0), entries


def _special(name: str, parent: int, status: os.stat_result, new: str, target: int) -> None:
    """Make another symlink, FIFO, socket or device."""
    if stat.S_ISLNK(status.st_mode):
        link = os.readlink(ways.encoded(name), dir_fd=parent)
        os.symlink(link, ways.encoded(new), dir_fd=target)
    else:
        os.mknod(new, status.st_mode, status.st_rdev, dir_fd=target)
    found = os.stat(new, dir_fd=target, follow_symlinks=False)
    owner = status.st_uid, status.st_gid
    if (found.st_uid, found.st_gid) != owner:
        os.chown(new, *owner, dir_fd=target, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        where = "/proc/self/fd"
        _give_attributes(f"{where}/{parent}/{name}", f"{where}/{target}/{new}", follow=False)
        os.chmod(new, stat.S_IMODE(status.st_mode), dir_fd=target)
    times = status.st_atime_ns, status.st_mtime_ns
    os.utime(new, ns=times, dir_fd=target, follow_symlinks=False)


def _dress(source: int, made: int, status: os.stat_result, mode: int) -> None:
    found = os.fstat(made)
    if (found.st_uid, found.st_gid) != (status.st_uid, status.st_gid):
        os.fchown(made, status.st_uid, status.st_gid)
    _give_attributes(source, made)
    os.fchmod(made, mode)
    os.utime(made, ns=(status.st_atime_ns, status.st_mtime_ns))


def _give_attributes(source: int | str, made: int | str, *, follow: bool = True) -> None:
    if sys.platform != "linux":
        return
    try:
        names = os.listxattr(source, follow_symlinks=follow)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return
        raise
    for name in names:
        if not name.startswith("security."):
            value = os.getxattr(source, name, follow_symlinks=follow)
            os.setxattr(made, name, value, follow_symlinks=follow)


def remove_copied(name: str, parent: int, copied: str, target: int) -> bool:
    """Remove what stands at *name* where it's the same as what was *copied* into *target*.

    Returns whether nothing is left.

    Raises:
        OSError: It can't be compared, or not be removed.
    """
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return True
    try:
        found = os.stat(copied, dir_fd=target, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if stat.S_IFMT(status.st_mode) != stat.S_IFMT(found.st_mode):
        return False
    if stat.S_ISDIR(status.st_mode):
        return _remove_directory(name, parent, copied, target)
    if not _is_same(name, parent, status, copied, target):
        return False
    os.unlink(name, dir_fd=parent)
    return True


def _remove_directory(name: str, parent: int, copied: str, target: int) -> bool:
    open_up(name, parent)
    directory = os.open(name, DIRECTORY, dir_fd=parent)
    try:
        inner, shut_by = ways.entered(copied, target)
        try:
            gone = [remove_copied(one, directory, one, inner) for one in os.listdir(directory)]
        finally:
            ways.shut_again(inner, shut_by)
            os.close(inner)
    finally:
        os.close(directory)
    if all(gone):
        os.rmdir(name, dir_fd=parent)
    return all(gone)


def _is_same(name: str, parent: int, status: os.stat_result, copied: str, target: int) -> bool:
    if stat.S_ISLNK(status.st_mode):
        link = os.readlink(ways.encoded(name), dir_fd=parent)
        return link == os.readlink(ways.encoded(copied), dir_fd=target)
    if not stat.S_ISREG(status.st_mode):
        return True
    one, _ = contents.opened(name, parent)
    try:
        other, _ = contents.opened(copied, target)
        try:
            return contents.hold_same(one, other)
        finally:
            os.close(other)
    finally:
        os.close(one)
