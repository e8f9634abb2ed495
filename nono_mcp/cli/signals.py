"""Signals as bytes to be polled for, without the `signal` module, whose import costs too much.

Architecture invariant: a signal that was ignored when we started stays ignored (`nohup`).
"""

from __future__ import annotations

import posix as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

HUP, INT, QUIT, KILL, TERM, WINCH = 1, 2, 3, 9, 15, 28
USR1, USR2 = int(_signal.SIGUSR1), int(_signal.SIGUSR2)
CONT, STOP, TSTP = int(_signal.SIGCONT), int(_signal.SIGSTOP), int(_signal.SIGTSTP)

PASSED_ON = (HUP, INT, QUIT, USR1, USR2, TERM)
ENDING = (HUP, INT, QUIT, TERM)
"""Those that end what we do once the program has."""
_READ_BYTES = 256


class Signals:
    """The signals that arrive, from when this is made."""

    def __init__(self, *numbers: int) -> None:
        self.cut_short_by = 0
        """The one that ended what we did after the program."""
        self._read_end, write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(write_end, False)
        _signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        self.note(*numbers)

    def note(self, *numbers: int) -> None:
        """Have these arrive too."""
        for number in numbers:
            if _signal.getsignal(number) != _signal.SIG_IGN:
                _signal.signal(number, _noted)

    def fileno(self) -> int:
        """Return the descriptor that is readable when a signal has arrived."""
        return self._read_end

    def take(self) -> bytes:
        """Return the numbers of those that have arrived, one a byte."""
        try:
            return os.read(self._read_end, _READ_BYTES)
        except BlockingIOError:
            return b""

    def ending(self) -> int | None:
        """Take those that have arrived; return the first by which a program would have ended."""
        return next((number for number in self.take() if number != TSTP), None)


def stop(number: int = STOP, *, group: bool = False) -> None:
    """Stop this process, or its whole group, until it is continued."""
    handler = _signal.getsignal(number)
    if number != STOP:
        _signal.signal(number, _signal.SIG_DFL)
    os.kill(0 if group else os.getpid(), number)
    if number != STOP:
        _signal.signal(number, handler)


def _noted(_number: int, _frame: object) -> None:
    """Do nothing: that it arrived is read from the pipe."""
