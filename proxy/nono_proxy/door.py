"""Where the proxy's clients come in: a listener, and how many of them there are.

Architecture invariant: nothing is decided here but whether there's room.
"""

import asyncio
import contextlib
import errno
import socket
import sys
from collections.abc import Callable

from nono_proxy.watching import READ, Watch
from nono_proxy.wires import Wire

_ACCEPTS_MAX = 32
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_NO_ROOM_PAUSE_S = 1.0


class Door:
    """A listener, and what is made of who comes.

    While as many are in as may be, who comes waits outside, where it takes none of our descriptors.
    """

    def __init__(
        self,
        by: Watch,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        factory: Callable[[], asyncio.BaseProtocol],
        *,
        room: Callable[[], int],
    ) -> None:
        self._room = room
        self._count = 0
        self._shut = False
        self._by = by
        self._loop = loop
        self._listener = listener
        self._factory = factory
        self._pause: asyncio.TimerHandle | None = None
        listener.settimeout(0)
        # Who is accepted inherits these.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _send_unpaced(listener)
        by.set(listener.fileno(), self, READ)

    def ready(self, events: int, /) -> None:
        """Let in who waits."""
        del events
        for _ in range(_ACCEPTS_MAX):
            if self._count >= self._room():
                self._shut = True
                self._by.set(self._listener.fileno(), self, 0)
                return
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                # Somebody has to go before anybody can come.
                self._by.set(self._listener.fileno(), self, 0)
                self._pause = self._loop.call_later(_NO_ROOM_PAUSE_S, self._go_on)
                return
            sock.settimeout(0)
            self._count += 1
            # Who comes to ask has asked by now, more often than not.
            Wire(self._by, self._loop, sock, self._factory(), self._left).begin(asked=True)

    def _left(self) -> None:
        self._count -= 1
        if self._shut and self._count < self._room():
            self._go_on()

    def _go_on(self) -> None:
        self._pause = None
        self._shut = False
        if self._listener.fileno() >= 0:
            self._by.set(self._listener.fileno(), self, READ)

    def stop(self) -> None:
        """End: nobody watches any more."""
        self.close()

    def close(self) -> None:
        """Let nobody in any more."""
        if self._listener.fileno() < 0:
            return
        if self._pause is not None:
            self._pause.cancel()
        elif not self._shut:
            self._by.set(self._listener.fileno(), self, 0)
        self._listener.close()


def _send_unpaced(listener: socket.socket) -> None:
    """Let nothing wait for a timer on its way to a client, which is on the same machine.

    BBR, where it's the machine's choice, paces what is sent: a timer for every 64 KiB, and a reader
    that sleeps and wakes in between.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
