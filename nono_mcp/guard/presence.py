"""The file by which a guard tells others that its calls run, locked for as long as it lives.

Specified by FORMAT.md beside this file.

Architecture invariant: what can't be told counts as a call that may have left something.
"""

from __future__ import annotations

import errno
import fcntl
import posix as os
import time

from nono_mcp.guard import directory_identity
from nono_sandbox import private
from nono_sandbox.opath import is_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.guard.write_through import WriteThrough

ALONE, LEFT, OTHERS, ENDING, OLD, IDLE = range(6)
"""Nobody else's call runs; none does, but one was killed; one does; one was killed just now.

Or so long ago that what is there now says nothing of it. Or none does, and one may at any time.
"""

GRACE_NS = 10 * 10**9
"""How long what a killed server ran may go on until the kernel has ended it too."""

OLD_S = 3 * 86400
"""What was killed before the machine was started, and wrote nothing for so long, is OLD."""

PREFIX = "calls-"
_RUNS, _IDLE = b"r", b"i"
_LINE_BYTES = 60
_BOOT_BYTES = 36
_BOOT = slice(2, 2 + _BOOT_BYTES)
_RANDOM_BYTES = 8
_TRIES = 16
_OWN_LENGTH = len(PREFIX) + 2 * _RANDOM_BYTES
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def new_name() -> str:
    """Return the beginning of a name, as no other begins."""
    return f"{PREFIX}{os.urandom(_RANDOM_BYTES).hex()}"


class Presence:
    """Our own file, which has a name in each directory where our calls are told of.

    Made by the first call. Where a file can't have more than one name, each directory has one.
    """

    def __init__(self, write_through: WriteThrough | None) -> None:
        self.runs = False
        """What the file says to who looks."""
        self._fds: list[int] = []
        self._names: dict[str, tuple[str, str]] = {}
        """The directory's path and the file's name there, each by the beginning of that."""
        self._write_through = write_through
        self._lock = _Unlocked() if write_through is None else write_through.lock
        self._is_warm = False
        """What the file says is for who looks after a power cut, too."""
        self._rested_at = 0.0

    def is_in(self, own: str) -> bool:
        """Tell whether it has the name that begins with *own*."""
        return own in self._names

    def is_its(self, name: str) -> bool:
        """Tell whether *name* is one of its own, in whichever directory."""
        return name[:_OWN_LENGTH] in self._names

    def join(self, own: str, path: str, directory: int, whose: str) -> None:
        """Have a name in the directory *path*, open and ours alone to look at meanwhile.

        It begins with *own*. Calls run where it's told by *whose*; see `directory_identity`.

        Raises:
            OSError: There's none. Run nothing.
        """
        _, old = self._names.get(own, ("", ""))
        name = f"{own}-{whose}" if whose else own
        if not old:
            with self._lock:
                self._fds += self._linked(name, directory)
                self._names[own] = path, name
        elif old != name and not self.runs:
            with self._lock:
                os.rename(old, name, src_dir_fd=directory, dst_dir_fd=directory)
                self._names[own] = path, name

    def _linked(self, name: str, directory: int) -> list[int]:
        for path, known in self._names.values():
            try:
                os.link(f"{path}/{known}", name, dst_dir_fd=directory, follow_symlinks=False)
            except OSError:
                break  # on to a file of its own, whatever it is that this file system can't do
            return []
        fd = private.open_file(name, _OPEN | os.O_CREAT | os.O_EXCL, directory)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(fd, _line(2 * (_RUNS if self.runs else _IDLE), _boot(), b""), 0)
        except BaseException:
            os.close(fd)
            raise
        return [fd]

    def leave(self, own: str, directory: int) -> None:
        """Have no name any more that begins with *own*, in the open *directory*."""
        with self._lock:
            name = self._names.pop(own)[1]
        # contextlib.suppress would cost its import on the way to every program.
        try:  # noqa: SIM105
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            pass  # who removes our state by hand has done it

    def run(self) -> None:
        """Say that calls run.

        Raises:
            OSError: It isn't said. Run nothing.
        """
        with self._lock:
            for fd in self._fds:
                os.pwrite(fd, 2 * _RUNS, 0)
            self.runs = True
            if self._write_through is not None and not self._is_warm:
                self._is_warm = True
                self._write_through.ran(self)

    def rest(self) -> None:
        """Say that no call runs, and all of them were looked at."""
        if self.runs:
            with self._lock:
                for fd in self._fds:
                    os.pwrite(fd, _IDLE if self._is_warm else 2 * _IDLE, 0)
                self._rested_at = time.monotonic()
                self.runs = False

    def cool(self, quiet_s: float) -> bool:
        """Have the disk say that no call runs, if none has for *quiet_s*; tell whether it does."""
        with self._lock:
            if not self._fds:
                return True
            if self.runs or time.monotonic() - self._rested_at < quiet_s:
                return False
            for fd in self._fds:
                os.pwrite(fd, _IDLE, 1)
            self._is_warm = False
            return True

    def write_through(self) -> None:
        """Have on the disk what the file says, and what others are told beside it.

        Raises:
            OSError: It isn't there.
        """
        with self._lock:
            fds, paths = (
                [os.dup(fd) for fd in self._fds],
                [path for path, _ in self._names.values()],
            )
        while fds:
            _sync(fds.pop())
        for path in paths:
            _sync_all(path)

    def close(self) -> None:
        """Leave the file to be found by others, or to nobody."""
        with self._lock:
            while self._fds:
                os.close(self._fds.pop())


