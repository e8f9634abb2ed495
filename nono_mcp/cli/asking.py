"""A person at the terminal, asked something after a program ran there.

Architecture invariant: what was typed before the question is no answer to it; and who doesn't
answer (Ctrl-C, end of file, a terminal that is gone) has said nothing.
"""

from __future__ import annotations

import os
import signal
import termios
from contextlib import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Self

PATH = "/dev/tty"
_LINE_BYTES_MAX = 4096
"""As much as the kernel takes of a line (termios(3))."""
_IFLAG, _OFLAG, _LFLAG = 0, 1, 3
_ENDING = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)


class NoAnswerError(Exception):
    """The person doesn't answer."""


class Prompt:
    """The terminal of this process, whatever its standard streams are."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def opened(cls) -> Self | None:
        """Return it, or None where there is none."""
        try:
            return cls(os.open(PATH, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY))
        except OSError:
            return None

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Make the terminal one that a line can be typed at, and the keys that end us heard."""
        handlers = {number: signal.getsignal(number) for number in _ENDING}
        try:
            settings = termios.tcgetattr(self._fd)
            termios.tcsetattr(self._fd, termios.TCSADRAIN, _cooked(settings))
        except termios.error as error:
            raise NoAnswerError from error
        try:
            for number, handler in handlers.items():
                if handler != signal.SIG_IGN:
                    signal.signal(number, _heard)
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            with suppress(termios.error):
                # Gone, perhaps.
                termios.tcsetattr(self._fd, termios.TCSADRAIN, settings)

    def say(self, text: str) -> None:
        """Show *text*, whatever characters it holds.

        Raises:
            NoAnswerError: The terminal is gone.
        """
        data = text.encode(errors="backslashreplace")
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            raise NoAnswerError from error

    def ask(self, question: str) -> str:
        """Return the line that is typed after *question*; call it inside `asking`.

        Raises:
            NoAnswerError: There's none.
        """
        try:
            termios.tcflush(self._fd, termios.TCIFLUSH)
            self.say(question)
            line = os.read(self._fd, _LINE_BYTES_MAX)
        except (OSError, termios.error) as error:
            raise NoAnswerError from error
        if not line.endswith(b"\n"):
            raise NoAnswerError
        return line.decode(errors="replace").strip()


def _heard(_number: int, _frame: object) -> None:
    for number in _ENDING:
        # Once is enough: what follows is giving the terminal back.
        signal.signal(number, signal.SIG_IGN)
    raise NoAnswerError


def _cooked(settings: list[Any]) -> list[Any]:
    """Return *settings* with lines, echo and keys, whatever a program made of them."""
    cooked = list(settings)
    cooked[_IFLAG] = cooked[_IFLAG] & ~(termios.IGNCR | termios.INLCR) | termios.ICRNL
    cooked[_OFLAG] |= termios.OPOST
    cooked[_LFLAG] |= termios.ICANON | termios.ECHO | termios.ISIG
    return cooked
