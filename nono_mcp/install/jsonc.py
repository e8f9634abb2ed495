"""JSON with comments and trailing commas, edited in its text: one member set, or taken out.

Architecture invariant: this module does no I/O, and changes no other byte than it has to.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nono_mcp.install.errors import InstallError

if TYPE_CHECKING:
    from collections.abc import Sequence

DEPTH_MAX = 100
_BETWEEN = re.compile(r"(?:\s+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_SCALAR = json.JSONDecoder()
_UNIT = "  "


@dataclass(slots=True)
class _Node:
    """A value and where it stands."""

    value: object
    start: int
    end: int = 0
    members: list[_Member] = field(default_factory=list)


@dataclass(slots=True)
class _Member:
    name: str
    start: int
    node: _Node
    comma: int = -1
    """Where the comma after it stands, if there is one."""


class _Reader:
    """Reads one document."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def document(self) -> _Node:
        self._skip()
        node = self._node(0)
        self._skip()
        if self._at != len(self._text):
            raise self._error("something follows the end")
        return node

    def _skip(self) -> None:
        found = _BETWEEN.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _error(self, what: str) -> InstallError:
        line = self._text.count("\n", 0, self._at) + 1
        return InstallError(f"it isn't JSON: {what} (line {line}); correct it first")

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _node(self, depth: int) -> _Node:
        if depth > DEPTH_MAX:
            raise self._error("it is nested too deeply")
        if self._next() == "{":
            return self._object(depth)
        if self._next() == "[":
            return self._array(depth)
        start = self._at
        try:
            value, self._at = _SCALAR.raw_decode(self._text, start)
        except json.JSONDecodeError as error:
            raise self._error(error.msg) from error
        return _Node(value, start, self._at)

    def _object(self, depth: int) -> _Node:
        known: dict[str, object] = {}
        node = _Node(known, self._at)
        self._at += 1
        while self._more(node, "}"):
            start = self._at
            name = self._node(DEPTH_MAX).value if self._next() == '"' else None
            self._skip()
            if not isinstance(name, str) or self._next() != ":" or name in known:
                raise self._error("a member with a name of its own was expected")
            self._at += 1
            self._skip()
            member = _Member(name, start, self._node(depth + 1))
            node.members.append(member)
            known[name] = member.node.value
            member.comma = self._comma("}")
        return node

    def _array(self, depth: int) -> _Node:
        items: list[object] = []
        node = _Node(items, self._at)
        self._at += 1
        while self._more(node, "]"):
            items.append(self._node(depth + 1).value)
            self._comma("]")
        return node

    def _more(self, node: _Node, closing: str) -> bool:
        self._skip()
        if self._next() != closing:
            return True
        self._at += 1
        node.end = self._at
        return False

    def _comma(self, closing: str) -> int:
        self._skip()
        if self._next() == ",":
            self._at += 1
            return self._at - 1
        if self._next() != closing:
            raise self._error(f"a comma or {closing} was expected")
        return -1


def loads(text: str) -> object:
    """Return what *text* says; nothing but blanks is an empty object.

    Raises:
        InstallError: It is no JSON.
    """
    return _Reader(text).document().value if text.strip() else {}


def with_member(text: str, path: Sequence[str], value: object) -> str:
    """Return *text* with *value* at *path*, made with the objects on the way where they lack.

    Raises:
        InstallError: It is no JSON, or something else than an object is on the way.
    """
    if not text.strip():
        text = "{}\n"
    node, depth = _Reader(text).document(), 0
    unit = _unit(text, node)
    while True:
        if not isinstance(node.value, dict):
            where = ".".join(path[:depth]) or "the whole"
            raise InstallError(f"{where} is no object there: correct it first")
        member = next((one for one in node.members if one.name == path[depth]), None)
        if member is None:
            for name in reversed(path[depth + 1 :]):
                value = {name: value}
            return _inserted(text, node, path[depth], value, (depth, unit))
        node, depth = member.node, depth + 1
        if depth == len(path):
            indent = _indent_at(text, member.start)
            return text[: node.start] + _rendered(value, indent, unit) + text[node.end :]


def without_member(text: str, path: Sequence[str]) -> str:
    """Return *text* without the member at *path*, if it has one."""
    if not text.strip():
        return text
    node = _Reader(text).document()
    for name in path[:-1]:
        found = next((one for one in node.members if one.name == name), None)
        if found is None:
            return text
        node = found.node
    at = next((n for n, one in enumerate(node.members) if one.name == path[-1]), None)
    if at is None:
        return text
    member = node.members[at]
    end = member.comma + 1 if member.comma >= 0 else member.node.end
    start = len(text[: member.start].rstrip())
    before = text[:start]
    if member.comma < 0 and at and at == len(node.members) - 1:
        comma = node.members[at - 1].comma
        before = before[:comma] + before[comma + 1 :]
    rest = text[end:]
    if len(node.members) == 1 and before.endswith("{") and rest.lstrip().startswith("}"):
        rest = rest.lstrip()
    return before + rest


def _unit(text: str, root: _Node) -> str:
    """Return by what each level of the document *root* is indented."""
    indents = (text[_line_start(text, one.start) : one.start] for one in root.members)
    return next((indent for indent in indents if indent and not indent.strip(" \t")), _UNIT)


def _inserted(text: str, node: _Node, name: str, value: object, at: tuple[int, str]) -> str:
    depth, unit = at
    closing = node.end - 1
    outer = _indent_at(text, node.start) if depth else ""
    own_line = [m for m in node.members if not text[_line_start(text, m.start) : m.start].strip()]
    indent = _indent_at(text, own_line[0].start) if own_line else outer + unit
    member = f"\n{indent}{json.dumps(name)}: {_rendered(value, indent, unit)}"
    tail = len(text[:closing].rstrip())
    is_open = "\n" in text[tail:closing]
    rest = text[tail:] if is_open else f"\n{outer}{text[closing:]}"
    head = text[:tail]
    if not node.members:
        return head + member + rest
    last = node.members[-1]
    if last.comma >= 0:
        # Whoever ends the last member with a comma does so with ours.
        return head + member + "," + rest
    return text[: last.node.end] + "," + text[last.node.end : tail] + member + rest


def _rendered(value: object, indent: str, unit: str) -> str:
    text = json.dumps(value, indent=unit, ensure_ascii=False)
    return text.replace("\n", f"\n{indent}")


def _line_start(text: str, at: int) -> int:
    return text.rfind("\n", 0, at) + 1


def _indent_at(text: str, at: int) -> str:
    line = text[_line_start(text, at) :]
    return line[: len(line) - len(line.lstrip(" \t"))]
