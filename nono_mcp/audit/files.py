"""The log's files, opened once and judged by what was opened (FORMAT.md section 5).

Everything goes through a descriptor of the directory; no path is looked up twice. A directory or
file that others may write, that isn't ours, or that is a link in disguise is refused.
"""

import contextlib
import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from typing import Final

from nono_mcp.audit.errors import AuditError
from nono_mcp.audit.record import LINE_BYTES_MAX
from nono_sandbox import private

PRUNED: Final = "pruned.jsonl"
PRUNED_BYTES_MAX: Final = 256 * 1024 * 1024
TORN: Final = "torn"
SALTS: Final = "salts"
KEYS: Final = "keys"
LOCK_WAIT_S: Final = 30.0
STOPPED_AFTER_S: Final = 0.1
"""How long a lock is waited for before its holder is looked at."""
CHUNK_BYTES: Final = 256 * 1024

_segment = re.compile(r"[0-9]{16}\.jsonl")


class AuditPathError(AuditError):
    """The log's directory or a file in it isn't safely ours."""


def _judge(found: os.stat_result, name: str, *, directory: bool, whole: bool = True) -> None:
    kind = stat.S_ISDIR if directory else stat.S_ISREG
    if not kind(found.st_mode):
        raise AuditPathError(f"{name}: not a {'directory' if directory else 'regular file'}")
    if not whole:
        return
    if found.st_uid != os.geteuid():
        raise AuditPathError(f"{name}: belongs to uid {found.st_uid}, not to you")
    if found.st_mode & 0o077:
        raise AuditPathError(f"{name}: others have access; chmod go= it")
    if not directory and found.st_nlink > 1:
        raise AuditPathError(f"{name}: has another name (a hard link)")


def open_directory(path: str, *, create: bool, dir_fd: int | None = None) -> int:
    """Return a descriptor of the directory *path*, judged.

    Raises:
        AuditPathError: It's a symlink, somebody else's, or open to others.
        FileNotFoundError: It isn't there and wasn't to be made.
    """
    if create:
        private.ensure_directory(path, dir_fd)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            raise AuditPathError(f"{path}: not a directory of its own (a symlink?)") from error
        raise
    try:
        _judge(os.fstat(fd), path, directory=True)
    except AuditPathError:
        os.close(fd)
        raise
    return fd


def open_file(dir_fd: int, name: str, flags: int = os.O_RDONLY, *, judged: bool = True) -> int:
    """Return a descriptor of the file *name*; unless *judged*, modes and owner don't matter.

    Raises:
        AuditPathError: It's a link, no regular file, somebody else's, or open to others.
    """
    # O_NONBLOCK: a FIFO put in a file's place must not make us wait.
    try:
        fd = private.open_file(name, flags | os.O_NONBLOCK, dir_fd)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:
            raise AuditPathError(f"{name}: a symlink or no regular file") from error
        raise
    try:
        _judge(os.fstat(fd), name, directory=False, whole=judged)
    except AuditPathError:
        os.close(fd)
        raise
    return fd


def segments(dir_fd: int) -> list[str]:
    """Return the names of the segments, oldest first."""
    return sorted(name for name in os.listdir(dir_fd) if _segment.fullmatch(name))


def first_seq(name: str) -> int:
    """Return the seq of the first record in the segment *name*."""
    return int(name[:16])


def _wait_for_lock(dir_fd: int, how: int) -> None:
    # Not a blocking flock: a stopped process that holds it would stop every other for good.
    began_at = time.monotonic()
    pause_s = 0.0001
    while (waited_s := time.monotonic() - began_at) < LOCK_WAIT_S:
        time.sleep(pause_s)
        pause_s = min(0.002, pause_s * 1.5)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(dir_fd, how | fcntl.LOCK_NB)
            return
        # Whoever writes a record lets go within a millisecond; who is stopped won't by itself.
        if waited_s > STOPPED_AFTER_S and (pid := _stopped_holder(dir_fd)):
            raise AuditError(f"process {pid} holds the log's lock and is stopped; end or resume it")
    raise AuditError(f"another process has held the log's lock for {LOCK_WAIT_S} s")