def look(name: str, directory: int, whose: str) -> int:
    """Return what the file *name* of another session in the open *directory* says.

    What it says of another directory than *whose* is `ALONE`, or `IDLE` if the session lives. It's
    removed if nothing follows from it any more.
    """
    try:
        fd = os.open(name, _OPEN, dir_fd=directory)
    except FileNotFoundError:
        return ALONE
    theirs = name.removeprefix(PREFIX).partition("-")[2]
    try:
        line = os.pread(fd, _LINE_BYTES, 0)
        if not lock(fd, fcntl.LOCK_SH):
            here = _is_same(theirs, whose, same_boot=True)
            return OTHERS if here and line[:1] != _IDLE else IDLE
        here = _is_same(theirs, whose, same_boot=line[_BOOT] == _boot())
        found = _of_dead(fd, line)
    finally:
        os.close(fd)
    if found == ALONE or (found == OLD and not here):
        os.unlink(name, dir_fd=directory)
    return found if here else ALONE


def _is_same(theirs: str, whose: str, *, same_boot: bool) -> bool:
    """Tell whether *theirs* may be calls in the directory that is told by *whose*."""
    if not (theirs and whose):
        return True
    # Another start of the machine may number its devices otherwise.
    return theirs == whose or not (same_boot or directory_identity.is_born(theirs))


def _of_dead(fd: int, line: bytes) -> int:
    boot, now = _boot(), time.monotonic_ns()
    known = boot.strip() != b""
    same = known and line[_BOOT] == boot
    # Of another time that this machine was up only what was to last is sure.
    ran = line[:1] != _IDLE if same else line[:2] != 2 * _IDLE
    if not line or not ran:
        return ALONE
    if known and not same:
        return OLD if time.time() - os.fstat(fd).st_mtime > OLD_S else LEFT
    since = line[_BOOT.stop :].strip()
    if not since.isdigit() or int(since) > now:
        os.pwrite(fd, _line(2 * _RUNS, boot, b"%d" % now), 0)
        return ENDING
    return ENDING if now - int(since) < GRACE_NS else LEFT


def _line(flags: bytes, boot: bytes, since_ns: bytes) -> bytes:
    return flags + boot + b" %20s\n" % since_ns


def _boot() -> bytes:
    """Return by what one start of the machine is told from another; spaces, if it isn't."""
    try:
        fd = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b" " * _BOOT_BYTES
    try:
        return os.read(fd, _BOOT_BYTES).strip().ljust(_BOOT_BYTES)
    finally:
        os.close(fd)


def lock(fd: int, kind: int) -> bool:
    """Lock the open file *fd*, unless somebody else has; tell whether it is."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync_all(path: str) -> None:
    """Have on the disk what is in the directory *path*, if it's there, and its own name."""
    for _ in range(_TRIES):
        try:
            for name in (*os.listdir(path), ".", "..", "../.."):
                if not name.startswith(PREFIX):
                    _sync(os.open(f"{path}/{name}", _READ))
        except FileNotFoundError:
            # A file has another name by now, under which it's found next time; or somebody
            # removes our state by hand, and then it's gone for good.
            if not is_there(path):
                return
        else:
            return
    raise OSError(errno.EAGAIN, f"{path} changed all the time")


def _sync(fd: int) -> None:
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class _Unlocked:
    """Stands for a lock where there's one thread."""

    def __enter__(self) -> None:
        """Hold nothing."""

    def __exit__(self, *_: object) -> None:
        """Let go of nothing."""
