"""Which directories are to be looked at: `Dirty` as a tree.

Architecture invariant: this module does no I/O and reads no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nono_mcp.snapshots.values import Dirty


class Mark:
    """What to do in one directory, and in which of those beneath it there is something to do.

    Without any of it, the directory itself is looked at.
    """

    __slots__ = ("beneath", "rehash", "relist", "rescan")

    def __init__(self) -> None:
        self.beneath: dict[bytes, Mark] = {}
        self.rehash: set[bytes] = set()
        self.relist = False
        self.rescan = False

    def at(self, path: Iterable[bytes]) -> Mark:
        """Return the mark of the directory at *path*, made if there is none."""
        mark = self
        for name in path:
            following = mark.beneath.get(name)
            if following is None:
                following = mark.beneath[name] = Mark()
            mark = following
        return mark

    def merge(self, other: Mark) -> None:
        """Have all that *other* says done, too."""
        pending = [(self, other)]
        while pending:
            into, each = pending.pop()
            into.relist |= each.relist
            into.rescan |= each.rescan
            into.rehash |= each.rehash
            pending += [(into.at([name]), mark) for name, mark in each.beneath.items()]


def marked(dirty: Dirty) -> Mark:
    """Return *dirty* as a tree."""
    top = Mark()
    for path in dirty.relist:
        top.at(components(path)).relist = True
    for path in dirty.rescan:
        top.at(components(path)).rescan = True
    for path in dirty.rehash:
        *above, name = components(path) or [b""]
        top.at(above).rehash.add(name)
    return top


def everything() -> Mark:
    """Return what says: look at all there is."""
    top = Mark()
    top.rescan = True
    return top


def components(path: bytes) -> list[bytes]:
    """Return the names that *path* is made of."""
    return [name for name in path.split(b"/") if name not in {b"", b"."}]
