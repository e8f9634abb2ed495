"""One directory of those that are watched: where it is, and what changed in it.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Node:
    """A directory: where it is, and what changed in it."""

    __slots__ = (
        "children", "depth", "gone", "listing", "name", "names", "parent", "watch", "whole",
    )  # fmt: skip

    def __init__(self, name: bytes, parent: Node | None) -> None:
        self.name = name
        self.parent = parent
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.children: dict[bytes, Node] = {}
        self.watch = -1
        self.names: set[bytes] = set()
        """Entries that aren't directories and that an event named."""
        self.listing = False
        """More changed of it than the entries that are named."""
        self.whole = False
        """Everything in it and beneath it counts as changed."""
        self.gone = False

    def ancestors(self) -> Iterator[Node]:
        """Yield what it is in, the nearest first."""
        node = self.parent
        while node is not None:
            yield node
            node = node.parent

    def path(self) -> bytes:
        """Return its path beneath the root, which is the empty one."""
        names = [node.name for node in (self, *self.ancestors())]
        return b"/".join(reversed(names[:-1]))

    def subtree(self) -> Iterator[Node]:
        """Yield it and all beneath it."""
        pending = [self]
        while pending:
            node = pending.pop()
            yield node
            pending += node.children.values()
