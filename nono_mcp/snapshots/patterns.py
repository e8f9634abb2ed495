"""Paths and globs, as a person writes them: for exclusions and for what to restore.

``name`` is meant at any depth, ``/name`` and ``a/b`` from the root; ``*``, ``?`` and ``[...]`` stay
within a component, ``**`` stands for any number of them. What is beneath a match matches.

Architecture invariant: this module does no I/O and reads no clock. Nobody ever builds a whole path
to match it: a walker carries a `State` down with it.
"""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

State = frozenset[tuple[int, int]]
"""Which components of which patterns come next."""


class PatternError(ValueError):
    """A pattern that means nothing."""


class Patterns:
    """Any number of patterns, matched together."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._patterns = [_components(text) for text in texts]
        # No pattern and literal names at any depth alone: what nearly everybody has.
        plain = [pattern for pattern in self._patterns if _literal(pattern)]
        self._names = {pattern[1] for pattern in plain}
        self._rest = [pattern for pattern in self._patterns if not _literal(pattern)]

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def start(self) -> State:
        """Return the state at the root."""
        return self._closure({(index, 0) for index in range(len(self._rest))})

    def matches_all(self, state: State) -> bool:
        """Tell whether some pattern is at its end, so that this and all beneath it match."""
        return any(at == len(self._rest[index]) for index, at in state)

    def step(self, state: State, name: bytes) -> tuple[bool, State]:
        """Tell whether the entry *name* matches, and return the state beneath it."""
        if name in self._names:
            return True, frozenset()
        if not state:
            return False, state
        following = set()
        for index, at in state:
            pattern = self._rest[index]
            if at == len(pattern):
                continue
            component = pattern[at]
            if component is None:
                following.add((index, at))
            elif component == name if isinstance(component, bytes) else component.fullmatch(name):
                following.add((index, at + 1))
        closed = self._closure(following)
        return self.matches_all(closed), closed

    def _closure(self, state: set[tuple[int, int]]) -> State:
        found = set(state)
        pending = list(state)
        while pending:
            index, at = pending.pop()
            pattern = self._rest[index]
            # A last ** means all that is beneath, not the directory itself.
            if at < len(pattern) - 1 and pattern[at] is None and (index, at + 1) not in found:
                found.add((index, at + 1))
                pending.append((index, at + 1))
        return frozenset(found)


def literal(path: bytes) -> str:
    """Return the pattern of what is at *path* alone, whatever its names hold."""
    text = path.decode(errors="surrogateescape")
    return "".join(f"[{character}]" if character in "*?[" else character for character in text)


_Component = bytes | re.Pattern[bytes] | None


def _literal(pattern: Sequence[_Component]) -> bool:
    return len(pattern) == 2 and pattern[0] is None and isinstance(pattern[1], bytes)  # noqa: PLR2004


def _components(text: str) -> list[_Component]:
    parts = [part for part in text.split("/") if part not in {"", "."}]
    if not parts or ".." in parts or "\0" in text:
        raise PatternError(f"{text!r} names nothing inside a workspace")
    components: list[_Component] = [
        _component(part.encode(errors="surrogateescape")) for part in parts
    ]
    if "/" not in text.rstrip("/"):
        components.insert(0, None)
    if components[-1] is None:
        components.append(re.compile(b".*", re.DOTALL))
    return components


def _component(part: bytes) -> _Component:
    if part == b"**":
        return None
    if not re.search(rb"[*?\[]", part):
        return part
    return re.compile(fnmatch.translate(part.decode("latin-1")).encode("latin-1"))
