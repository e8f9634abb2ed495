"""What was last seen of a workspace: a row a directory (FORMAT.md section 5).

Architecture invariant: a row tells what was seen and what was stored of it; whether that still
holds, only a look tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3


class Row(NamedTuple):
    """One directory as it was seen."""

    id: int
    seen: bytes
    """Its own status, packed."""
    entry: bytes
    """Its encoded entry in the directory above; of the root without a name."""
    files: int
    size: int
    stats: bytes
    """What `statuses.pack_stat` made of each name in it, in order."""


class Index:
    """The rows of one workspace."""

    def __init__(self, db: sqlite3.Connection, workspace: int) -> None:
        self._db = db
        self.workspace = workspace
        self.files_change = 0
        self.bytes_change = 0
        self.links_change = False
        self._met: dict[int, int] = {}

    def begin(self) -> None:
        """Count changes from here."""
        self.files_change = self.bytes_change = 0
        self.links_change = False
        self._met.clear()

    def row(self, parent: int, name: bytes) -> Row | None:
        """Return the row of a directory; the root's parent is 0."""
        found = self._db.execute(
            "SELECT id, seen, entry, files, bytes, stats FROM dirs"
            " WHERE workspace = ? AND parent = ? AND name = ?",
            (self.workspace, parent, name),
        ).fetchone()
        return None if found is None else Row(*found)

    def rows(self, parent: int) -> dict[bytes, Row]:
        """Return the rows of all directories in a directory, by name."""
        found = self._db.execute(
            "SELECT name, id, seen, entry, files, bytes, stats FROM dirs"
            " WHERE workspace = ? AND parent = ?",
            (self.workspace, parent),
        )
        return {name: Row(*row) for name, *row in found}

    def tree(self, row_id: int) -> bytes:
        """Return the encoded directory that a row stands for."""
        found = self._db.execute("SELECT tree FROM dirs WHERE id = ?", (row_id,)).fetchone()
        return bytes(found[0])

    def insert(self, parent: int, name: bytes) -> int:
        """Make a row for a directory that has none, and return its id."""
        cursor = self._db.execute(
            "INSERT INTO dirs (workspace, parent, name, seen, entry, files, bytes, stats, tree)"
            " VALUES (?, ?, ?, x'', x'', 0, 0, x'', x'')",
            (self.workspace, parent, name),
        )
        return cursor.lastrowid or 0

    def update(self, row: Row, old: Row | None, tree: bytes | None) -> None:
        """Put *row* in the place of *old*; without a *tree* the one that is there stays."""
        self.files_change += row.files - (old.files if old else 0)
        self.bytes_change += row.size - (old.size if old else 0)
        values = (row.seen, row.entry, row.files, row.size, row.stats)
        if tree is None:
            self._db.execute(
                "UPDATE dirs SET seen = ?, entry = ?, files = ?, bytes = ?, stats = ? WHERE id = ?",
                (*values, row.id),
            )
        else:
            self._db.execute(
                "UPDATE dirs SET seen = ?, entry = ?, files = ?, bytes = ?, stats = ?, tree = ?"
                " WHERE id = ?",
                (*values, tree, row.id),
            )

    def children(self, row_id: int) -> dict[bytes, int]:
        """Return the ids of the directories in a directory, by name."""
        found = self._db.execute(
            "SELECT name, id FROM dirs WHERE workspace = ? AND parent = ?",
            (self.workspace, row_id),
        )
        return dict(found.fetchall())

    def remove_children(self, row_id: int, names: list[bytes]) -> None:
        """Remove those *names* in a directory that are directories, and all beneath them."""
        children = self.children(row_id) if names else {}
        for name in names:
            if name in children:
                self.remove(children[name])

    def remove(self, row_id: int) -> None:
        """Remove a directory and all beneath it."""
        pending = [row_id]
        while pending:
            each = pending.pop()
            pending += self.children(each).values()
            counted = self._db.execute(
                "SELECT files, bytes FROM dirs WHERE id = ?", (each,)
            ).fetchone()
            self.files_change -= counted[0]
            self.bytes_change -= counted[1]
            self.set_links(each, {})
            self.set_unprotected(each, [])
            self._db.execute("DELETE FROM dirs WHERE id = ?", (each,))

    def clear(self) -> None:
        """Forget all that was seen of the workspace."""
        for table in ("dirs", "links", "unprotected"):
            self._db.execute(f"DELETE FROM {table} WHERE workspace = ?", (self.workspace,))  # noqa: S608 - a name of ours

    def set_links(self, row_id: int, found: dict[bytes, tuple[int, int]]) -> None:
        """Set inode and how many names of the files in a directory that have other names."""
        where = (self.workspace, row_id)
        links = [(name, ino) for name, (ino, _) in found.items()]
        old = self._db.execute(
            "SELECT name, ino FROM links WHERE workspace = ? AND dir = ?", where
        ).fetchall()
        if old == links:
            return
        self.links_change = True
        known = set(old)
        self._met.update(found[name] for name, ino in links if (name, ino) not in known)
        self._db.execute("DELETE FROM links WHERE workspace = ? AND dir = ?", where)
        self._db.executemany(
            "INSERT INTO links (workspace, dir, name, ino) VALUES (?, ?, ?, ?)",
            [(*where, *link) for link in links],
        )

    def is_settled(self) -> bool:
        """Tell whether of all that was met with other names since `begin` those are known."""
        if not self._met:
            return True
        found = self._db.execute(
            "SELECT ino, COUNT(*) FROM links WHERE workspace = ? GROUP BY ino", (self.workspace,)
        )
        known = dict(found.fetchall())
        return all(known.get(ino, 0) >= count for ino, count in self._met.items())

    def linked_directories(self) -> list[int]:
        """Return the directories with files that have other names."""
        found = self._db.execute(
            "SELECT DISTINCT dir FROM links WHERE workspace = ?", (self.workspace,)
        )
        return [row_id for (row_id,) in found]

    def inodes(self, row_id: int, names: set[bytes]) -> set[int]:
        """Return the inodes of those *names* in a directory that have other names."""
        found = self._db.execute(
            "SELECT name, ino FROM links WHERE workspace = ? AND dir = ?", (self.workspace, row_id)
        )
        return {inode for name, inode in found if name in names}

    def links(self) -> list[tuple[int, bytes, int]]:
        """Return (directory, name, inode) of all files that have other names."""
        return self._db.execute(
            "SELECT dir, name, ino FROM links WHERE workspace = ? ORDER BY ino", (self.workspace,)
        ).fetchall()

    def set_unprotected(self, row_id: int, found: list[tuple[bytes, str]]) -> None:
        """Set what in a directory isn't kept, and why."""
        where = (self.workspace, row_id)
        self._db.execute("DELETE FROM unprotected WHERE workspace = ? AND dir = ?", where)
        if found:
            self._db.executemany(
                "INSERT INTO unprotected (workspace, dir, name, why) VALUES (?, ?, ?, ?)",
                [(*where, *each) for each in found],
            )

    def is_whole(self, row_id: int) -> bool:
        """Tell whether all that is in a directory is kept."""
        found = self._db.execute(
            "SELECT 1 FROM unprotected WHERE workspace = ? AND dir = ? LIMIT 1",
            (self.workspace, row_id),
        )
        return found.fetchone() is None

    def unprotected(self, count_max: int) -> tuple[list[tuple[bytes, str]], int]:
        """Return the first paths that aren't kept, with why, and how many there are."""
        (count,) = self._db.execute(
            "SELECT COUNT(*) FROM unprotected WHERE workspace = ?", (self.workspace,)
        ).fetchone()
        if not count:
            return [], 0
        found = self._db.execute(
            "SELECT dir, name, why FROM unprotected WHERE workspace = ? LIMIT ?",
            (self.workspace, count_max),
        ).fetchall()
        return sorted((self.path(row_id, name), why) for row_id, name, why in found), count

    def untouchable(self) -> list[tuple[int, bytes]]:
        """Return (directory, name) of all that isn't kept but for sockets."""
        return self._db.execute(
            "SELECT dir, name FROM unprotected WHERE workspace = ? AND why != 'socket'",
            (self.workspace,),
        ).fetchall()

    def components(self, row_id: int) -> list[bytes]:
        """Return the names that lead from the root to a directory."""
        names: list[bytes] = []
        while row_id:
            parent, name = self._db.execute(
                "SELECT parent, name FROM dirs WHERE id = ?", (row_id,)
            ).fetchone()
            if parent:
                names.append(name)
            row_id = parent
        return names[::-1]

    def path(self, row_id: int, name: bytes) -> bytes:
        """Return the path of *name* in a directory."""
        return b"/".join([*self.components(row_id), name])
