"""The places in a new root at which something is mounted: found, or made where they may be.

Every function takes the new root as an open directory, and paths as they will be in it.

Architecture invariant: nothing is made where a caller doesn't say that it may be: a person's own
directory, which is bound into the root, is left as it is.
"""

from __future__ import annotations

import _stat as stat
import errno
import posix as os

from nono_sandbox import _mounting, _uapi

_NAMED = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def attach_in(directory: int, name: str, mount: int) -> None:
    """Attach *mount* at *name* in the open *directory*, and close it."""
    _mounting.move_mount(mount, directory, name)
    os.close(mount)


def attach_at(
    root: int, path: str, mount: int, *, directory: bool = True, may_make: bool = True
) -> None:
    """Attach *mount* at *path*, as `put` does, and close it."""
    put(root, path, mount, directory=directory, may_make=may_make)
    os.close(mount)


def put(root: int, path: str, mount: int, *, directory: bool, may_make: bool) -> None:
    """Attach *mount* at *path*, which is made if it isn't there and *may_make*."""
    if may_make and _put_on_new(root, path, mount, directory=directory):
        return
    fd = point(root, path, directory=directory, may_make=may_make)
    _mounting.move_mount(mount, fd)
    os.close(fd)


def _put_on_new(root: int, path: str, mount: int, *, directory: bool) -> bool:
    """Make the last of *path*, and attach *mount* there; False if it's there, or more isn't."""
    above, _, name = path.strip("/").rpartition("/")
    try:
        parent = _uapi.open_beneath(root, above, os.O_PATH) if above else root
    except OSError:
        return False
    try:
        _make(parent, name, directory=directory)
        _mounting.move_mount(mount, parent, name)
    except (FileExistsError, NotADirectoryError):
        return False
    finally:
        if parent != root:
            os.close(parent)
    return True


def point(root: int, path: str, *, directory: bool, may_make: bool) -> int:
    """Return a descriptor of the mount point *path*, made if it isn't there and *may_make*."""
    try:
        fd = _uapi.open_beneath(root, path.lstrip("/"), os.O_PATH)
        if stat.S_ISDIR(os.fstat(fd).st_mode) == directory:
            return fd
        os.close(fd)
        if not may_make:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    except OSError as error:
        if not may_make or error.errno not in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            raise
    parts = path.strip("/").split("/")
    fd = os.dup(root)
    for depth, name in enumerate(parts, start=1):
        step = made(fd, name, directory=directory or depth < len(parts))
        os.close(fd)
        fd = step
    return fd


def _make(parent: int, name: str, *, directory: bool) -> None:
    if directory:
        os.mkdir(name, 0o755, dir_fd=parent)
    else:
        os.mknod(name, 0o600 | stat.S_IFREG, dir_fd=parent)


def made(parent: int, name: str, *, directory: bool) -> int:
    """Open *name* in *parent*, which is ours; whatever else has that name makes room."""
    try:
        _make(parent, name, directory=directory)
    except FileExistsError:
        fd = os.open(name, _NAMED, dir_fd=parent)
        if stat.S_ISDIR(os.fstat(fd).st_mode) == directory:
            return fd
        os.close(fd)
        os.unlink(name, dir_fd=parent)
        _make(parent, name, directory=directory)
    return os.open(name, _NAMED, dir_fd=parent)


def linked(parent: int, name: str, target: str) -> int:
    """Open the symlink *name* to *target* in *parent*, which is ours; see `made`.

    Raises:
        OSError: A directory has that name, and isn't empty.
    """
    try:
        os.symlink(target, name, dir_fd=parent)
    except FileExistsError:
        fd = os.open(name, _NAMED, dir_fd=parent)
        is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        if _target(fd) == target:
            return fd
        os.close(fd)
        (os.rmdir if is_directory else os.unlink)(name, dir_fd=parent)
        os.symlink(target, name, dir_fd=parent)
    fd = os.open(name, _NAMED, dir_fd=parent)
    if _target(fd) == target:
        return fd
    os.close(fd)
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)


def _target(fd: int) -> str | None:
    try:
        return os.readlink("", dir_fd=fd)
    except OSError:
        return None  # no symlink


def symlink(root: int, path: str, target: str) -> None:
    """Make a symlink at *path*, if nothing is there."""
    parent, _, name = path.rpartition("/")
    directory = point(root, parent, directory=True, may_make=True) if parent else root
    try:
        os.symlink(target, name, dir_fd=directory)
    except FileExistsError:
        pass  # a grant stands there already, or two grants share a link
    finally:
        if directory != root:
            os.close(directory)
