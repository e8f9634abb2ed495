"""Seccomp's user notification: system calls that wait for another process to act and answer.

Specified by seccomp_unotify(2). A call is answered with a result of ours and never let through:
what its pointers point to may have changed since it was read.

Architecture invariant: no policy. A caller's memory, descriptors and directory are taken from the
very thread that waits; a `Caller` is to be trusted once `valid` has said so after it was made.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from nono_sandbox.behalf import _syscalls
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal  # `signal` imports enum, which costs a bare start of Python

_RECEIVE = 0xC050_2100
_SEND = 0xC018_2101
_ID_VALID = 0x4008_2102
_SET_FLAGS = 0x4008_2104
_SYNC_WAKE_UP = 1
_NOTICE = struct.Struct("=QIIiIQ6Q")
"""struct seccomp_notif: id, pid, flags; then struct seccomp_data."""
_RESPONSE = struct.Struct("=QqiI")
PATH_BYTES_MAX = 4096
"""PATH_MAX, the zero at the end included."""
_PIDFD_THREAD = os.O_EXCL
_SIGNAL_SETS = (b"SigPnd", b"ShdPnd", b"SigBlk", b"SigIgn")


class Notice(Value):
    """A system call that waits."""

    listener: int
    id: int
    tid: int
    """The thread, as this process's PID namespace numbers it."""
    number: int
    args: tuple[int, ...]


def receive(listener: int) -> Notice | None:
    """Return the next call that waits at *listener*, as poll found; None if it's gone."""
    body = bytearray(_NOTICE.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, body)
    except FileNotFoundError:
        return None
    number_id, tid, _, number, _, _, *args = _NOTICE.unpack(body)
    return Notice(listener, number_id, tid, number, tuple(args))


def hasten(listener: int) -> None:
    """Have whoever waits at *listener* and whoever answers hand a processor to each other."""
    fcntl.ioctl(listener, _SET_FLAGS, _SYNC_WAKE_UP)


def valid(notice: Notice) -> bool:
    """Tell whether the caller still waits, and so is who it was."""
    try:
        fcntl.ioctl(notice.listener, _ID_VALID, struct.pack("=Q", notice.id))
    except FileNotFoundError:
        return False
    return True


def answer(notice: Notice, result: int) -> None:
    """Have the call return *result*, which is an errno if it's negative."""
    try:
        response = _RESPONSE.pack(notice.id, max(result, 0), min(result, 0), 0)
        fcntl.ioctl(notice.listener, _SEND, response)
    except FileNotFoundError:
        return  # it was killed meanwhile


class Caller:
    """What the thread that waits has: its memory, its descriptors, where it is."""

    def __init__(self, tid: int) -> None:
        self.tid = tid
        self._fds: list[int] = []
        self._opened: dict[str, int] = {}
        self.umask = 0o777
        """Its own, once it is held."""
        self.has_lent = False
        """A descriptor of its own was taken: closing that may be what ends it, and may wait."""

    def hold(self) -> None:
        """Open all of it, so that the next `valid` vouches for whatever is asked for later.

        Raises:
            OSError: It has gone; or made itself unreadable.
        """
        _ = self._pidfd, self._memory, self.cwd
        self.umask = umask(self.tid)

    def hold_for_sending(self, *, told: bool) -> None:
        """Open what a message is made of, as `hold` does; *told*: and `write` into its memory."""
        _ = self._pidfd, self._once("mem", os.O_RDWR if told else os.O_RDONLY)

    @property
    def held_count(self) -> int:
        """Return how many descriptors are held for it."""
        return len(self._fds)

    @property
    def cwd(self) -> int:
        """Return a descriptor of its current directory."""
        return self._once("cwd", os.O_PATH)

    @property
    def root(self) -> int:
        """Return a descriptor of its root, in its mount namespace."""
        return self._once("root", os.O_PATH)

    @property
    def where(self) -> bytes:
        """Return the path of its current directory, in its mount namespace."""
        return os.readlink(os.fsencode(f"/proc/{self.tid}/cwd"))

    @property
    def _memory(self) -> int:
        return self._once("mem", os.O_RDONLY)

    @property
    def _pidfd(self) -> int:
        if "pidfd" not in self._opened:
            self._opened["pidfd"] = self.keep(os.pidfd_open(self.tid, _PIDFD_THREAD))
        return self._opened["pidfd"]

    def _once(self, name: str, flags: int) -> int:
        if name not in self._opened:
            fd = os.open(f"/proc/{self.tid}/{name}", flags | os.O_CLOEXEC)
            self._opened[name] = self.keep(fd)
        return self._opened[name]

    def keep(self, fd: int) -> int:
        """Have *fd* closed with the rest."""
        self._fds.append(fd)
        return fd

    def read(self, address: int, size_bytes: int) -> bytes:
        """Return what its memory holds now.

        Raises:
            OSError: EFAULT, since not all of it is there.
        """
        try:
            found = os.pread(self._memory, size_bytes, address)
        except (OSError, OverflowError):
            found = b""
        if len(found) != size_bytes:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
        return found

    def write(self, address: int, content: bytes) -> None:
        """Put *content* in its memory, if it is held for that.

        Raises:
            OSError: EFAULT, since it can't be put there.
        """
        try:
            written = os.pwrite(self._memory, content, address)
        except (OSError, OverflowError):
            written = 0
        if written != len(content):
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))

    def signal(self, number: int) -> None:
        """Send a signal to the thread, as the kernel would for its call."""
        try:
            _signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return  # it was killed meanwhile

    def read_path(self, address: int) -> bytes:
        """Return the path that its memory holds at *address* now, as the kernel would copy it.

        Raises:
            OSError: EFAULT, since its end isn't there; ENAMETOOLONG.
        """
        try:
            found = os.pread(self._memory, PATH_BYTES_MAX, address)
        except OverflowError:
            found = b""
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EFAULT, errno.EINVAL):
                raise
            found = b""
        path, end, _ = found.partition(b"\0")
        if not end:
            number = errno.ENAMETOOLONG if len(found) == PATH_BYTES_MAX else errno.EFAULT
            raise OSError(number, os.strerror(number))
        return path

    def take(self, fd: int) -> int:
        """Return our own descriptor of what its descriptor *fd* refers to; `close` closes it."""
        self.has_lent = True
        return self.keep(_syscalls.pidfd_getfd(self._pidfd, fd))

    def interrupted(self) -> bool:
        """Tell whether a signal waits for it that a call of the kernel's own would heed."""
        try:
            found = status(self.tid)
        except OSError:
            return True
        own, shared, blocked, ignored = (int(found[name], 16) for name in _SIGNAL_SETS)
        return bool((own | shared) & ~blocked & ~ignored)

    def close(self) -> None:
        """Give back all that was taken."""
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()


def status(tid: int) -> dict[bytes, bytes]:
    """Return what /proc says of a thread, by its names."""
    fd = os.open(f"/proc/{tid}/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        lines = os.read(fd, 16384).splitlines()
    finally:
        os.close(fd)
    pairs = (line.partition(b":") for line in lines)
    return {name: text.strip() for name, _, text in pairs}


def umask(tid: int) -> int:
    """Return the umask of a thread.

    Raises:
        ProcessLookupError: It is being killed, and has none any more.
    """
    found = status(tid).get(b"Umask")
    if found is None:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    return int(found, 8)


def as_int(register: int) -> int:
    """Return what the kernel takes a register for where it expects an int."""
    low = register & 0xFFFF_FFFF
    return low - (1 << 32) if low >> 31 else low
