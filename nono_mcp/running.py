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
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import anyio

from nono_mcp.capture import Capture
from nono_sandbox import unnamed
from nono_sandbox.errors import LaneLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nono_sandbox.client import Ended, Lane
    from nono_sandbox.confinement import Call

_ID_BYTES = 8
_PIPE_BYTES = 256 * 1024
_KILL_S_MAX = 15.0
_LATE_S_MAX = 20.0
_BRIEF_S = 0.002
"""What a call prints in so long is read at its end, or when this is over."""
_ROWS, _COLUMNS = 40, 120
_END_OF_INPUT = b"\x04"
"""What a terminal takes for it, at the beginning of a line."""


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

    @contextmanager
    def attached(self, lane: Lane, fd: int) -> Iterator[None]:
        """Be of use for the body's time; *fd*, if any, is where input goes, closed in the end."""
        self._lane, self._fd = lane, fd
        try:
            yield
        finally:
            self._lane = None
            self.close_input()

    @property
    def takes_input(self) -> bool:
        """Tell whether there is somebody to read it."""
        return self._fd >= 0

    async def write(self, data: bytes) -> int:
        """Send *data*, and return how much of it was taken; cancel it at any time."""
        view = memoryview(data)
        while view and self.takes_input:
            try:
                view = view[os.write(self._fd, view) :]
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
            await self.write(_END_OF_INPUT)
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


async def run(
    lane: Lane,
    call: Call,
    stdin: bytes,
    on_output: Callable[[bytes], None] | None,
    live: Live | None,
) -> tuple[Ended, Capture, float]:
    """Run *call*; return how it ended, what it printed and how long it took.

    Raises:
        LaneLostError: Its lane died, and the call with it.
    """
    began_at = time.monotonic()
    capture = Capture()
    with _output_of(lane, call, stdin, live) as output_fd:
        try:
            if not await _attend(lane, call, output_fd, capture, on_output):
                await _end(lane, "wall")
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await _end(lane, "cancelled")
            raise
        _drain(output_fd, capture, on_output)
    if lane.ended is None:
        raise LaneLostError("the call ended without a report; run it again")
    return lane.ended, capture, time.monotonic() - began_at


@contextmanager
def _output_of(lane: Lane, call: Call, stdin: bytes, live: Live | None) -> Iterator[int]:
    """Begin *call* and yield the descriptor its output arrives on."""
    theirs, read_end, input_end = _streams(call, stdin, live)
    # Of the pipe for its output we keep the other end open: that the last who writes has gone the
    # lane says, and to be woken for both is twice the work.
    held = () if call.tty else theirs[1:2]
    try:
        try:
            lane.begin(call, theirs)
        finally:
            for fd in {*theirs} - {*held}:
                os.close(fd)
        if live is None:
            yield read_end
            return
        with live.attached(lane, input_end):
            input_end = -1
            yield read_end
    finally:
        for fd in (read_end, *held):
            os.close(fd)
        if input_end >= 0:
            os.close(input_end)


def _streams(call: Call, stdin: bytes, live: Live | None) -> tuple[tuple[int, int, int], int, int]:
    """Make a call's standard streams; return them, where to read and (or -1) where to write."""
    if call.tty:
        master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
        os.set_blocking(master, False)
        return (slave, slave, slave), master, os.dup(master)
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    if live is None or not live.wants_input:
        return (_input(stdin), write_end, write_end), read_end, -1
    input_read, input_write = os.pipe()
    os.set_blocking(input_write, False)
    return (input_read, write_end, write_end), read_end, input_write


def _input(stdin: bytes) -> int:
    if not stdin:
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    return unnamed.holding(stdin)


async def _attend(
    lane: Lane,
    call: Call,
    output_fd: int,
    capture: Capture,
    on_output: Callable[[bytes], None] | None,
) -> bool:
    """Take in output until the lane says that the call has ended; tell whether it did in time.

    A lane starts most programs itself, and till they are executed it can't attend to anything:
    where they are read from may not answer. So nobody waits for it for ever.
    """
    loop = asyncio.get_running_loop()
    over: asyncio.Future[bool] = loop.create_future()
    output_bytes_max = call.limits.output_bytes_max

    def hear() -> None:
        if lane.receive():
            _end_wait(over, in_time=True)

    def listen() -> None:
        loop.add_reader(output_fd, _telling, over, read)

    def read() -> None:
        nonlocal output_bytes_max
        if not _read_some(output_fd, capture, on_output):
            loop.remove_reader(output_fd)
        if output_bytes_max is not None and capture.total_bytes > output_bytes_max:
            lane.end("output")
            output_bytes_max = None

    # By the loop itself: to wait anew for each of the two costs more than all that they say.
    loop.add_reader(lane.fileno(), _telling, over, hear)
    timers = [loop.call_later(_BRIEF_S, listen)]
    if call.limits.wall_s is not None:
        late_s = call.limits.wall_s + _LATE_S_MAX
        timers.append(loop.call_later(late_s, partial(_end_wait, over, in_time=False)))
    try:
        return await over
    finally:
        loop.remove_reader(lane.fileno())
        loop.remove_reader(output_fd)
        for timer in timers:
            timer.cancel()


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


def _read_some(fd: int, capture: Capture, on_output: Callable[[bytes], None] | None) -> bool:
    """Read once; tell whether there may be more to come."""
    try:
        chunk = os.read(fd, _PIPE_BYTES)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno == errno.EIO:
            return False  # a terminal that nobody has open any more
        raise
    if chunk:
        capture.feed(chunk)
        if on_output is not None:
            on_output(chunk)
    return bool(chunk)


def _drain(fd: int, capture: Capture, on_output: Callable[[bytes], None] | None) -> None:
    """Read what a pipe still holds; its writers are gone, or no business of this call."""
    for _ in range(16):
        before = capture.total_bytes
        if not _read_some(fd, capture, on_output) or capture.total_bytes == before:
            return


async def _end(lane: Lane, reason: str) -> None:
    """Kill the call and wait until nothing is left of it."""
    lane.end(reason)
    with anyio.move_on_after(_KILL_S_MAX), suppress(LaneLostError):
        while not lane.receive():
            await anyio.wait_readable(lane.fileno())
