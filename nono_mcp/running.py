"""One call on its lane, from its beginning to its end: its streams, its output, its limits.

Architecture invariant: when this is left, by whatever end, nothing of the call runs any more.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import struct
import termios
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Self

import anyio

from nono_mcp.capture import Capture
from nono_sandbox import anonymous_file
from nono_sandbox.errors import LaneLostError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nono_sandbox.call_end import CallEnd
    from nono_sandbox.client import Lane
    from nono_sandbox.confinement import Call

_ID_BYTES = 8
_PIPE_BYTES = 256 * 1024
_KILL_S_MAX = 15.0
_LATE_S_MAX = 20.0
_BRIEF_S = 0.002
"""What a call prints in so long is read at its end, or when this is over."""
_ROWS, _COLUMNS = 40, 120
_END_OF_INPUT = b"\x04"
"""What a terminal takes for it, at the beginning of a line; within one, for the end of that."""
_LINE_ENDS = (b"\n", b"\r", _END_OF_INPUT)


def new_id() -> str:
    """Return an id for a call, which no other has."""
    return os.urandom(_ID_BYTES).hex()


class Live:
    """What can be done to a call while it runs; afterwards nothing."""

    def __init__(self, *, takes_input: bool, terminal: bool) -> None:
        self.wants_input = takes_input or terminal
        self.terminal = terminal
        self.id = new_id()
        """The call's."""
        self._lane: Lane | None = None
        self._fd = -1
        self._is_within_line = False
        """What was written to the terminal last ended no line."""

    def attach(self, lane: Lane, fd: int) -> None:
        """Be of use until `detach`; input goes to *fd*, its to close, if that isn't -1."""
        self._lane, self._fd = lane, fd

    def detach(self) -> None:
        """Be of no use any more."""
        self._lane = None
        self.close_input()

    @property
    def is_attached(self) -> bool:
        """Tell whether it runs."""
        return self._lane is not None

    @property
    def takes_input(self) -> bool:
        """Tell whether there is somebody to read it."""
        return self._fd >= 0

    async def write(self, data: bytes) -> int:
        """Send *data*, and return how much of it was taken; cancel it at any time."""
        view = memoryview(data)
        while view and self.takes_input:
            try:
                count = os.write(self._fd, view)
                self._is_within_line = bytes(view[count - 1 : count]) not in _LINE_ENDS
                view = view[count:]
            except BlockingIOError:
                with suppress(anyio.ClosedResourceError):
                    await anyio.wait_writable(self._fd)
            except OSError as error:
                if error.errno not in (errno.EPIPE, errno.EIO):
                    raise
                break  # nobody reads it any more
        return len(data) - len(view)

    async def end_input(self) -> None:
        """Let the program see the end of its input."""
        if self.terminal:
            await self.write(_END_OF_INPUT * (2 if self._is_within_line else 1))
        else:
            self.close_input()

    def close_input(self) -> None:
        """Take no more input."""
        if self._fd >= 0:
            anyio.notify_closing(self._fd)
            os.close(self._fd)
            self._fd = -1

    def signal(self, number: int) -> None:
        """Send a signal to the program's process group."""
        if self._lane is not None:
            self._lane.signal(number)


