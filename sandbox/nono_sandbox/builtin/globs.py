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
ALTERNATIVES_MAX = 256
"""What the braces of one glob may come to."""
_STAR, _DIRECTORIES = "*", "**/"
_INNERMOST = re.compile(r"((?:\\.|[^\\])*?)\{((?:\\.|[^\\{}])*)\}", re.DOTALL)
_COMMA = re.compile(r"(?<!\\),")


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


def verdict(path: str, rules: Sequence[Rules], *, is_directory: bool) -> bool | None:
    """Tell whether *rules*, of which the last ones go first, leave *path* out; None: none does."""
    for one in reversed(rules):
        found = one.verdict(path, is_directory=is_directory)
        if found is not None:
            return found
    return None


def parse(text: str) -> tuple[Pattern, ...]:
    """Return the patterns of a gitignore file."""
    found = (pattern(line) for line in text.removeprefix("\ufeff").split("\n"))
    return tuple(one for one in found if one is not None)


def of_search(glob: str) -> tuple[Pattern, ...]:
    """Return a glob of a search: a line of gitignore(5) in which braces are alternatives.

    Raises:
        ValueError: It is no glob.
    """
    if len(glob) > PATTERN_CHARACTERS_MAX:
        raise ValueError("it's longer than any path")
    lines = _without_braces(glob)
    patterns = [pattern(one) for one in lines if one.strip("!") and not one.startswith("#")]
    found = tuple(one for one in patterns if one is not None)
    if len(found) < len(patterns):
        raise ValueError("a class isn't closed, or nothing is escaped")
    return found


def _without_braces(glob: str) -> list[str]:
    """Return *glob* once for each choice among the alternatives in its braces."""
    wholes = [glob]
    while any(found := [_INNERMOST.match(one) for one in wholes]):
        wholes = [
            f"{braces[1]}{text}{whole[braces.end() :]}" if braces else whole
            for whole, braces in zip(wholes, found, strict=True)
            for text in (_COMMA.split(braces[2]) if braces else [""])
        ]
        if len(wholes) > ALTERNATIVES_MAX:
            raise ValueError(f"its braces come to more than {ALTERNATIVES_MAX} globs")
    return wholes


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
