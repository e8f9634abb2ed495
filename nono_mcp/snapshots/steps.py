"""From one tree to another, step by step: what differs, in an order in which it can be done.

Architecture invariant: subtrees that are equal aren't read, and nothing recurses. A place in a tree
is a `Node`, whose path is built only for who asks.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from nono_mcp.snapshots import encoding, trees
from nono_mcp.snapshots.errors import DamagedStoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nono_mcp.snapshots.encoding import Entry
    from nono_mcp.snapshots.objects import Objects

    Pair = tuple[bytes, bytes | None, bytes | None]
    Lost = Callable[["Step", DamagedStoreError], None]

ENTER: Final = "enter"
LEAVE: Final = "leave"
PUT: Final = "put"
_KEY_BYTES: Final = 16


class Node:
    """A place in a tree."""

    __slots__ = ("above", "key", "name")

    def __init__(self, above: Node | None, name: bytes) -> None:
        self.above = above
        self.name = name
        self.key: bytes = b"" if above is None else below(above.key, name)

    def components(self) -> list[bytes]:
        """Return the names that lead here."""
        names = []
        node = self
        while node.above is not None:
            names.append(node.name)
            node = node.above
        return names[::-1]

    def path(self) -> bytes:
        """Return the path that leads here."""
        return b"/".join(self.components())


def below(key: bytes, name: bytes) -> bytes:
    """Return what stands for the path of *name* in the directory that *key* stands for."""
    return hashlib.sha256(key + name).digest()[:_KEY_BYTES]


def key_of(components: Iterable[bytes]) -> bytes:
    """Return what stands for a path."""
    key = b""
    for name in components:
        key = below(key, name)
    return key


class Step(NamedTuple):
    """One thing that differs, or the way to it.

    ENTER and LEAVE enclose what differs in what is a directory before or after; PUT is about
    anything else. What replaces a directory is put once that was left.
    """

    what: str
    node: Node
    before: Entry | None
    after: Entry | None


def in_place(step: Step, replaced: frozenset[bytes]) -> bool:
    """Tell whether a file's content stays, so that nothing but its metadata is set.

    *replaced* are the files with other names: to change one in place would change those too.
    """
    before, after = step.before, step.after
    if before is None or after is None or before.is_directory or step.node.key in replaced:
        return False
    return (before.kind, before.target, before.size, before.uid) == (
        after.kind, after.target, after.size, after.uid,
    )  # fmt: skip


class Relinked:
    """Files whose hard-link groups differ, though they themselves may not."""

    def __init__(self, paths: Iterable[bytes] = ()) -> None:
        self.keys: set[bytes] = set()
        self.above: set[bytes] = set()
        for path in paths:
            key = b""
            for name in path.split(b"/"):
                self.above.add(key)
                key = below(key, name)
            self.keys.add(key)

    def concerns(self, node: Node) -> bool:
        """Tell whether *node* is one of them, or leads to one."""
        return node.key in self.keys or node.key in self.above


class _Directory:
    __slots__ = ("pending", "step", "then")

    def __init__(self, step: Step, then: Step | None, differing: list[Pair]) -> None:
        self.step = step
        self.then = then
        self.pending = differing[::-1]


def _comes(pair: Pair) -> bool:
    _, _, after = pair
    return after is not None


def _differing(objects: Objects, step: Step, lost: Lost | None, *, every: bool) -> list[Pair]:
    try:
        both = _tree(objects, step.before), _tree(objects, step.after)
    except DamagedStoreError as error:
        path = os.fsdecode(step.node.path()) or "."
        named = DamagedStoreError(tuple(each.at(path) for each in error.damage))
        if lost is None:
            raise named from error
        lost(step, named)
        return []
    return trees.differing(*both, every=every)


def _tree(objects: Objects, entry: Entry | None) -> bytes:
    if entry is None or not entry.is_directory or not entry.target:
        return b""
    return objects.tree(entry.target)


def steps(
    objects: Objects,
    between: tuple[Entry, Entry],
    relinked: Relinked | None = None,
    lost: Lost | None = None,
    *,
    removed_first: bool = False,
) -> Iterator[Step]:
    """Yield the steps *between* two roots, from the first to the second, ordered by name.

    With *removed_first* what goes from a directory goes before anything comes there, which may be
    what another spelling of it names.

    If what is in a directory can't be read, *lost* hears of that, and may raise it.

    Raises:
        DamagedStoreError: A tree can't be read, and nobody hears of it. It names the directory.
    """
    before, after = between
    relinked = relinked or Relinked()
    if before == after and not relinked.keys:
        return
    top = Step(ENTER, Node(None, b""), before, after)
    yield top
    every = bool(relinked.keys)

    def found(step: Step) -> list[Pair]:
        differing = _differing(objects, step, lost, every=every)
        return sorted(differing, key=_comes) if removed_first else differing

    stack = [_Directory(top, None, found(top))]
    while stack:
        directory = stack[-1]
        if not directory.pending:
            stack.pop()
            yield directory.step._replace(what=LEAVE)
            if directory.then is not None:
                yield directory.then
            continue
        name, was_encoded, new_encoded = directory.pending.pop()
        node = Node(directory.step.node, name)
        if was_encoded == new_encoded and not relinked.concerns(node):
            continue
        old = None if was_encoded is None else encoding.decode_entry(was_encoded)
        new = None if new_encoded is None else encoding.decode_entry(new_encoded)
        put = Step(PUT, node, old, new)
        was = old is not None and old.is_directory
        becomes = new is not None and new.is_directory
        if not was and not becomes:
            yield put
            continue
        step = put._replace(what=ENTER)
        yield step
        then = put if new is not None and not becomes else None
        stack.append(_Directory(step, then, found(step)))
