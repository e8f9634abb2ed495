"""A file's content replaced, so that whoever reads it meanwhile sees the old or the new.

It is written before it has a name, so that nothing is left of it if it's killed. It takes the
file's place in one step, which also brings the old file to light: if that isn't the one that was
read, it goes back, and the write is refused. Where a file can't be replaced (a grant of it alone, a
directory that may not be written) or shouldn't be (other hard links, an owner or attributes of its
own) it is written where it stands. Where no file is without a name (macOS, some file systems), it
is written beside, under a name of ours.

Nothing is synced: what a loss of power leaves is the file system's matter.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

from nono_sandbox import renaming
from nono_sandbox.builtin.failures import FailedError
from nono_sandbox.builtin.opening import real
from nono_sandbox.opath import WAY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import BufferedWriter
    from typing import Any

_PERMISSIONS = 0o777
_NEW_FILE = 0o666
_CANT_BE_REPLACED = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV, errno.EINVAL}
)
_NO_NAMELESS = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT})
_APPEARED = "it came into being meanwhile: read it first"
_CHANGED = "it was changed meanwhile: read it again"


def write_file(request: Mapping[str, Any]) -> tuple[dict[str, object], bytes]:
    """Make `content` the content of the file `path`; directories on the way are made."""
    data = request["content"].encode("utf-8")
    path = real(request["path"])
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    except FileExistsError as error:
        raise FailedError("it is no directory, and nothing can be in it", error.filename) from error
    return {"path": path, "size_bytes": len(data)} | put(path, data), b""


def put(path: str, data: bytes, seen: os.stat_result | None = None) -> dict[str, object]:
    """Write *data* to *path*, which has no symlink in it; *seen* is what was read there.

    Raises:
        FailedError: Something else stands there than what was seen. It was left alone.
        OSError: It can't be written.
    """
    folder, name = os.path.split(path)
    directory = os.open(folder, WAY)
    try:
        old = _status(directory, name)
        if old is not None and not stat.S_ISREG(old.st_mode):
            kind = (
                "a directory: name a file in it" if stat.S_ISDIR(old.st_mode) else "no regular file"
            )
            raise FailedError(f"it is {kind}", path)
        if seen is not None and (old is None or not _same(seen, old)):
            raise FailedError(_CHANGED, path)
        in_place = _in_place_reason(path, old)
        if old is not None and in_place:
            _overwrite(directory, name, data)
        else:
            in_place = _replace(directory, name, data, old)
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or errno.EIO), path) from error
    finally:
        os.close(directory)
    return {"created": old is None, "in_place": in_place}


def _status(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    """Tell whether a file is still the one that it was, contents and all.

    Not by its ctime, which a rename changes.
    """
    return (one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns) == (
        other.st_dev,
        other.st_ino,
        other.st_size,
        other.st_mtime_ns,
    )


def _in_place_reason(path: str, old: os.stat_result | None) -> str:
    """Return why a new file in its place wouldn't be the same file, if so."""
    if old is None:
        return ""
    if old.st_nlink > 1:
        return "it has other hard links"
    if old.st_uid != os.geteuid() or old.st_mode & ~_PERMISSIONS & 0o7777:
        return "its owner or mode can't be given to another"
    return "it has attributes" if _attributes(path) else ""


def _attributes(path: str) -> list[str]:
    if sys.platform != "linux":
        # Python knows none of macOS's, where most files have one (com.apple.provenance).
        return []
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise
    # The label of a new file is the system's to choose.
    return [name for name in names if name != "security.selinux"]


def _replace(directory: int, name: str, data: bytes, old: os.stat_result | None) -> str:
    """Put a new file in the place of *old*; return why that one was written instead, if it was."""
    beside = f".nono-{os.urandom(8).hex()}"
    try:
        # One that is new has its name at once; one to swap with needs one beside.
        is_there = _nameless(directory, name if old is None else beside, data, old)
        if not is_there:
            _named(directory, beside, data, old)
    except OSError as error:
        if old is None or error.errno not in _CANT_BE_REPLACED:
            raise
        _overwrite(directory, name, data)
        return "its directory can't be written"
    try:
        if old is not None:
            return _exchange(directory, beside, name, data, old)
        if not is_there:
            _appear(directory, beside, name)
    finally:
        _remove(directory, beside)
    return ""


def _nameless(directory: int, name: str, data: bytes, old: os.stat_result | None) -> bool:
    """Write a file and give it *name*, where nothing stands; False is: not in this place."""
    if sys.platform != "linux":
        return False
    flags = os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC
    try:
        fd = os.open(".", flags, _NEW_FILE if old is None else 0o600, dir_fd=directory)
    except OSError as error:
        if error.errno in _NO_NAMELESS:
            return False
        raise
    with open(fd, "wb") as stream:
        _fill(stream, data, old)
        try:
            # By its name in /proc: without one, linking takes a capability before Linux 6.10.
            os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=directory, follow_symlinks=True)
        except FileExistsError:
            raise FailedError(_APPEARED, name) from None
        except FileNotFoundError:
            return False  # there is no /proc
    return True


def _named(directory: int, beside: str, data: bytes, old: os.stat_result | None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(beside, flags, _NEW_FILE if old is None else 0o600, dir_fd=directory)
    try:
        with open(fd, "wb") as stream:
            _fill(stream, data, old)
    except BaseException:
        _remove(directory, beside)
        raise


def _fill(stream: BufferedWriter, data: bytes, old: os.stat_result | None) -> None:
    stream.write(data)
    stream.flush()
    if old is not None:
        os.fchmod(stream.fileno(), stat.S_IMODE(old.st_mode))


def _appear(directory: int, beside: str, name: str) -> None:
    try:
        renaming.appear(directory, beside, name)
    except OSError as error:
        if error.errno == errno.EEXIST:
            raise FailedError(_APPEARED, name) from None
        if error.errno != errno.EINVAL:
            raise
        # A file system that knows no such flag.
        os.rename(beside, name, src_dir_fd=directory, dst_dir_fd=directory)


def _exchange(directory: int, beside: str, name: str, data: bytes, old: os.stat_result) -> str:
    try:
        renaming.exchange(directory, beside, name)
    except OSError as error:
        if error.errno not in _CANT_BE_REPLACED:
            raise
        _overwrite(directory, name, data)
        return "its place can't be taken by another file"
    replaced = _status(directory, beside)
    if replaced is not None and not _same(old, replaced):
        renaming.exchange(directory, beside, name)
        raise FailedError(_CHANGED, name)
    return ""


def _overwrite(directory: int, name: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    with open(os.open(name, flags, dir_fd=directory), "wb") as stream:
        # What is cut off first can't come back if there is no room for the rest.
        stream.write(data)
        stream.truncate()


def _remove(directory: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
