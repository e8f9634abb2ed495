"""Sending a worker's message on its own socket, without ever waiting.

Architecture invariant: what was copied of the message is what is sent, to the address that was
judged. Its bytes alone are read anew for every try: nobody judges them.
"""

from __future__ import annotations

import errno
import fcntl
import os

from nono_sandbox.behalf import _syscalls, caller_socket, messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal

    from nono_sandbox.behalf.addresses import Kind
    from nono_sandbox.behalf.messages import Message
    from nono_sandbox.behalf.notifications import Caller
else:
    import _signal  # `signal` imports enum, which costs a bare start of Python

CHUNK_BYTES_MAX = 256 * 1024
"""How much of a stream is copied at once."""
CHUNKS_MAX = 4
"""How much of it one try sends, while others wait."""
IN_FLIGHT_MAX = 512
"""How many descriptors may be in flight, of all programs of the user, before one more message with
some is sent: half of what most programs may have open, above which the kernel lets them pass none.
"""
_OOB, _DONTROUTE, _DONTWAIT, _EOR, _CONFIRM, _NOSIGNAL, _MORE = (
    *(0x1, 0x4, 0x40, 0x80, 0x800),
    *(0x4000, 0x8000),
)
_PASSED_ON = _OOB | _DONTROUTE | _EOR | _CONFIRM | _MORE
_AT_ITS_END = _OOB | _EOR | _MORE
_ZEROCOPY = 0x400_0000
_SO_SNDBUF = 7


class Sending:
    """A message under way: part of it may have been sent."""

    def __init__(
        self, caller: Caller, socket_fd: int, kind: Kind, message: Message, control: bytes
    ) -> None:
        self._caller = caller
        self._fd = socket_fd
        self._kind = kind
        self._message = message
        self._control = control
        self._sent_bytes = 0
        self._waits = not (
            message.flags & _DONTWAIT or fcntl.fcntl(socket_fd, fcntl.F_GETFL) & os.O_NONBLOCK
        )
        self.on_giving_up = errno.EAGAIN
        self.address = b""
        """Where it goes, if it goes elsewhere than whom the socket is connected to."""
        self.wake_fd = socket_fd if kind.is_stream else -1
        """A descriptor that is writable when there is a point in another try, if one is."""

    @property
    def patience_s(self) -> float:
        """Return how long it may be tried in all."""
        return caller_socket.patience_s(self._fd)

    def attempt(self) -> int | None:
        """Send what can be sent; return the call's result, negative an errno, or None: it waits."""
        try:
            sent = self._stream() if self._kind.is_stream else self._record()
        except BlockingIOError:
            return None if self._waits else self.given_up(errno.EAGAIN)
        except OSError as error:
            number = error.errno or errno.EACCES
            if number == errno.EPIPE and self._kind.is_stream and not self._sent_bytes:
                self._signal()
            return self.given_up(number)
        return None if sent is None else self._result(sent)

    def given_up(self, number: int) -> int:
        """Return the call's result if there is no other try, for a reason with that errno."""
        return self._result(self._sent_bytes) if self._sent_bytes else -number

    def _result(self, sent_bytes: int) -> int:
        told_at = self._message.told_at
        if told_at is None:
            return sent_bytes
        try:
            self._caller.write(told_at, sent_bytes.to_bytes(4, "little"))
        except OSError as error:
            return -(error.errno or errno.EFAULT)
        return 1

    def _record(self) -> int:
        """Send all of it as one."""
        size = self._message.size_bytes
        if size > caller_socket.option(self._fd, caller_socket.SOL_SOCKET, _SO_SNDBUF):
            raise OSError(errno.EMSGSIZE, "more than the socket may hold")
        content = messages.body(self._message, 0, size, self._caller)
        return self._send(content, self._message.flags)

    def _stream(self) -> int | None:
        """Send the next of it; return how much was sent in all when that is all there will be."""
        size = self._message.size_bytes
        for _ in range(CHUNKS_MAX):
            content = messages.body(self._message, self._sent_bytes, CHUNK_BYTES_MAX, self._caller)
            is_last = self._sent_bytes + len(content) >= size
            flags = self._message.flags
            self._sent_bytes += self._send(content, flags if is_last else flags & ~_AT_ITS_END)
            self._control = b""
            if self._sent_bytes >= size:
                return self._sent_bytes
        return None if self._waits else self._sent_bytes

    def _send(self, content: bytes, flags: int) -> int:
        flags = flags & _PASSED_ON | _DONTWAIT | _NOSIGNAL
        parts = self.address, content, self._control
        if not self._control:
            return _syscalls.sendmsg(self._fd, parts, flags)
        # The kernel compares what is in flight with the limit of who sends (ETOOMANYREFS).
        import resource

        usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        lower = IN_FLIGHT_MAX if usual == resource.RLIM_INFINITY else min(usual, IN_FLIGHT_MAX)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lower, most))
        try:
            return _syscalls.sendmsg(self._fd, parts, flags)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (usual, most))

    def _signal(self) -> None:
        if not self._message.flags & _NOSIGNAL:
            self._caller.signal(_signal.SIGPIPE)


def check(kind: Kind, message: Message, socket_fd: int) -> None:
    """Refuse what can't be sent on a socket of *kind* whatever its address is.

    Raises:
        OSError: What the call is to return.
    """
    if message.flags & _ZEROCOPY:
        # The bytes that the kernel would keep are those of whoever acts. Callers copy then.
        raise OSError(errno.ENOBUFS, "nothing is sent without a copy")
    if message.name and kind.local and kind.is_stream:
        has_peer = caller_socket.has_peer(socket_fd)
        raise OSError(errno.EISCONN if has_peer else errno.EOPNOTSUPP, "it takes no address")
