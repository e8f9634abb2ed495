"""A program's own terminal beside the person's: what goes to and fro between the two.

Imported only where there is a terminal.

Architecture invariant: one chunk at a time goes each way, so nothing piles up here.
"""

from __future__ import annotations

import os
import select

from nono_mcp.cli import signals
from nono_mcp.cli.attend import Outcome
from nono_mcp.cli.terminal import Terminal, pass_size_on

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.guard.after_run import AfterRun
    from nono_sandbox.single_run.launching import Launch

CHUNK_BYTES = 4096
TAIL_BYTES_MAX = 8192
"""How much of what the program last wrote to the terminal is kept."""
BACKGROUND_LOOK_MS = 250
"""How often to look whether the person has put us into the foreground."""
DRAIN_MS_MAX = 1000
"""How long to wait for the last output of a program that has ended."""
_STDIN, _STDOUT = 0, 1


class Relay:
    """What goes to and fro between the person's terminal and the program's."""

    def __init__(
        self,
        launch: Launch,
        master: int,
        arrived: signals.Signals,
        beside: AfterRun | None = None,
    ) -> None:
        self.terminal = Terminal()
        self._launch = launch
        self._beside = beside
        self._master = master
        self._arrived = arrived
        self._arrived.note(signals.CONT, signals.WINCH)
        self._typed = b""
        self._written = b""
        self._tail = b""
        self._input_ended = False
        self._output_gone = False
        self._outcome: Outcome | None = None
        os.set_blocking(master, False)

    def run(self) -> Outcome:
        """Relay until the program has ended and its output has been shown."""
        pass_size_on(self._master)
        while self._outcome is None:
            self.terminal.lend()
            self._step()
        self._drain()
        return self._outcome.replace(tail=self._tail)

    def _step(self) -> None:
        """Wait until something can be done, and do it."""
        wait_ms: float | None = None if self.terminal.settled else BACKGROUND_LOOK_MS
        beside = self._beside
        if beside is not None and beside.pause_ms is not None:
            wait_ms = beside.pause_ms
        events = dict(self._poll().poll(wait_ms))
        if beside is not None and beside.pause_ms is not None and not events:
            beside.step()
        if self._arrived.fileno() in events:
            for number in self._arrived.take():
                self._answer(number)
        # That the other side hung up is told whatever is asked for.
        if self._master in events and self._typed:
            self._pass_typed()
        if self._master in events and not self._written:
            self._take_written()
        if _STDOUT in events:
            self._show()
        if _STDIN in events:
            self._take_typed()
        if self._launch.fileno() in events:
            self._hear()

    def _poll(self) -> select.poll:
        """Return what to wait for: one chunk at a time goes each way."""
        poll = select.poll()
        poll.register(self._launch, select.POLLIN)
        poll.register(self._arrived, select.POLLIN)
        on_master = select.POLLOUT if self._typed else 0
        if self._written:
            poll.register(_STDOUT, select.POLLOUT)
        else:
            on_master |= select.POLLIN
        if on_master:
            poll.register(self._master, on_master)
        if self.terminal.lent and not self._typed and not self._input_ended:
            poll.register(_STDIN, select.POLLIN)
        return poll

    def _answer(self, number: int) -> None:
        if number == signals.WINCH:
            pass_size_on(self._master)
        elif number == signals.CONT:
            self._resume()
        else:
            self._launch.signal(number)
        if number == signals.HUP:
            # Without its terminal a stopped program would stay stopped for ever; the kernel
            # continues those of a real one.
            self._launch.signal(signals.CONT)

    def _resume(self) -> None:
        """Take up again after a stop: the shell has had the terminal meanwhile."""
        self.terminal.lent = False
        pass_size_on(self._master)

    def _hear(self) -> None:
        message = self._launch.receive()
        if message[0] == "ended":
            self._outcome = Outcome(*message[1:])
        elif message[0] == "stopped":
            # The person pressed the key for that, or the program wants to be stopped: then so
            # do we, with whoever we are one job with.
            self.terminal.take_back()
            signals.stop(signals.TSTP, group=True)
            self._resume()
            self._launch.signal(signals.CONT)

    def _take_typed(self) -> None:
        try:
            self._typed = os.read(_STDIN, CHUNK_BYTES)
        except OSError:
            self._typed = b""  # EIO: the terminal was hung up
        self._input_ended = not self._typed

    def _pass_typed(self) -> None:
        try:
            self._typed = self._typed[os.write(self._master, self._typed) :]
        except BlockingIOError:
            return
        except OSError:
            self._typed = b""  # nobody there to read it

    def _take_written(self) -> bool:
        """Take in what the program wrote; tell whether there was, or can be, any."""
        try:
            self._written = os.read(self._master, CHUNK_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False  # EIO: all of the other side is closed
        self._tail = (self._tail + self._written)[-TAIL_BYTES_MAX:]
        return bool(self._written)

    def _show(self) -> None:
        if self._output_gone:
            self._written = b""
            return
        try:
            self._written = self._written[os.write(_STDOUT, self._written) :]
        except OSError:
            self._output_gone = True  # the terminal was hung up, which a signal says too

    def _drain(self) -> None:
        """Show what the program wrote before it ended; the lane's end closes the other side."""
        poll = select.poll()
        poll.register(self._master, select.POLLIN)
        while True:
            while self._written:
                self._show()
            if not poll.poll(DRAIN_MS_MAX) or not self._take_written():
                return
