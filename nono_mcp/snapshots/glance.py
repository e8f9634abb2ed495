"""A look at all of a workspace that is known already: which directories aren't as they were.

Where nothing changed, this costs a status an entry and nothing else: names aren't listed where the
directory says that none came or went. What differs is then looked at as usual.

Architecture invariant: this only ever says where to look. It's used where a directory's times tell
of its names, which is on the file systems of this kernel, and not on those of other machines.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from nono_mcp.snapshots import helping, mounts
from nono_mcp.snapshots.comparing import (
    DIFFERING_MAX,
    DONE,
    NAMED,
    PIECES_MAX,
    RELIST,
    RESCAN,
    Comparer,
    Piece,
)
from nono_mcp.snapshots.marks import Mark, components

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from nono_mcp.snapshots.comparing import Found

_PIECES_MIN: Final = 64
_REPORT_EVERY: Final = 512
_LEVELS_MAX: Final = 8


def glance(
    db: sqlite3.Connection, workspace: int, root_fd: int, on_looked: Callable[[int], None]
) -> Mark | None:
    """Return where something differs from what a whole look saw; None is everywhere, perhaps.

    Raises:
        OSError: The workspace can't be looked at.
    """
    if not _times_tell_of_names(root_fd):
        return None
    pieces = _pieces(db, workspace)
    comparer = Comparer(db, workspace, root_fd)
    left = dict(enumerate(pieces))
    found: list[Found] = []
    with helping.Helper(db, workspace, root_fd, pieces) as helper:
        for number in helper.numbers():
            before = comparer.looked_count // _REPORT_EVERY
            found += comparer.differing(left.pop(number))
            if comparer.looked_count // _REPORT_EVERY > before:
                on_looked(comparer.looked_count)
            if len(found) > DIFFERING_MAX:
                return None
        for what, path in helper.found():
            if what == DONE:
                left.pop(int(path), None)
            else:
                found.append((what, path))
    # What the helper was killed at is left to us.
    for piece in left.values():
        found += comparer.differing(piece)
    return _marked(found)


def _times_tell_of_names(root_fd: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        return not mounts.beneath(root_fd)[0]
    except OSError:
        # Without /proc it can't be told what it lies on.
        return False


def _pieces(db: sqlite3.Connection, workspace: int) -> list[Piece]:
    """Return all of the workspace: in one piece, or, for two, some levels and what is beneath."""
    pieces: list[Piece] = []
    level = [Piece(row_id, b"", deep=True) for row_id, _ in _rows(db, workspace, 0)]
    for _ in range(_LEVELS_MAX if helping.is_worth_it(db, workspace) else 0):
        if not 0 < len(level) < _PIECES_MIN:
            break
        below: list[Piece] = []
        for above in level:
            lead = above.path + b"/" if above.path else b""
            rows = _rows(db, workspace, above.id)
            below += [Piece(row_id, lead + name, deep=True) for row_id, name in rows]
        if len(pieces) + len(level) + len(below) > PIECES_MAX:
            break
        pieces += [Piece(each.id, each.path, deep=False) for each in level]
        level = below
    return pieces + level


def _rows(db: sqlite3.Connection, workspace: int, parent: int) -> list[tuple[int, bytes]]:
    return db.execute(
        "SELECT id, name FROM dirs WHERE workspace = ? AND parent = ? LIMIT ?",
        (workspace, parent, PIECES_MAX + 1),
    ).fetchall()


def _marked(found: list[Found]) -> Mark | None:
    if len(found) > DIFFERING_MAX or (RESCAN, b"") in found:
        return None
    mark = Mark()
    for what, path in found:
        if what == RELIST:
            mark.at(components(path)).relist = True
            continue
        *above, name = components(path)
        if what == NAMED:
            mark.at(above).rehash.add(name)
            continue
        # Whether it's there and kept at all is for the listing to say.
        listed = mark.at(above)
        listed.relist = True
        listed.at([name]).rescan = True
    return mark
