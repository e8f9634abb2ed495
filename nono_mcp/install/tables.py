"""One table of a TOML document, edited in its text.

Architecture invariant: this module does no I/O. What comes out is compared, parsed, with what
went in: where lines don't mean what they look like, nothing is changed.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Any

from nono_mcp.install.errors import InstallError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_HEADER = re.compile(r"^[ \t]*\[")


def loads(text: str) -> dict[str, Any]:
    """Return what *text* says.

    Raises:
        InstallError: It is no TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InstallError(f"it isn't TOML: {error}; correct it first") from error


def with_table(
    text: str,
    path: Sequence[str],
    values: Mapping[str, object],
    stale: Collection[str] = (),
) -> str:
    """Return *text* with *values* in the table at *path*, whose other keys stay but *stale* ones.

    Raises:
        InstallError: It is no TOML, or written in a way that isn't understood here.
    """
    expected = loads(text)
    table = expected
    for name in path:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise InstallError(f"{'.'.join(path)} is no table there: correct it first")
    missing = {key: value for key, value in values.items() if table.get(key) != value}
    gone = {key for key in stale if key in table}
    if not missing and not gone:
        return text
    for key in gone:
        del table[key]
    table |= values
    lines = text.splitlines(keepends=True)
    span = _span(lines, path)
    if span is None:
        head = text if not text or text.endswith("\n") else text + "\n"
        gap = "\n" if head.strip() else ""
        changed = head + gap + f"[{'.'.join(path)}]\n" + _rendered(values)
    else:
        start, end = span
        own = [line for line in lines[start + 1 : end] if _key(line) not in {*missing, *gone}]
        changed = "".join([*lines[: start + 1], _rendered(missing), *own, *lines[end:]])
    return _checked(changed, expected, path)


def without_table(text: str, path: Sequence[str]) -> str:
    """Return *text* without the table at *path* and those within it, if it has it.

    Raises:
        InstallError: It is no TOML, or written in a way that isn't understood here.
    """
    expected = loads(text)
    table: Any = expected
    for name in path[:-1]:
        table = table.get(name, {}) if isinstance(table, dict) else {}
    if not isinstance(table, dict) or path[-1] not in table:
        return text
    del table[path[-1]]
    lines = text.splitlines(keepends=True)
    while (span := _span(lines, path, inner=True)) is not None:
        start, end = span
        while start and end == len(lines) and not lines[start - 1].strip():
            start -= 1
        del lines[start:end]
    if len(path) > 1 and not table and _span(lines, path[:-1]) is None:
        # A table that only ours had made.
        _prune(expected, path[:-1])
    return _checked("".join(lines), expected, path)


def _prune(document: dict[str, Any], path: Sequence[str]) -> None:
    parent = document
    for name in path[:-1]:
        parent = parent[name]
    del parent[path[-1]]


def _span(
    lines: Sequence[str], path: Sequence[str], *, inner: bool = False
) -> tuple[int, int] | None:
    """Return the lines of the table, header and all; with *inner* also of one within it."""
    names = r"\s*\.\s*".join(rf'(?:{re.escape(n)}|"{re.escape(n)}")' for n in path)
    more = r"(?:\s*\.[^\]]*)?" if inner else r"\s*"
    header = re.compile(rf"^[ \t]*\[\s*{names}{more}\][ \t]*(?:#.*)?$")
    start = next((n for n, line in enumerate(lines) if header.match(line.rstrip("\r\n"))), None)
    if start is None:
        return None
    following = (n for n in range(start + 1, len(lines)) if _HEADER.match(lines[n]))
    end = next(following, len(lines))
    if end < len(lines):
        # What stands right above the next table is said of that one.
        while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
            end -= 1
    return start, end


def _key(line: str) -> str:
    return line.partition("=")[0].strip().strip('"') if "=" in line else ""


def _rendered(values: Mapping[str, object]) -> str:
    # What JSON calls a string, a list of strings, a number or a truth value, TOML does too.
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def _checked(text: str, expected: Mapping[str, object], path: Sequence[str]) -> str:
    try:
        same = tomllib.loads(text) == expected
    except tomllib.TOMLDecodeError:
        same = False
    if not same:
        raise InstallError(f"[{'.'.join(path)}] is written in a way of its own: edit it by hand")
    return text
