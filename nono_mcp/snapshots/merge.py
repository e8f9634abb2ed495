"""Making the tree that a restore leads to: what is there now, with some of it put back.

Architecture invariant: what isn't put back stays as it is, and so does a directory that holds any
of it. Trees are only read and stored; the workspace isn't looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nono_mcp.snapshots import trees

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nono_mcp.snapshots.encoding import Entry
    from nono_mcp.snapshots.objects import Objects


class Edits:
    """What is put in the place of what, as a tree; a directory's entry is about itself alone."""

    __slots__ = ("beneath", "entry", "is_set")

    def __init__(self) -> None:
        self.beneath: dict[bytes, Edits] = {}
        self.entry: Entry | None = None
        self.is_set = False

    def put(self, path: Iterable[bytes], entry: Entry | None) -> None:
        """Have *entry* at *path*, or nothing."""
        edits = self
        for name in path:
            following = edits.beneath.get(name)
            if following is None:
                following = edits.beneath[name] = Edits()
            edits = following
        edits.entry, edits.is_set = entry, True


class _Frame:
    __slots__ = ("children", "current", "edits", "name", "pending")

    def __init__(self, objects: Objects, name: bytes, edits: Edits, current: Entry | None) -> None:
        self.name = name
        self.edits = edits
        self.current = current
        self.children: dict[bytes, Entry] = {}
        if current is not None and current.is_directory and edits.beneath:
            self.children = trees.decode_tree(objects.tree(current.target))
        self.pending: Iterator[tuple[bytes, Edits]] = iter(edits.beneath.items())


class Merge:
    """Edits, done."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.kept: list[tuple[list[bytes], str]] = []
        """What stays as it is though it was to change, and why."""
        self._stack: list[_Frame] = []

    def run(self, root: Entry, edits: Edits) -> Entry:
        """Return *root* with *edits* done.

        Raises:
            DamagedStoreError: A tree can't be read.
        """
        self._stack = [_Frame(self._objects, b"", edits, root)]
        while True:
            frame = self._stack[-1]
            following = next(frame.pending, None)
            if following is not None:
                name, beneath = following
                child = _Frame(self._objects, name, beneath, frame.children.get(name))
                self._stack.append(child)
                continue
            result = self._result(frame)
            self._stack.pop()
            if not self._stack:
                # A root is never removed.
                return result or root
            if result is None:
                self._stack[-1].children.pop(frame.name, None)
            else:
                self._stack[-1].children[frame.name] = result

    def _result(self, frame: _Frame) -> Entry | None:
        edits, current = frame.edits, frame.current
        wanted = edits.entry if edits.is_set else current
        is_directory = wanted is not None and wanted.is_directory
        if not is_directory and frame.children:
            if current is None or not current.is_directory:
                return self._keep(current, "isn't a directory now, and isn't part of this")
            return self._keep(self._filled(frame, current), "holds what isn't part of this")
        if not edits.beneath and not is_directory and edits.is_set and self._holds(current):
            return self._keep(current, "holds what isn't part of this")
        if wanted is None or not is_directory:
            return wanted
        if edits.beneath or current is None or not current.is_directory:
            return self._filled(frame, wanted)
        return wanted._replace(target=current.target)

    def _filled(self, frame: _Frame, entry: Entry) -> Entry:
        tree = trees.encode_tree(frame.children.values())
        return entry._replace(target=self._objects.put_tree(tree))

    def _keep(self, entry: Entry | None, why: str) -> Entry | None:
        self.kept.append(([each.name for each in self._stack[1:]], why))
        return entry

    def _holds(self, entry: Entry | None) -> bool:
        """Tell whether *entry* is a directory with something in it."""
        return entry is not None and entry.is_directory and bool(self._objects.tree(entry.target))
