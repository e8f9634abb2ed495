"""What a guard knows, as plain values that `marshal` takes, and back.

Specified by FORMAT.md beside this file.

Architecture invariant: pure. What isn't as it was written is None, and never half of it.
"""

from __future__ import annotations

from nono_mcp.guard import tree
from nono_mcp.guard.closed_paths import ClosedPaths
from nono_mcp.guard.judging_spots import Seen
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nono_mcp.guard.tree import Kept

    Key = tuple[tuple[str, ...], str]

_TOP = "top 1"


class Top(Value):
    """What is known of a directory that may be written."""

    path: str
    was_there: bool
    crowded: frozenset[Key]
    closed: tuple[ClosedPaths, ...]
    """What wasn't looked at: what is in each of them."""
    awaited: frozenset[Key]
    """What was looked at besides the guard's own names."""
    seen: dict[Key, Seen]


def of_top(top: Top) -> object:
    """Return *top* as plain values."""
    closed = tuple(tuple(sorted(one.paths)) for one in top.closed)
    seen = tuple((key, one.print, of_kept(one.kept)) for key, one in top.seen.items())
    sets = tuple(sorted(top.crowded)), closed, tuple(sorted(top.awaited))
    return (_TOP, top.path, top.was_there, *sets, seen)


def to_top(value: Any, path: str) -> Top | None:  # noqa: ANN401 - whatever was read
    """Return what *value* says of the directory *path*, or None if it says nothing of that."""
    if not isinstance(value, tuple) or value[:2] != (_TOP, path):
        return None
    _, _, was_there, crowded, closed, awaited, seen = value
    return Top(
        path,
        was_there,
        frozenset(crowded),
        tuple(ClosedPaths(paths) for paths in closed),
        frozenset(awaited),
        {key: Seen(found, to_kept(kept)) for key, found, kept in seen},
    )


def of_kept(kept: Kept | None) -> object:
    """Return *kept* as plain values."""
    if kept is None:
        return None
    entries = tuple((name, of_kept(one)) for name, one in kept.entries)
    return kept.kind, kept.mode, kept.data, entries, kept.is_whole


def to_kept(value: Any) -> Kept | None:  # noqa: ANN401 - whatever was read
    """Return what was kept."""
    if value is None:
        return None
    kind, mode, data, entries, is_whole = value
    inner = tuple((name, _kept(one)) for name, one in entries)
    return tree.Kept(kind, mode, data, inner, is_whole)


def _kept(value: object) -> Kept:
    kept = to_kept(value)
    if kept is None:
        raise TypeError("an entry that wasn't kept")
    return kept
