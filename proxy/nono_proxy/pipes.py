"""Pipes, by which the kernel hands on from socket to socket what has come (splice(2)): no copy.

A pipe is lent for as long as it holds something, so that few are enough for any number of
connections. Where there's no splice, there's no pipe to be had.

Architecture invariant: nothing is looked at here.
"""

import contextlib
import errno
import fcntl
import os
import socket
import sys

_HELD_BYTES_MAX = 1 << 20
_LENT_MAX = 16
_IDLE_MAX = 2
# What a kernel or a filter says that knows no splice for these, or doesn't want to.
_UNABLE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EACCES})


class Pipe:
    """One pipe, and how many octets it holds."""

    __slots__ = ("_by", "_exit", "_mouth", "held")

    def __init__(self, by: "Pipes", ends: tuple[int, int]) -> None:
        self._by = by
        self._exit, self._mouth = ends
        self.held = 0

    def fill(self, source: socket.socket, count: int) -> int:
        """Take up to *count* octets of those that have come to *source*; return how many."""
        taken = _splice(source.fileno(), self._mouth, count)
        self.held += taken
        return taken

    def drain(self, into: socket.socket) -> int:
        """Send what there's room for; return how much."""
        sent = _splice(self._exit, into.fileno(), self.held)
        self.held -= sent
        return sent

    def leave(self) -> None:
        """Give it back; what it holds is lost."""
        self._by.put(self)

    def close(self) -> None:
        """Close both ends."""
        os.close(self._exit)
        os.close(self._mouth)


class Pipes:
    """The pipes of one proxy."""

    def __init__(self) -> None:
        self._able = sys.platform == "linux"
        self._idle: list[Pipe] = []
        self._lent = 0

    @property
    def may_lend(self) -> bool:
        """Tell whether there may be a pipe to be had."""
        return self._able and self._lent < _LENT_MAX

    def fill(self, source: socket.socket, count: int) -> Pipe | None:
        """Return a pipe with up to *count* octets of those that have come to *source*.

        None if there's no pipe to be had, or nothing has come.
        """
        pipe = self._take()
        if pipe is None:
            return None
        try:
            if pipe.fill(source, count):
                return pipe
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in _UNABLE:
                raise
            self._able = False
        finally:
            if not pipe.held:
                pipe.leave()
        return None

    def _take(self) -> Pipe | None:
        if not self.may_lend:
            return None
        if self._idle:
            pipe = self._idle.pop()
        else:
            try:
                pipe = Pipe(self, _ends())
            except OSError:
                # No descriptor is left: those that there are have better uses.
                return None
        self._lent += 1
        return pipe

    def put(self, pipe: Pipe) -> None:
        """Take one back."""
        self._lent -= 1
        if pipe.held or len(self._idle) >= _IDLE_MAX:
            pipe.close()
        else:
            self._idle.append(pipe)

    def close(self) -> None:
        """Close those that hold nothing, and lend none any more."""
        self._able = False
        while self._idle:
            self._idle.pop().close()


def _splice(source: int, into: int, count: int) -> int:
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "no splice")
    return os.splice(source, into, count, flags=os.SPLICE_F_NONBLOCK)


def _ends() -> tuple[int, int]:
    """Return a pipe's ends: where it's read, and where it's written."""
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "no splice")
    ends = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    # Whose user has many of that size gets a shorter one (pipe(7)), which holds less.
    with contextlib.suppress(OSError):
        fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, _HELD_BYTES_MAX)
    return ends
