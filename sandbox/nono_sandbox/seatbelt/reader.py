"""A reader of SBPL as `sbpl` writes it, made independently of the writer.

It takes no more than is emitted: comments, parentheses, symbols, strings with two escapes,
patterns. Whatever else stands in a text is an error, never skipped.

Architecture invariant: no I/O. The generator doesn't import it.
"""

from __future__ import annotations

import re

from nono_sandbox.seatbelt.sbpl import Pattern, Text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nono_sandbox.seatbelt.sbpl import Form

DEPTH_MAX = 16
"""Deepest nesting that is followed; what is emitted nests four deep."""

_TOKEN = re.compile(
    r"""(?:[ \n]+|;[^\n]*\n)*
      (?:(?P<end>\Z)
      | (?P<paren>[()])
      | "(?P<text>(?:[^"\\]|\\["\\])*)"
      | \#"(?P<pattern>[^"]*)"
      | (?P<symbol>[0-9A-Za-z*_-]+))""",
    re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class MalformedError(Exception):
    """Text that isn't SBPL as this package emits it."""


def read(text: str) -> tuple[Form, ...]:
    """Return the forms of *text*.

    Raises:
        MalformedError: It isn't SBPL as `sbpl.write` writes it.
    """
    stack: list[list[Form]] = [[]]
    for part in _parts(text):
        if part == "(":
            if len(stack) > DEPTH_MAX:
                raise MalformedError("nested too deeply")
            stack.append([])
        elif part == ")":
            if len(stack) == 1:
                raise MalformedError("a parenthesis closes nothing")
            closed = tuple(stack.pop())
            stack[-1].append(closed)
        else:
            stack[-1].append(part)
    if len(stack) != 1:
        raise MalformedError("a parenthesis isn't closed")
    return tuple(stack[0])


def _parts(text: str) -> Iterator[str | Text | Pattern]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise MalformedError(f"unexpected {text[at : at + 16]!r}")
        kind = match.lastgroup
        if kind == "text":
            yield Text(_ESCAPE.sub(r"\1", match["text"]))
        elif kind == "pattern":
            yield Pattern(match["pattern"])
        elif kind in ("paren", "symbol"):
            yield match[kind]
        at = match.end()
