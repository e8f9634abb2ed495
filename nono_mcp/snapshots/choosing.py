"""What a restore is to put back: everything, some paths, or what an agent's calls changed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from nono_mcp.snapshots import encoding, groups, trees
from nono_mcp.snapshots.encoding import Entry, Root
from nono_mcp.snapshots.errors import DamagedStoreError, SnapshotError
from nono_mcp.snapshots.merge import Edits, Merge
from nono_mcp.snapshots.patterns import Patterns
from nono_mcp.snapshots.steps import LEAVE, PUT, Node, Step, key_of
from nono_mcp.snapshots.values import LISTED_MAX, Conflict, Unprotected

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nono_mcp.snapshots.difference import Comparison, Comparisons
    from nono_mcp.snapshots.groups import Group
    from nono_mcp.snapshots.objects import Objects
    from nono_mcp.snapshots.patterns import State
    from nono_mcp.snapshots.steps import Lost
    from nono_mcp.snapshots.values import Snapshot

PATHS_BYTES_MAX: Final = 64 << 20
"""How long all paths that an agent's calls changed may be together."""


_CLOSED: Final = "closed to calls: a person can put it back, by nono rollback"


class Target:
    """Where a restore leads."""

    def __init__(
        self,
        objects: Objects,
        comparisons: Comparisons,
        current: bytes,
        untouchable: Iterable[list[bytes]] = (),
        leave: Sequence[bytes] = (),
    ) -> None:
        self._objects = objects
        self._comparisons = comparisons
        # What isn't protected is never removed, so what leads to it stays.
        left = [path.split(b"/") for path in leave]
        stays = (*untouchable, *left)
        self._anchors = {key_of(path[:end]) for path in stays for end in range(1, len(path))}
        self._left = {key_of(path) for path in left}
        self._current_hash = current
        self.current = objects.root(current)
        self.root_hash = current
        self.kept: list[Conflict] = []
        self.unprotected: list[Unprotected] = []
        self._edits = Edits()
        self._replaced: set[bytes] = set()
        self._paths_bytes = 0
        self._wanted: list[Group] = []
        self._own_groups = {os.getegid(), *os.getgroups()}

    def choose(self, wanted: bytes, paths: Sequence[str]) -> None:
        """Lead to *wanted*, where *paths* match if there are any; call it where objects are put.

        What either has excluded stays as it is.

        Raises:
            DamagedStoreError: A tree can't be read.
        """
        comparison = self._comparisons.of(self._current_hash, wanted)
        then = comparison.after
        whole = not paths and not self._left and then.exclusions == self.current.exclusions
        excluded = Patterns((*then.exclusions, *self.current.exclusions))
        simple = True
        passed: dict[Node, Step] = {}
        chosen = hidden = False

        def lost(step: Step, error: DamagedStoreError) -> None:
            if chosen and not hidden:
                raise error
            # It stays as it is: nobody asked for it.
            self._keep(step.node.components(), "what was in it can't be read: the store is damaged")

        for step, (matched, hidden) in _walk(comparison, (Patterns(paths), excluded), lost):
            chosen = matched or not paths
            if hidden or not chosen:
                simple = False
                if step.what != PUT:
                    passed[step.node] = step
            elif self._above(step, passed):
                simple &= self._choose(step)
        if whole and simple:
            self.root_hash = wanted
            return
        self._wanted = encoding.decode_links(self._objects.links(then.links))
        self._finish()

    def _above(self, step: Step, passed: dict[Node, Step]) -> bool:
        """Bring back the directories that lead to *step*; tell whether they can be."""
        missing = []
        node = step.node.above
        while node is not None and (above := passed.get(node)) is not None:
            if above.before is not None and above.before.is_directory:
                break
            missing.append(above)
            node = node.above
        if any(above.before is not None for above in missing):
            self._keep(step.node.components(), "something else is where its directory was")
            return False
        for above in missing:
            self._choose(above)
            del passed[above.node]
        return True

    def _choose(self, step: Step) -> bool:
        """Put what *step* says; tell whether it's what it was then."""
        if step.what != PUT and step.after is not None and not step.after.is_directory:
            # The step that puts what replaces it follows.
            return True
        after = self._giveable(step, step.after)
        return self._put(step.node.components(), after) and after == step.after

    def _put(self, components: list[bytes], entry: Entry | None) -> bool:
        """Have *entry* at a path, or nothing; tell whether it could be."""
        staying = entry is None or not entry.is_directory
        if self._left and self._leaves(components):
            self._keep(components, _CLOSED)
            return False
        if self._anchors and staying and key_of(components) in self._anchors:
            self._keep(components, "holds what isn't protected")
            return False
        self._edits.put(components, entry)
        if entry is None or not entry.is_directory:
            path = b"/".join(components)
            self._paths_bytes += len(path)
            if self._paths_bytes > PATHS_BYTES_MAX:
                raise SnapshotError("too much changed to choose from; restore everything")
            self._replaced.add(path)
        return True

    def _leaves(self, components: list[bytes]) -> bool:
        """Tell whether it's to stay as it is, or what is above it."""
        ends = range(1, len(components) + 1)
        return any(key_of(components[:end]) in self._left for end in ends)

    def _giveable(self, step: Step, entry: Entry | None) -> Entry | None:
        """Return *entry* with an owner that we can give it."""
        if entry is None or os.geteuid() == 0:
            return entry
        if entry.uid == os.geteuid() and entry.gid in self._own_groups:
            return entry
        before = step.before
        if before is not None and before._replace(target=b"") == entry._replace(target=b""):
            return entry
        self._unprotected(step.node.components(), f"belonged to {entry.uid}:{entry.gid}")
        if before is not None and before.is_directory and entry.is_directory:
            return before
        gid = entry.gid if entry.gid in self._own_groups else os.getegid()
        return entry._replace(uid=os.geteuid(), gid=gid)

    def _unprotected(self, components: Iterable[bytes], why: str) -> None:
        if len(self.unprotected) < LISTED_MAX:
            self.unprotected.append(Unprotected(b"/".join(components), why))

    def _keep(self, components: Iterable[bytes], why: str) -> None:
        if len(self.kept) < LISTED_MAX:
            self.kept.append(Conflict(b"/".join(components), why))

    def _finish(self) -> None:
        merge = Merge(self._objects)
        entry = merge.run(self.current.entry, self._edits)
        for components, why in merge.kept:
            self._keep(components, why)
        current = encoding.decode_links(self._objects.links(self.current.links))
        linked = groups.merged(current, self._wanted, self._replaced)
        links = self._objects.put_links(encoding.encode_links(linked)) if linked else encoding.NO_ID
        root = Root(entry, links, self.current.exclusions)
        self.root_hash = self._objects.put_root(encoding.encode_root(root))

    def choose_calls(self, snapshots: Sequence[Snapshot]) -> None:
        """Undo what calls changed, whose snapshots are among *snapshots*, and nobody since.

        Raises:
            DamagedStoreError: A tree can't be read.
        """
        touched: dict[bytes, _Touched] = {}
        for before, after in self._calls(snapshots):
            self._collect(touched, before, after)
        trees = _Trees(self._objects)
        for path in sorted(touched):
            each = touched[path]
            now = trees.find(self.current.entry, path)
            if _same(now, each.after) and not each.broken:
                self._put(path.split(b"/") if path else [], each.back(now))
            elif not _same(now, each.before):
                self._keep([path], "changed by somebody else too")
        self._finish()

    def _calls(self, snapshots: Sequence[Snapshot]) -> Iterator[tuple[bytes, bytes]]:
        begun: dict[str, Snapshot] = {}
        for snapshot in snapshots:
            if snapshot.call is None:
                continue
            if snapshot.reason == "before-call":
                begun[snapshot.call] = snapshot
            elif snapshot.reason == "after-call" and snapshot.call in begun:
                before = begun.pop(snapshot.call)
                yield bytes.fromhex(before.root), bytes.fromhex(snapshot.root)
        for call in begun:
            self._keep([], f"call {call} has no snapshot after it: what it changed isn't known")

    def _collect(self, touched: dict[bytes, _Touched], before: bytes, after: bytes) -> None:
        comparison = self._comparisons.of(before, after)
        first = set()
        for step in comparison.steps():
            replacing = step.what != PUT and step.after is not None and not step.after.is_directory
            relinked = step.node.key in comparison.relinked.keys
            if step.what == LEAVE or replacing or (_same_in_time(step) and not relinked):
                continue
            path = step.node.path()
            known = touched.get(path)
            if known is None:
                self._paths_bytes += len(path)
                if self._paths_bytes > PATHS_BYTES_MAX:
                    raise SnapshotError("the calls changed too much to tell apart")
                touched[path] = _Touched(self._giveable(step, step.before), step.after)
                first.add(path)
            else:
                known.broken |= not _same(known.after, step.before)
                known.after = step.after
        self._paths_bytes = 0
        linked = encoding.decode_links(self._objects.links(comparison.before.links))
        self._wanted += [
            shared for group in linked if len(shared := tuple(p for p in group if p in first)) > 1
        ]


