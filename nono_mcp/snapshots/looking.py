"""Where to look for what changed, and what to go by there.

Architecture invariant: nothing is taken to be unchanged but where a caller, or a glance at what is
known, says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nono_mcp.snapshots.glance import glance
from nono_mcp.snapshots.marks import Mark, everything, marked
from nono_mcp.snapshots.trust import Trust
from nono_mcp.snapshots.values import Dirty

if TYPE_CHECKING:
    from collections.abc import Callable

    from nono_mcp.snapshots.index import Index
    from nono_mcp.snapshots.workspace import Workspace


def where(
    workspace: Workspace,
    dirty: Dirty | Mark | None,
    rules: str,
    glancing: Callable[[int], None] | None,
) -> tuple[Mark, Trust]:
    """Return where to look, and what to go by.

    *glancing* hears how much was looked at to tell where to look, if everything is to be: without
    it, it is.
    """
    whole, seen_rules, generation = workspace.store.db.execute(
        "SELECT whole, rules, generation FROM workspaces WHERE id = ?", (workspace.id,)
    ).fetchone()
    told = dirty if isinstance(dirty, Dirty) else Dirty()
    alone = told.generation in {None, generation}
    known = bool(whole) and seen_rules == rules and workspace.index.row(0, b"") is not None
    mark = _mark(workspace.index, dirty) if known else everything()
    mark.rescan |= not alone
    # Where times don't tell of what was written by a map, all is read and nothing is compared.
    if mark.rescan and known and workspace.times_tell and glancing is not None:
        differing = glance(workspace.store.db, workspace.id, workspace.fd, glancing)
        if differing is not None:
            mark.rescan = False
            mark.merge(differing)
    times = workspace.times_tell or not mark.rescan
    marks = told.unsure is not None and alone
    return mark, Trust(told.unsure, whole=bool(whole), times=times, marks=marks)


def _mark(rows: Index, dirty: Dirty | Mark | None) -> Mark:
    told = everything() if dirty is None else dirty
    mark = told if isinstance(told, Mark) else marked(told)
    # A write through another name of a file, perhaps outside, shows in no directory.
    inodes: set[int] = set()
    for row_id in rows.linked_directories():
        at = mark.at(rows.components(row_id))
        at.relist = True
        if at.rehash:
            inodes |= rows.inodes(row_id, at.rehash)
    # One by a map, by the one name that is told of, shows in no status either.
    for row_id, name, inode in rows.links() if inodes else ():
        if inode in inodes:
            mark.at(rows.components(row_id)).rehash.add(name)
    return mark
