"""Which changes of a run to put back: keep them, put all back, or choose by number.

Architecture invariant: an answer that isn't understood is asked for again, and means nothing.
"""

from __future__ import annotations

import re

from nono_mcp.server import changes
from nono_mcp.server.text import readable
from nono_mcp.snapshots import patterns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nono_mcp.cli.asking import Prompt
    from nono_mcp.snapshots.values import Difference

QUESTION = "Keep it [K], put everything back [a], or choose what to put back [c]? "
CHOOSING = "Put back which (1 3-5; d 2 shows what changed in 2; nothing: keep all)? "
_RANGE = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")


class Choice:
    """One question, asked until it's answered."""

    def __init__(
        self, prompt: Prompt, difference: Difference, text_of: Callable[[bytes], str]
    ) -> None:
        self._prompt = prompt
        self._difference = difference
        self._text_of = text_of

    def answer(self) -> tuple[str, ...] | None:
        """Return the paths to put back; nothing stands for everything, None for: keep it all.

        Raises:
            NoAnswerError: The person doesn't answer.
        """
        while True:
            answer = self._prompt.ask(QUESTION).lower()
            if answer in ("", "k", "keep"):
                return None
            if answer in ("a", "all"):
                return ()
            if answer in ("c", "choose"):
                return self._chosen()

    def _chosen(self) -> tuple[str, ...] | None:
        listed = self._difference.changes
        for number, change in enumerate(listed, 1):
            beneath = " and what is in it" if change.type == "directory" else ""
            self._prompt.say(f"{number:>4}  {changes.of_change(change)}{beneath}\n")
        if self._difference.cut:
            self._prompt.say("and more, that nono rollback --paths GLOB puts back\n")
        while True:
            answer = self._prompt.ask(CHOOSING)
            if not answer:
                return None
            if answer.startswith("d"):
                self._show(answer[1:].strip())
                continue
            numbers = numbers_in(answer, len(listed))
            if numbers is None:
                self._prompt.say(f"numbers from 1 to {len(listed)}\n")
                continue
            return tuple("/" + patterns.literal(listed[number - 1].path) for number in numbers)

    def _show(self, text: str) -> None:
        numbers = numbers_in(text, len(self._difference.changes)) or ()
        for number in numbers:
            try:
                shown = self._text_of(self._difference.changes[number - 1].path)
            except FileNotFoundError:
                shown = "no file"
            self._prompt.say(readable(shown.encode()).rstrip("\n") + "\n")


def numbers_in(text: str, most: int) -> list[int] | None:
    """Return the numbers that *text* lists, each from 1 to *most*; None if it isn't a list."""
    found: set[int] = set()
    for word in text.replace(",", " ").split():
        parts = _RANGE.fullmatch(word)
        if parts is None:
            return None
        first = int(parts[1])
        last = int(parts[2] or first)
        if not 1 <= first <= last <= most:
            return None
        found.update(range(first, last + 1))
    return sorted(found) or None