def _stopped_holder(dir_fd: int) -> int | None:
    """Return which stopped process holds the directory's lock, where the kernel tells."""
    found = os.fstat(dir_fd)
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    try:
        with open("/proc/locks", encoding="ascii") as file:  # noqa: PTH123 - no import of pathlib
            held = [line.split() for line in file if device in line]
        for _, _, _, _, pid, *_ in held:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                state = file.read().rpartition(")")[2].split()[0]
            if state in "Tt":
                return int(pid)
    except (OSError, ValueError, IndexError):
        pass
    return None


class locked:  # noqa: N801 - `with files.locked(fd):` reads as what it does
    """Hold the lock of the directory; a class, since every append enters one.

    Raises:
        AuditError: Another process has held it for `LOCK_WAIT_S`.
    """

    __slots__ = ("_dir_fd", "_how")

    def __init__(self, dir_fd: int, how: int = fcntl.LOCK_EX) -> None:
        self._dir_fd = dir_fd
        self._how = how

    def __enter__(self) -> None:
        try:
            fcntl.flock(self._dir_fd, self._how | fcntl.LOCK_NB)
        except BlockingIOError:
            _wait_for_lock(self._dir_fd, self._how)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._dir_fd, fcntl.LOCK_UN)


def durable(fd: int) -> None:
    """Wait until what was written to *fd* survives a loss of power."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is None:
        os.fsync(fd)
    else:
        # macOS: fsync reaches the drive's cache only.
        fcntl.fcntl(fd, full)


def write_whole(fd: int, data: bytes) -> None:
    """Write all of *data*.

    Raises:
        OSError: Part of it may have been written.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def replace_file(dir_fd: int, name: str, data: bytes) -> None:
    """Put *data* in the file *name*: after a crash it's the old or the new one, whole."""
    temporary = f".{name}.{os.getpid()}.{os.urandom(4).hex()}"
    fd = open_file(dir_fd, temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        write_whole(fd, data)
        durable(fd)
        os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=dir_fd)
        raise
    finally:
        os.close(fd)
    durable(dir_fd)


def read_file(dir_fd: int, name: str, bytes_max: int, *, judged: bool = True) -> bytes:
    """Return the contents of the file *name*.

    Raises:
        AuditPathError: It holds more than *bytes_max*, or isn't safely ours.
    """
    fd = open_file(dir_fd, name, judged=judged)
    with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise AuditPathError(f"{name}: longer than {bytes_max} bytes")
    return data


def read_pruned(dir_fd: int, *, judged: bool = True) -> bytes:
    """Return what `pruned.jsonl` holds.

    Raises:
        FileNotFoundError: Nothing was ever pruned.
    """
    return read_file(dir_fd, PRUNED, PRUNED_BYTES_MAX, judged=judged)


def lines_forward(fd: int, start: int, end: int) -> Iterator[bytes]:
    """Yield the lines between two offsets; the last one may lack its LF."""
    rest = b""
    while start < end:
        chunk = os.pread(fd, min(CHUNK_BYTES, end - start), start)
        if not chunk:
            break
        start += len(chunk)
        if b"\n" not in chunk and len(rest) <= LINE_BYTES_MAX:
            rest += chunk
            continue
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line + b"\n"
        if len(rest) > LINE_BYTES_MAX:
            break
    if rest:
        yield rest


def lines_backward(fd: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, line) from the last line before *end* back to the first."""
    tail = b""
    chunk_bytes = 16 * 1024
    while end > 0:
        start = max(0, end - chunk_bytes)
        chunk_bytes = min(CHUNK_BYTES, chunk_bytes * 2)
        block = os.pread(fd, end - start, start) + tail
        cut = 0 if start == 0 else block.find(b"\n", 0, len(block) - 1) + 1
        if start and not cut and len(block) <= LINE_BYTES_MAX:
            tail, end = block, start
            continue
        tail, block = block[:cut], block[cut:]
        offset = start + cut + len(block)
        # Not splitlines: that would also cut at a carriage return somebody put there.
        last = block[-1:] != b"\n"
        pieces = block.split(b"\n")
        for line in ([pieces[-1]] if last else []) + [p + b"\n" for p in reversed(pieces[:-1])]:
            offset -= len(line)
            yield offset, line
        end = start
