"""What was found in a directory, stored: its files if they changed, and its own row and tree.

Architecture invariant: only what a visit found is stored; the walk is somebody else's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nono_mcp.snapshots import encoding, statuses, trees, visits
from nono_mcp.snapshots.index import Index, Row
from nono_mcp.snapshots.reading import KEPT_CHANGING, Reader, UnreadableError

if TYPE_CHECKING:
    from nono_mcp.snapshots.descent import Descent
    from nono_mcp.snapshots.objects import Objects
    from nono_mcp.snapshots.trust import Trust
    from nono_mcp.snapshots.visits import Visit


class Storer:
    """Stores the directories of one look."""

    def __init__(self, objects: Objects, rows: Index, reader: Reader, trust: Trust) -> None:
        self._objects = objects
        self._index = rows
        self._reader = reader
        self._trust = trust

    def finish(self, descent: Descent, visit: Visit) -> Row:
        """Return the row of a directory of which all was looked at, stored if it changed."""
        old = visit.old
        if old is None or self._differs(visit, old):
            return self._store(descent, visit)
        if old.seen == visit.seen:
            return old
        known = encoding.decode_entry(old.entry)
        entry = visits.own_entry(descent, visit)._replace(target=known.target)
        encoded = old.entry if entry == known else encoding.encode_entry(entry)
        row = old._replace(seen=_kept(visit), entry=encoded)
        if row != old:
            self._index.update(row, old, None)
        return row

    def _differs(self, visit: Visit, old: Row) -> bool:
        if visit.changed or visit.named:
            return True
        if visit.listed and (visit.mark.rehash or visit.stats != old.stats):
            return True
        if visit.listed and not self._trust.times:
            return True
        if self._trust.whole or not visit.entries:
            return False
        stored = trees.split_tree(self._index.tree(old.id))
        return any(stored.get(name) != entry for name, entry in visit.entries.items())

    def _store(self, descent: Descent, visit: Visit) -> Row:
        old = visit.old
        tree = self._index.tree(old.id) if old else b""
        if visit.listed:
            listed, stats = self._listed(descent, visit, trees.split_tree(tree))
            files, size = visit.files, visit.size
            self._index.set_unprotected(visit.row_id, visit.unprotected)
            self._index.set_links(visit.row_id, visit.linked)
            whole = {**listed, **visit.entries}
            entries = {name: each for name, each in whole.items() if each is not None}
            self._forget(visit, entries)
            encoded = b"".join(map(entries.__getitem__, sorted(entries)))
        else:
            changed = dict(visit.entries)
            stats, files, size = self._looked_at(visit, old, changed)
            encoded = trees.patched(tree, changed)
            gone = [
                name for name, each in changed.items() if each is None or not _is_directory(each)
            ]
            self._index.remove_children(visit.row_id, gone)
        entry = visits.own_entry(descent, visit)._replace(target=self._objects.put_tree(encoded))
        row = Row(visit.row_id, _kept(visit), encoding.encode_entry(entry), files, size, stats)
        self._index.update(row, old, encoded)
        return row

    def _looked_at(
        self, visit: Visit, old: Row | None, changed: dict[bytes, bytes | None]
    ) -> tuple[bytes, int, int]:
        """Put into *changed* what was looked at alone; return packed statuses, files and bytes."""
        if old is None:
            return b"", 0, 0
        if not visit.named:
            return b"" if visit.stale else old.stats, old.files, old.size
        known, files, size = statuses.unpack_stats(old.stats), old.files, old.size
        for name, found in visit.named.items():
            before, after = statuses.counted(known.pop(name, None)), (0, 0)
            changed[name] = None if found is None else found[1]
            if found is not None:
                known[name] = found[0]
                after = statuses.counted(known[name])
            files += after[0] - before[0]
            size += after[1] - before[1]
        stats = b"".join(known[name] for name in sorted(known))
        return b"" if visit.stale else stats, files, size

    def _forget(self, visit: Visit, tree: dict[bytes, bytes]) -> None:
        """Forget the directories that are gone, or something else by now."""
        for name, row_id in self._index.children(visit.row_id).items():
            if name not in tree or not _is_directory(tree[name]):
                self._index.remove(row_id)

    def _listed(
        self, descent: Descent, visit: Visit, tree: dict[bytes, bytes]
    ) -> tuple[dict[bytes, bytes], bytes]:
        """Return a listed directory's entries and packed statuses, reading what changed."""
        known = statuses.unpack_stats(visit.old.stats) if visit.old else {}
        path = self._reader.path()
        entries: dict[bytes, bytes] = {}
        packed = []
        rehash, trust = visit.mark.rehash, self._trust
        for name, seen in visit.packed.items():
            stored, was = tree.get(name), known.get(name)
            if statuses.is_directory(seen):
                packed.append(seen)
                if stored is not None:
                    entries[name] = stored
                continue
            if stored is not None and name not in rehash and trust.known(was, seen):
                entries[name] = stored
                packed.append(was or seen)
                continue
            status = visit.statuses[name]
            try:
                fresh, status_read = self._reader.read(descent.fd, name, status)
            except UnreadableError as error:
                visit.unprotected.append((name, str(error)))
                # What a socket is, it stays; what kept changing is tried again.
                packed.append(statuses.pack_stat(name, status, racy=str(error) == KEPT_CHANGING))
            except FileNotFoundError:
                visit.stale = True
            else:
                entries[name] = encoding.encode_entry(fresh)
                racy = visits.racy(status_read, visit.started_ns)
                packed.append(self._trust.kept([*path, name], status_read, racy=racy))
        packed += [
            statuses.pack_excluded(name) for name, why in visit.unprotected if why == "excluded"
        ]
        packed.sort(key=visits.packed_name)
        return entries, b"" if visit.stale else b"".join(packed)


def _is_directory(encoded: bytes) -> bool:
    return encoded[visits.KIND_AT] == encoding.DIRECTORY


def _kept(visit: Visit) -> bytes:
    """Return what is kept of a directory's own status.

    The next look takes it that no names came or went where that is the same. So of a directory that
    wasn't listed only what the last listing saw is kept.
    """
    if visit.listed and not visit.stale:
        return visit.kept
    if visit.old is not None and visit.old.seen == visit.seen and not visit.stale:
        return visit.seen
    return statuses.doubted(visit.seen)
