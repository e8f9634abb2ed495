"""Collecting what no snapshot needs: objects first, then packs, one at a time.

Architecture invariant: an object that isn't needed leaves the index before its bytes go, so that
nobody begins to need it; and at most one pack's bytes are there twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import zstandard

from nono_mcp.snapshots import database, encoding, trees
from nono_mcp.snapshots.objects import LEVEL
from nono_mcp.snapshots.packs import pack_name
from nono_mcp.snapshots.values import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nono_mcp.snapshots.store import Store

    OnProgress = Callable[[Progress], None]

_DEAD_PART: Final = 0.25
"""A pack of which more than this isn't needed is written anew."""


class Marking:
    """Finds all objects that roots need."""

    def __init__(self, store: Store) -> None:
        self._objects = store.objects
        self.needed: set[bytes] = set()

    def mark(self, roots: Iterable[bytes]) -> None:
        """Note what *roots* need, down to every block.

        Raises:
            DamagedStoreError: A tree can't be read, so that nothing may be collected.
        """
        pending: list[bytes] = []
        for name in roots:
            if name in self.needed:
                continue
            root = self._objects.root(name)
            self.needed |= {name, root.links}
            pending.append(root.entry.target)
        while pending:
            name = pending.pop()
            if name not in self.needed:
                self.needed.add(name)
                pending += self._tree(self._objects.tree(name))

    def trees(self, trees: Iterable[tuple[bytes, bytes]]) -> None:
        """Note what trees need of which the (id, bytes) are at hand."""
        for name, data in trees:
            if name not in self.needed:
                self.needed.add(name)
                self._tree(data)

    def _tree(self, data: bytes) -> list[bytes]:
        """Note what a tree needs, and return the trees among that."""
        found = []
        for entry in trees.decode_tree(data).values():
            if entry.is_directory:
                found.append(entry.target)
            elif entry.kind == encoding.FILE:
                self.needed.add(entry.target)
            elif entry.kind == encoding.MAPPED and entry.target not in self.needed:
                self.needed.add(entry.target)
                _, segments = encoding.decode_map(self._objects.map(entry.target))
                self.needed |= {segment.id for segment in segments}
        return found


def collect(store: Store, on_progress: OnProgress | None) -> None:
    """Remove what no snapshot, no restore and no workspace's last look needs.

    Raises:
        DamagedStoreError: Nothing was removed.
        BusyError: Somebody uses the store for too long. What was removed so far wasn't needed.
    """
    with store.alone():
        _drop_objects(store)
        packs = _worn(store)
    for done, number in enumerate(packs):
        if on_progress is not None:
            on_progress(Progress("collect", done, len(packs)))
        # Others have their turns in between.
        with store.alone():
            _rewrite(store, number)
    with store.alone():
        known = {pack_name(number) for (number,) in store.db.execute("SELECT id FROM packs")}
        store.packs.remove_strays(known.__contains__)


def _drop_objects(store: Store) -> None:
    db = store.db
    marking = Marking(store)
    roots = db.execute(
        "SELECT root FROM snapshots UNION SELECT current FROM restores"
        " UNION SELECT target FROM restores"
    )
    marking.mark(bytes(root) for (root,) in roots.fetchall())
    # What was last seen counts as stored, and isn't read again while it looks the same.
    seen = db.execute("SELECT entry, tree FROM dirs WHERE length(entry) > 0")
    marking.trees((encoding.decode_entry(entry).target, tree) for entry, tree in seen)
    marking.needed |= {bytes(x) for (x,) in db.execute("SELECT links FROM workspaces") if x}
    with database.writing(db):
        names = [bytes(name) for (name,) in db.execute("SELECT id FROM objects")]
        gone = [(name,) for name in names if name not in marking.needed]
        db.executemany("DELETE FROM objects WHERE id = ?", gone)
        db.execute("DELETE FROM frames WHERE id NOT IN (SELECT frame FROM objects)")


def _worn(store: Store) -> list[int]:
    """Return the packs that hold much that isn't needed, the emptiest first."""
    sizes = store.packs.sizes()
    used = store.db.execute(
        "SELECT packs.id, COALESCE((SELECT SUM(frames.length * live.raw / MAX(frames.raw, 1))"
        " FROM frames JOIN (SELECT frame, SUM(length) AS raw FROM objects GROUP BY frame) AS live"
        " ON live.frame = frames.id WHERE pack = packs.id), 0) FROM packs"
    ).fetchall()
    worn = []
    for number, live in used:
        size = sizes.get(pack_name(number), 0)
        if size == 0 or 1 - live / size > _DEAD_PART:
            worn.append((live, number))
    return [number for _, number in sorted(worn)]


def _rewrite(store: Store, number: int) -> None:
    """Move what is needed of a pack to another, and remove it."""
    db = store.db
    compressor = zstandard.ZstdCompressor(LEVEL)
    with database.writing(db):
        # It takes nothing more, not even from itself.
        db.execute("DELETE FROM packs WHERE id = ?", (number,))
        frames = db.execute("SELECT id, raw FROM frames WHERE pack = ?", (number,)).fetchall()
        for frame, raw in frames:
            _move(store, compressor, frame, raw)
        store.packs.sync()
    store.packs.release()
    store.objects.forget()
    store.packs.remove(number)


def _move(store: Store, compressor: zstandard.ZstdCompressor, frame: int, raw: int) -> None:
    """Write a frame anew, with what is needed of it."""
    db = store.db
    found = db.execute(
        "SELECT id, offset, length FROM objects WHERE frame = ? ORDER BY offset", (frame,)
    ).fetchall()
    data = store.objects.frame(frame)
    parts, offset = [], 0
    for name, at, length in found:
        parts.append(data[at : at + length])
        db.execute("UPDATE objects SET offset = ? WHERE id = ?", (offset, name))
        offset += length
    whole = data if offset == raw else b"".join(parts)
    compressed = compressor.compress(whole)
    pack, start = store.packs.append(compressed)
    db.execute(
        "UPDATE frames SET pack = ?, offset = ?, length = ?, raw = ? WHERE id = ?",
        (pack, start, len(compressed), len(whole), frame),
    )
