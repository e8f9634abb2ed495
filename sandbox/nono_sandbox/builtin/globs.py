"""Patterns of gitignore(5), and which files they leave out.

They come from whoever wrote the files, so matching goes back on nothing: what stands behind a star
is taken where it is found first, which for stars is as good as anywhere. The expressions say so by
atomic groups.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

import re

from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_CLASS = re.compile(r"\[(?P<not>[!^]?)(?P<first>\]?)(?P<rest>(?:\\.|\[:[a-z]+:\]|[^\]\\])*)\]")
_STARS = re.compile(r"\*+")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_NAMED_CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "blank": " \\t",
    "digit": "0-9",
    "lower": "a-z",
    "punct": "!-/:-@\\[-`{-~",
    "space": "\\s",
    "upper": "A-Z",
    "xdigit": "0-9a-fA-F",
}


PATTERN_CHARACTERS_MAX = 8192
"""What is longer matches nothing: no path is half as long."""
_STAR, _DIRECTORIES = "*", "**/"


class Pattern(Value):
    """One line of a gitignore file."""

    matching: re.Pattern[str]
    negated: bool
    directories_only: bool


class Rules(Value):
    """The patterns of one file, which hold below the directory that it stands in."""

    below: str
    """That directory, relative to where the walk begins and ended by a slash; or "" for there."""
    patterns: tuple[Pattern, ...]
    above: str = ""
    """If the file stands above: the way from there to where the walk begins, with a slash."""

    def verdict(self, path: str, *, is_directory: bool) -> bool | None:
        """Tell whether *path* is left out, by the last pattern that matches; None if none does."""
        if not path.startswith(self.below):
            return None
        name = self.above + path[len(self.below) :]
        for pattern in reversed(self.patterns):
            if pattern.directories_only and not is_directory:
                continue
            if pattern.matching.fullmatch(name):
                return not pattern.negated
        return None


def left_out(path: str, rules: Sequence[Rules], *, is_directory: bool) -> bool:
    """Tell whether *path* is ignored by *rules*, of which the last ones go first."""
    for one in reversed(rules):
        verdict = one.verdict(path, is_directory=is_directory)
        if verdict is not None:
            return verdict
    return False


def parse(text: str) -> tuple[Pattern, ...]:
    """Return the patterns of a gitignore file."""
    found = (pattern(line) for line in text.removeprefix("\ufeff").split("\n"))
    return tuple(one for one in found if one is not None)


def pattern(line: str) -> Pattern | None:
    """Return one line as a pattern; None if it is blank, a comment or no pattern."""
    line = _without_trailing_spaces(line.removesuffix("\r"))
    if not line or line.startswith("#") or len(line) > PATTERN_CHARACTERS_MAX:
        return None
    negated = line.startswith("!")
    line = line.removeprefix("!")
    directories_only = line.endswith("/")
    line = line.removesuffix("/")
    if not line:
        return None
    anchored = "/" in line
    line = line.removeprefix("/")
    try:
        expression = _expression(line)
        prefix = "" if anchored else "(?:.*/)?"
        return Pattern(re.compile(prefix + expression, re.DOTALL), negated, directories_only)
    except re.error:
        return None


def _without_trailing_spaces(line: str) -> str:
    while line.endswith(" ") and not line.endswith("\\ "):
        line = line[:-1]
    return line


def _expression(glob: str) -> str:
    """Return *glob* as a regular expression."""
    # Groups stand around `**/`; in one, texts of a fixed length stand around stars.
    groups: list[list[list[str]]] = [[[""]]]
    at = 0
    while at < len(glob):
        text, at = _token(glob, at)
        if text == _DIRECTORIES:
            groups.append([[""]])
        elif text == _STAR:
            groups[-1][-1].append("")
        elif text == "/":
            groups[-1].append([""])
        else:
            groups[-1][-1][-1] += text
    first, *rest = ["/".join(map(_segment, group)) for group in groups]
    if not rest:
        return first
    found = "".join(f"(?>(?:[^/]*/)*?{group})" for group in rest[:-1])
    return f"{first}{found}(?:.*/)?{rest[-1]}"


def _segment(texts: list[str]) -> str:
    """Return the expression for a name with stars between *texts*."""
    first, *rest = texts
    if not rest:
        return first
    found = "".join(f"(?>[^/]*?{text})" for text in rest[:-1] if text)
    return f"{first}{found}[^/]*{rest[-1]}"


def _token(glob: str, at: int) -> tuple[str, int]:
    """Return what stands at *at*, a star or a regular expression, and where it ends."""
    begins = at == 0 or glob[at - 1] == "/"
    if found := _STARS.match(glob, at):
        end = found.end()
        # To git, more than two are two.
        if begins and end > at + 1 and glob.startswith("/", end):
            return _DIRECTORIES, end + 1
        return (".+" if begins and end > at + 1 and end == len(glob) else _STAR), end
    if found := _CLASS.match(glob, at):
        return _class(found), found.end()
    if found := _ESCAPED.match(glob, at):
        return re.escape(found[1]), found.end()
    if glob[at] in "[\\":
        raise re.error("a class isn't closed, or nothing is escaped")
    return ("[^/]" if glob[at] == "?" else re.escape(glob[at])), at + 1


def _class(found: re.Match[str]) -> str:
    members = re.escape(found["first"])
    begins, ends = bool(members), False
    for one in re.finditer(r"\\(.)|\[:([a-z]+):\]|(-)|(.)", found["rest"], re.DOTALL):
        escaped, named, dash, plain = one.groups()
        # What may begin a range and what ends one; elsewhere a dash is itself (git's wildmatch.c),
        # and escaped, since two of them are to mean something else one day (re).
        if dash and begins:
            members += dash
            begins, ends = False, True
            continue
        if named is None:
            members += re.escape(escaped or dash or plain)
        else:
            members += _NAMED_CLASSES.get(named, "")
        begins, ends = named is None and not ends, False
    negation = "^" if found["not"] else ""
    # No class matches a slash.
    return f"(?!/)[{negation}{members}]" if members else "(?!)"
