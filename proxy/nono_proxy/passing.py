"""A long body's way from socket to socket: looked through where it lies, and handed on as it is.

The octets that have come are looked at and left where they are (MSG_PEEK); those that are clear the
kernel hands on. All else is read as everything is: what isn't clear, what comes in small pieces,
what a client is behind with, and the body's end, so that what comes behind it is seen.

Architecture invariant: nothing is passed on where somebody looks that they haven't said is clear.
"""

import socket
from collections.abc import Callable

from nono_proxy.body import Body
from nono_proxy.pipes import Pipe, Pipes
from nono_proxy.wires import Wire

LONG_BYTES_MIN = 1 << 20
# More doesn't stay in a processor's own cache between the look and the next.
_LOOK_BYTES_MAX = 524288
_LOOK_BYTES_MIN = 65536


class Passage:
    """The way of one body whose length is known."""

    __slots__ = ("_body", "_clear", "_into", "_passed", "_pipes")

    def __init__(
        self,
        pipes: Pipes,
        into: Wire,
        body: Body,
        clear: Callable[[bytes], int],
        passed: Callable[[int], None],
    ) -> None:
        self._pipes = pipes
        self._into = into
        self._body = body
        self._clear = clear
        """Tells how much of what comes next can be passed on as it is."""
        self._passed = passed
        """Hears of what was passed on."""

    def move(self, source: socket.socket) -> bool:
        """Pass on what has come; tell whether anything was."""
        room = min(self._body.left - _LOOK_BYTES_MIN, _LOOK_BYTES_MAX)
        if room < _LOOK_BYTES_MIN or not self._free or not self._pipes.may_lend:
            return False
        data = source.recv(room, socket.MSG_PEEK)
        if len(data) < _LOOK_BYTES_MIN:
            return False
        left = clear = self._clear(data)
        while left and self._free:
            pipe = self._pipes.fill(source, left)
            if pipe is None:
                break
            left -= pipe.held
            self._hand_on(pipe)
        return left < clear

    @property
    def _free(self) -> bool:
        """Tell whether the other side has taken everything, and takes more."""
        return not self._into.get_write_buffer_size() and not self._into.is_closing()

    def _hand_on(self, pipe: Pipe) -> None:
        count = pipe.held
        self._body.skip(count)
        self._into.write_pipe(pipe)
        self._passed(count)