class _Touched:
    """One path that calls changed."""

    __slots__ = ("after", "before", "broken")

    def __init__(self, before: Entry | None, after: Entry | None) -> None:
        self.before = before
        self.after = after
        self.broken = False

    def back(self, now: Entry | None) -> Entry | None:
        """Return what to put back, a directory with the time that somebody else gave it."""
        if self.before is None or now is None or not self.before.is_directory:
            return self.before
        if self.after is not None and now.mtime_ns == self.after.mtime_ns:
            return self.before
        return self.before._replace(mtime_ns=now.mtime_ns)


class _Trees:
    """Entries by path, for paths in their order."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._decoded: dict[bytes, dict[bytes, Entry]] = {}

    def find(self, root: Entry, path: bytes) -> Entry | None:
        entry: Entry | None = root
        for name in path.split(b"/") if path else []:
            if entry is None or not entry.is_directory:
                return None
            entries = self._decoded.get(entry.target)
            if entries is None:
                if len(self._decoded) >= LISTED_MAX:
                    self._decoded.clear()
                entries = trees.decode_tree(self._objects.tree(entry.target))
                self._decoded[entry.target] = entries
            entry = entries.get(name)
        return entry


def _same(a: Entry | None, b: Entry | None) -> bool:
    """Tell whether two entries are the same, directories apart from what is in them."""
    if a is None or b is None or not (a.is_directory and b.is_directory):
        return a == b
    return a._replace(target=b"", mtime_ns=0) == b._replace(target=b"", mtime_ns=0)


def _same_in_time(step: Step) -> bool:
    before, after = step.before, step.after
    if before is None or after is None or not (before.is_directory and after.is_directory):
        return before == after
    return before._replace(target=b"") == after._replace(target=b"")


def _walk(
    comparison: Comparison, patterns: tuple[Patterns, Patterns], lost: Lost
) -> Iterator[tuple[Step, tuple[bool, bool]]]:
    """Yield the steps but for leaving, each with which of *patterns* match there."""
    stack: list[tuple[tuple[bool, State], ...]] = []
    for step in comparison.steps(lost):
        if step.what == LEAVE:
            stack.pop()
            continue
        if not stack:
            found = tuple((False, each.start()) for each in patterns)
        else:
            found = tuple(
                (True, state) if matched else each.step(state, step.node.name)
                for each, (matched, state) in zip(patterns, stack[-1], strict=True)
            )
        if step.what != PUT:
            stack.append(found)
        (first, _), (second, _) = found
        yield step, (first, second)