class Running:
    """One call on its lane; as a context manager it lets go of its streams.

    with Running(lane, call, on_output, live) as running:
        running.begin(stdin)
        ended, output, duration_s = await running.to_its_end()
    """

    def __init__(
        self,
        lane: Lane,
        call: Call,
        on_output: Callable[[bytes], None] | None = None,
        live: Live | None = None,
    ) -> None:
        self._lane = lane
        self._call = call
        self._on_output = on_output
        self._live = live
        self._began_at = time.monotonic()
        self._output = Capture()
        self._output_fd = -1
        self._fds: list[int] = []

    def __enter__(self) -> Self:
        """Hold nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the streams."""
        if self._live is not None:
            self._live.detach()
        while self._fds:
            os.close(self._fds.pop())

    def begin(self, stdin: bytes) -> None:
        """Have the lane run the call, with *stdin* to read unless somebody is to write to it.

        Raises:
            LaneLostError: The lane is dead; nothing ran.
        """
        theirs, self._output_fd, input_end = _streams(self._call, stdin, self._live)
        # Of the pipe for its output we keep the other end open: that the last who writes has gone
        # the lane says, and to be woken for both is twice the work.
        held = () if self._call.tty else theirs[1:2]
        self._fds = [self._output_fd, *held]
        if self._live is not None:
            self._live.attach(self._lane, input_end)
        try:
            self._lane.begin(self._call, theirs)
        finally:
            for fd in {*theirs} - {*held, -1}:
                os.close(fd)

    async def to_its_end(self) -> tuple[CallEnd, Capture, float]:
        """Return how it ended, what it printed and how long it took.

        Raises:
            LaneLostError: Its lane died, and the call with it.
        """
        try:
            if not await self._attend():
                await _end(self._lane, "wall")
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await _end(self._lane, "cancelled")
            raise
        self._drain()
        if self._lane.ended is None:
            raise LaneLostError("the call ended without a report; run it again")
        return self._lane.ended, self._output, time.monotonic() - self._began_at

    async def _attend(self) -> bool:
        """Take in output until the lane says that the call has ended; tell whether it did in time.

        A lane starts most programs itself, and till they are executed it can't attend to anything:
        where they are read from may not answer. So nobody waits for it for ever.
        """
        loop = asyncio.get_running_loop()
        over: asyncio.Future[bool] = loop.create_future()
        lane_fd, output_fd = self._lane.fileno(), self._output_fd
        limits = self._call.limits
        output_bytes_max = limits.output_bytes_max
        listens = False

        def hear() -> None:
            if self._lane.receive():
                _end_wait(over, in_time=True)

        def listen() -> None:
            nonlocal listens
            listens = True
            loop.add_reader(output_fd, _telling, over, read)

        def read() -> None:
            nonlocal output_bytes_max
            if not self._read_some():
                loop.remove_reader(output_fd)
            if output_bytes_max is not None and self._output.total_bytes > output_bytes_max:
                self._lane.end("output")
                output_bytes_max = None

        # By the loop itself: to wait anew for each of the two costs more than all that they say.
        loop.add_reader(lane_fd, _telling, over, hear)
        timers = [loop.call_later(_BRIEF_S, listen)]
        if limits.wall_s is not None:
            late_s = limits.wall_s + _LATE_S_MAX
            timers.append(loop.call_later(late_s, partial(_end_wait, over, in_time=False)))
        try:
            return await over
        finally:
            loop.remove_reader(lane_fd)
            if listens:
                loop.remove_reader(output_fd)
            for timer in timers:
                timer.cancel()

    def _read_some(self) -> bool:
        """Read once; tell whether there may be more to come."""
        try:
            chunk = os.read(self._output_fd, _PIPE_BYTES)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno == errno.EIO:
                return False  # a terminal that nobody has open any more
            raise
        if chunk:
            self._output.feed(chunk)
            if self._on_output is not None:
                self._on_output(chunk)
        return bool(chunk)

    def _drain(self) -> None:
        """Read what a pipe still holds; its writers are gone, or no business of this call."""
        for _ in range(16):
            before = self._output.total_bytes
            if not self._read_some() or self._output.total_bytes == before:
                return


def _streams(call: Call, stdin: bytes, live: Live | None) -> tuple[tuple[int, int, int], int, int]:
    """Make a call's standard streams; return them, where to read and (or -1) where to write.

    The first of them is -1 where there's nothing to read.
    """
    if call.tty:
        master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
        os.set_blocking(master, False)
        return (slave, slave, slave), master, os.dup(master)
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    if live is None or not live.wants_input:
        return (anonymous_file.holding(stdin) if stdin else -1, write_end, write_end), read_end, -1
    input_read, input_write = os.pipe()
    os.set_blocking(input_write, False)
    return (input_read, write_end, write_end), read_end, input_write


def _end_wait(over: asyncio.Future[bool], *, in_time: bool) -> None:
    if not over.done():
        over.set_result(in_time)


def _telling(over: asyncio.Future[bool], act: Callable[[], None]) -> None:
    """Call *act*; what that raises is raised where *over* is waited for."""
    try:
        act()
    except BaseException as error:
        if over.done():
            raise
        over.set_exception(error)


async def _end(lane: Lane, reason: str) -> None:
    """Kill the call and wait until nothing is left of it."""
    lane.end(reason)
    with anyio.move_on_after(_KILL_S_MAX), suppress(LaneLostError):
        while not lane.receive():
            await anyio.wait_readable(lane.fileno())
