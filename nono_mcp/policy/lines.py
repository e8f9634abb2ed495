"""Where in a TOML text a key or an element stands, for messages.

The text has been accepted by `tomllib`, so this reader needn't judge it, only find its way.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

import ast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Path = tuple[str | int, ...]


def locate(text: str, path: Path) -> int | None:
    """Return the line (from 1) of what stands at *path*, or of the nearest thing around it."""
    found: dict[Path, int] = {}
    for at, offset in _Reader(text).positions():
        found.setdefault(at, offset)
    while path:
        if path in found:
            return text.count("\n", 0, found[path]) + 1
        path = path[:-1]
    return None


class _Reader:
    """A cursor over a TOML text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._elements: dict[Path, int] = {}

    def positions(self) -> Iterator[tuple[Path, int]]:
        """Yield the path and offset of every table, key and element, in order."""
        table: Path = ()
        self._skip_blank()
        while self._at < len(self._text):
            start = self._at
            if self._text.startswith("[", start):
                many = self._text.startswith("[[", start)
                self._at += 2 if many else 1
                table = self._table(self._key(), many=many)
                self._at = self._text.index("]", self._at) + (2 if many else 1)
                for length in range(1, len(table) + 1):
                    yield table[:length], start
            else:
                yield from self._pair(table)
            self._skip_blank()

    def _table(self, key: Path, *, many: bool) -> Path:
        """Return the path of a table header, each array on the way at its last element."""
        path: Path = ()
        for part in key:
            path = (*path, part)
            if path in self._elements and (path != key or not many):
                path = (*path, self._elements[path])
        if many:
            array = path
            self._elements[array] = self._elements.get(array, -1) + 1
            path = (*array, self._elements[array])
        return path

    def _pair(self, table: Path) -> Iterator[tuple[Path, int]]:
        start = self._at
        path = (*table, *self._key())
        for length in range(len(table) + 1, len(path) + 1):
            yield path[:length], start
        self._at = self._text.index("=", self._at) + 1
        self._skip_blank()
        yield from self._value(path)

    def _value(self, path: Path) -> Iterator[tuple[Path, int]]:
        opening = self._text[self._at]
        if opening == "[":
            yield from self._array(path)
        elif opening == "{":
            self._at += 1
            self._skip_blank()
            while self._text[self._at] != "}":
                yield from self._pair(path)
                self._skip_separator()
            self._at += 1
        elif opening in "\"'":
            self._string()
        else:
            while self._at < len(self._text) and self._text[self._at] not in ",]}#\n":
                self._at += 1

    def _array(self, path: Path) -> Iterator[tuple[Path, int]]:
        self._at += 1
        self._skip_blank()
        index = 0
        while self._text[self._at] != "]":
            element = (*path, index)
            yield element, self._at
            yield from self._value(element)
            self._skip_separator()
            index += 1
        self._at += 1

    def _skip_separator(self) -> None:
        self._skip_blank()
        if self._text[self._at] == ",":
            self._at += 1
            self._skip_blank()

    def _skip_blank(self) -> None:
        while self._at < len(self._text):
            if self._text[self._at] == "#":
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
            elif self._text[self._at] in " \t\r\n":
                self._at += 1
            else:
                return

    def _key(self) -> Path:
        """Read a key, dotted perhaps, its parts bare or quoted."""
        parts: list[str] = []
        while True:
            self._skip_blank()
            if self._text[self._at] in "\"'":
                parts.append(self._string())
            else:
                start = self._at
                while self._text[self._at].isalnum() or self._text[self._at] in "_-":
                    self._at += 1
                parts.append(self._text[start : self._at])
            self._skip_blank()
            if self._text[self._at] != ".":
                return tuple(parts)
            self._at += 1

    def _string(self) -> str:
        """Read a string of any of the four kinds, and return it as far as a key needs it."""
        quote = self._text[self._at]
        start = self._at
        if self._text.startswith(quote * 3, start):
            self._at += 3
            while not self._text.startswith(quote * 3, self._at):
                self._at += 2 if quote == '"' and self._text[self._at] == "\\" else 1
            # Up to two quotes may stand before the closing three.
            while self._text.startswith(quote, self._at):
                self._at += 1
            return ""
        self._at += 1
        while self._text[self._at] != quote:
            self._at += 2 if quote == '"' and self._text[self._at] == "\\" else 1
        self._at += 1
        whole = self._text[start : self._at]
        return whole[1:-1] if quote == "'" else str(ast.literal_eval(whole))
