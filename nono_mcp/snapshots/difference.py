"""How two snapshots differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nono_mcp.snapshots import encoding, groups
from nono_mcp.snapshots.patterns import Patterns
from nono_mcp.snapshots.steps import LEAVE, PUT, Relinked, Step, steps
from nono_mcp.snapshots.values import Change, Difference

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nono_mcp.snapshots.encoding import Entry
    from nono_mcp.snapshots.errors import DamagedStoreError
    from nono_mcp.snapshots.objects import Objects
    from nono_mcp.snapshots.patterns import State
    from nono_mcp.snapshots.steps import Lost
    from nono_mcp.snapshots.values import ChangeKind, EntryType

STEPS_KEPT_MAX: Final = 20_000
"""Of how many steps it is kept what was found: a restore goes through them again and again."""
LISTED_BYTES_MAX: Final = 16 << 20
"""How long all listed paths may be together: one alone may be a megabyte."""
_TYPES: Final[dict[int, EntryType]] = {
    encoding.FILE: "file",
    encoding.MAPPED: "file",
    encoding.DIRECTORY: "directory",
    encoding.SYMLINK: "symlink",
    encoding.FIFO: "fifo",
}


class Comparisons:
    """Makes comparisons, and has the last one at hand: a plan's is its restore's too."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._last: Comparison | None = None

    def of(self, before: bytes, after: bytes) -> Comparison:
        """Return the comparison of two roots.

        Raises:
            DamagedStoreError: One of them can't be read.
        """
        if self._last is None or self._last.between != (before, after):
            self._last = Comparison(self._objects, before, after)
        return self._last


class Comparison:
    """Two snapshots, to be compared."""

    def __init__(self, objects: Objects, before: bytes, after: bytes) -> None:
        self._objects = objects
        self._steps: list[Step] | None = None
        self.between = before, after
        self.before = objects.root(before)
        self.after = objects.root(after)
        self.relinked = Relinked()
        if self.before.links != self.after.links:
            old, new = (
                encoding.decode_links(objects.links(root.links))
                for root in (self.before, self.after)
            )
            self.relinked = Relinked(groups.relinked(old, new))

    def steps(self, lost: Lost | None = None) -> Iterator[Step]:
        """Yield the steps from the one to the other; *lost* hears what can't be read."""
        if self._steps is not None:
            yield from self._steps
            return
        found: list[Step] = []
        whole = True

        def noted(step: Step, error: DamagedStoreError) -> None:
            nonlocal whole
            whole = False
            if lost is None:
                raise error
            lost(step, error)

        roots = self.before.entry, self.after.entry
        for step in steps(self._objects, roots, self.relinked, noted):
            if len(found) <= STEPS_KEPT_MAX:
                found.append(step)
            yield step
        if len(found) <= STEPS_KEPT_MAX and whole:
            self._steps = found

    def steps_to_do(self) -> Iterator[Step]:
        """Yield the same in the order in which they can be done, whatever names are one name.

        Raises:
            DamagedStoreError: A tree can't be read.
        """
        roots = self.before.entry, self.after.entry
        return steps(self._objects, roots, self.relinked, removed_first=True)

    def changes(self, patterns: Patterns) -> Iterator[tuple[Step, Change]]:
        """Yield what differs where *patterns* match; without any, everywhere."""
        states: list[State] = []
        inside: list[bool] = []
        for step in self.steps():
            if step.what == LEAVE:
                states.pop()
                inside.pop()
                continue
            name = step.node.name
            if not states:
                matched, state = not patterns, patterns.start()
            elif inside[-1]:
                matched, state = True, states[-1]
            else:
                matched, state = patterns.step(states[-1], name)
            if step.what != PUT:
                states.append(state)
                inside.append(matched)
            change = (
                _change(step, relinked=step.node.key in self.relinked.keys) if matched else None
            )
            if change is not None:
                yield step, change

    def difference(self, paths: Sequence[str] = (), limit: int = 1000) -> Difference:
        """Return what differs, with the first *limit* changes.

        Raises:
            DamagedStoreError: A tree can't be read.
        """
        counts = dict.fromkeys(("added", "modified", "deleted", "touched"), 0)
        listed: list[Change] = []
        listed_bytes = bytes_added = bytes_removed = 0
        cut = False
        for step, change in self.changes(Patterns(paths)):
            counts[change.kind] += 1
            if change.kind == "added" or "content" in change.what or "type" in change.what:
                bytes_added += change.size_after
            if change.kind == "deleted" or "content" in change.what or "type" in change.what:
                bytes_removed += change.size_before
            if cut or len(listed) >= limit or listed_bytes > LISTED_BYTES_MAX:
                cut = True
                continue
            path = step.node.path()
            listed_bytes += len(path)
            listed.append(
                Change(path, change.kind, change.what, change.type, change.size_before,
                       change.size_after)
            )  # fmt: skip
        return Difference(
            tuple(listed), counts["added"], counts["modified"], counts["deleted"],
            counts["touched"], bytes_added, bytes_removed, cut,
        )  # fmt: skip


def _change(step: Step, *, relinked: bool) -> Change | None:
    """Return what *step* means to a person, without its path; None if nothing."""
    before, after = step.before, step.after
    kind: ChangeKind
    if before is None or after is None:
        kind, what = ("added" if before is None else "deleted"), frozenset({"content"})
        entry = after or before
    else:
        if step.what != PUT and not after.is_directory:
            # The step that puts what replaces it says so.
            return None
        what = _what(before, after) | ({"links"} if relinked else frozenset())
        if not what or (what == {"time"} and after.is_directory):
            return None
        kind, entry = ("touched" if what == {"time"} else "modified"), after
    if entry is None:
        return None
    return Change(b"", kind, what, _TYPES[entry.kind], _size(before), _size(after))


def _size(entry: Entry | None) -> int:
    return entry.size if entry else 0


def _what(before: Entry, after: Entry) -> frozenset[str]:
    same_type = _TYPES[before.kind] == _TYPES[after.kind]
    contents = [
        (entry.kind, entry.target, entry.size) if not entry.is_directory else None
        for entry in (before, after)
    ]
    differing = {
        "type": not same_type,
        "content": same_type and contents[0] != contents[1],
        "mode": before.mode != after.mode,
        "owner": (before.uid, before.gid) != (after.uid, after.gid),
        "xattrs": before.xattrs != after.xattrs,
        "time": before.mtime_ns != after.mtime_ns,
    }
    return frozenset(name for name, differs in differing.items() if differs)
