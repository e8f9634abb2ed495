"""Options of the command line, parsed by a table.

`--name VALUE` and `--name=VALUE` are the same; `--` ends the options. Where a command of the
person's own follows, so does its first word.

Architecture invariant: this module does no I/O and knows no option; importing `argparse` would
cost more than a bare start of Python.
"""

from __future__ import annotations

from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHOWN_CHARACTERS_MAX = 80
"""How much of a word that isn't understood is repeated."""


class Option(Value):
    """One option: a switch, or one that takes an operand."""

    name: str
    operand: str = ""
    """What the operand is called in messages; a switch has none."""
    many: bool = False
    """It may be given more than once, and each time adds."""
    short: str = ""
    optional: bool = False
    """The operand may be left out, and otherwise is written with an equals sign."""


HELP = Option("--help", short="-h")
JSON = Option("--json")
VERBOSE = Option("--verbose", short="-v")
QUIET = Option("--quiet", short="-q")


class UsageError(Exception):
    """The command line isn't one. Nothing was done."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class FailedError(Exception):
    """What was asked can't be done, for a reason that a person can do something about."""


class Parsed:
    """What a command line says."""

    def __init__(self, given: Mapping[str, Sequence[str]], rest: tuple[str, ...]) -> None:
        self._given = given
        self.rest = rest
        """The operands, or the command of the person's own."""

    def flag(self, option: Option) -> bool:
        """Tell whether a switch was given."""
        return option.name in self._given

    def one(self, name: str) -> str | None:
        """Return the operand of an option that may be given once."""
        values = self._given.get(name)
        return values[0] if values else None

    def all(self, name: str) -> tuple[str, ...]:
        """Return the operands of an option that may be given more than once."""
        return tuple(self._given.get(name, ()))


def parse(argv: Sequence[str], options: Sequence[Option], *, command: bool = False) -> Parsed:
    """Return what *argv* says; with *command*, its first operand ends the options.

    Raises:
        UsageError: An option is unknown, given twice, or lacks its operand.
    """
    known = {option.name: option for option in options}
    known.update((option.short, option) for option in options if option.short)
    given: dict[str, list[str]] = {}
    rest: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "--":
            rest += words
            break
        if not word.startswith("-") or word == "-":
            rest.append(word)
            if command:
                rest += words
                break
            continue
        option, value = _option(word, known, words)
        if option.name in given and option.operand and not option.many:
            raise UsageError(f"{option.name} is given twice", "leave one out")
        given.setdefault(option.name, []).append(value)
    return Parsed(given, tuple(rest))


def _option(word: str, known: Mapping[str, Option], words: list[str]) -> tuple[Option, str]:
    """Return the option that *word* is and its operand, which may be the next of *words*."""
    name, equals, value = word.partition("=")
    if name not in known:
        raise UsageError(f"unknown option {shown(name)}", nearest(name, known))
    option = known[name]
    if not option.operand:
        if equals:
            raise UsageError(f"{option.name} takes no value", f"write {option.name}")
        return option, ""
    if not equals:
        if option.optional:
            return option, ""
        if not words or words[0].startswith("--"):
            raise UsageError(
                f"{option.name} needs a value: {option.name} {option.operand}",
                f"one that begins with -- is written {option.name}=VALUE",
            )
        value = words.pop(0)
    if not value:
        raise UsageError(f"the value of {option.name} is empty")
    if "\0" in value:
        raise UsageError(f"the value of {option.name} holds a NUL character")
    return option, value


def nearest(word: str, known: Mapping[str, object] | Sequence[str]) -> str:
    """Return a hint at what *word* may have been meant to be."""
    # Only a mistake pays for the import.
    from difflib import get_close_matches

    near = get_close_matches(word[:SHOWN_CHARACTERS_MAX], list(known), n=1)
    return f"did you mean {near[0]}?" if near else ""


def shown(word: str) -> str:
    """Return *word* as a message shows it: printable, and not endless."""
    from nono_mcp.policy.errors import quoted

    # An option is shown as one, and not in quotation marks for its dashes.
    text = word.lstrip("-") or word
    dashes = word[: -len(text)] if text else ""
    more = "..." if len(text) > SHOWN_CHARACTERS_MAX else ""
    return dashes[:2] + quoted(text[:SHOWN_CHARACTERS_MAX]) + more
