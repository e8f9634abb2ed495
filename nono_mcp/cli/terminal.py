"""The person's terminal, lent to a program that has one of its own, and given back as it was.

The program's terminal does the work of one (echo, line editing, the keys that send signals), so
the person's is made to do none: what is typed goes through as it is.

Architecture invariant: it is touched only while this process is in its foreground.
"""

from __future__ import annotations

import fcntl
import termios

from nono_sandbox.single_run.launching import in_foreground

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CC = 0, 1, 2, 3, 6
_WINDOW_SIZE_BYTES = 8
_INPUT = 0
LOOKS_AFTER_BACKGROUND = 3
"""How often to see to the settings once we have been put into the foreground."""


class Terminal:
    """Standard input, a terminal, and the settings it had."""

    def __init__(self) -> None:
        self._saved: list[Any] = []
        self.lent = False
        """Whether what is typed goes to the program now."""
        self._looks = 0

    @property
    def settled(self) -> bool:
        """Tell whether `lend` has no more to do until a signal comes."""
        return self.lent and not self._looks

    def lend(self) -> None:
        """Let everything typed through, if this process is in the foreground."""
        if not in_foreground():
            # A shell that puts us there changes the settings once more after that.
            self._looks = LOOKS_AFTER_BACKGROUND
        elif not self.settled:
            self._looks -= bool(self._looks)
            self.lent = self._pass_everything()

    def _pass_everything(self) -> bool:
        try:
            settings = termios.tcgetattr(_INPUT)
            if not self.lent or settings != _raw(self._saved):
                self._saved = settings
                termios.tcsetattr(_INPUT, termios.TCSADRAIN, _raw(settings))
        except termios.error:
            return False  # the terminal is gone
        return True

    def take_back(self) -> None:
        """Restore the settings, if they were changed."""
        if not self.lent:
            return
        self.lent = False
        try:
            termios.tcsetattr(_INPUT, termios.TCSADRAIN, self._saved)
        except termios.error:
            return  # the terminal is gone


def pass_size_on(master: int) -> None:
    """Give the terminal of *master* the size of the person's."""
    try:
        size = fcntl.ioctl(_INPUT, termios.TIOCGWINSZ, bytes(_WINDOW_SIZE_BYTES))
        fcntl.ioctl(master, termios.TIOCSWINSZ, size)
    except OSError:
        return  # one of them is gone


def _raw(settings: list[Any]) -> list[Any]:
    """Return *settings* with nothing done to what passes, as cfmakeraw(3)."""
    raw = list(settings)
    raw[_IFLAG] &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    raw[_OFLAG] &= ~termios.OPOST
    raw[_LFLAG] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    raw[_CFLAG] = raw[_CFLAG] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    raw[_CC] = list(settings[_CC])
    raw[_CC][termios.VMIN], raw[_CC][termios.VTIME] = 1, 0
    return raw
