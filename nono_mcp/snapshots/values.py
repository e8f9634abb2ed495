"""What snapshots are asked with and answer with.

Paths inside a workspace are bytes, relative, without a slash at either end; the root is ``b""``.

Architecture invariant: this module does no I/O and reads no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Reason = Literal["auto", "named", "safety", "before-call", "after-call"]
Scope = Literal["everything", "paths", "agent"]
ChangeKind = Literal["added", "modified", "deleted", "touched"]
EntryType = Literal["file", "directory", "symlink", "fifo"]
Phase = Literal["scan", "stage", "apply", "verify", "collect"]

UNSURE_MAX: Final = 20_000
"""How many paths are kept, for each call, of what was read while it might be changed."""
LISTED_MAX: Final = 1000
"""How many paths an answer lists; its counts are exact."""
QUOTA_BYTES: Final = 5 << 30
NOBODY: Final = ""
"""An owner who sees nothing but what they name in full: of several whom nothing tells apart."""


class Unsure:
    """What was read while programs ran that may change it by a lost name, or by a map."""

    def __init__(self) -> None:
        self.paths: set[bytes] = set()
        self.is_full = False
        """There is more of it than `paths` has."""

    def add(self, path: bytes) -> None:
        """Take in one more."""
        if len(self.paths) < UNSURE_MAX:
            self.paths.add(path)
        else:
            self.is_full = True

    def merge(self, other: Unsure) -> None:
        """Take in all of another."""
        self.is_full |= other.is_full
        for path in other.paths:
            self.add(path)


@dataclass(frozen=True, slots=True)
class Dirty:
    """What may have changed since the last look; whatever isn't named is taken to be unchanged.

    What doesn't exist any more may be named. Files with several hard links needn't be: they are
    always looked at. A directory that is new, or another one than before, is walked in full.
    """

    relist: frozenset[bytes] = frozenset()
    """Directories whose entries are listed and looked at anew, but not what is beneath those."""
    rehash: frozenset[bytes] = frozenset()
    """Files that came, went or changed: their content is read again, whatever else they show."""
    rescan: frozenset[bytes] = frozenset()
    """Directories that are walked in full."""
    unsure: Unsure | None = None
    """Programs run that may change the workspace; this is told what was read meanwhile."""
    generation: int | None = None
    """What the rest is since. If somebody else has looked after that, everything is looked at:
    what they read, and programs then changed, is nowhere in the rest."""


@dataclass(frozen=True, slots=True)
class Unprotected:
    """What a snapshot doesn't hold, and so no restore touches."""

    path: bytes
    why: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """What a restore leaves alone, though it was asked for."""

    path: bytes
    why: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A workspace as it was."""

    id: str
    """16 hex digits."""
    seq: int
    time_ns: int
    reason: Reason
    name: str | None
    call: str | None
    """The tool call that it was taken before or after."""
    root: str
    """64 hex digits that stand for all it holds: equal roots, equal trees."""
    files_count: int
    bytes_total: int
    exclusions: tuple[str, ...]
    unprotected: tuple[Unprotected, ...]
    """The first `LISTED_MAX` of them."""
    unprotected_count: int
    generation: int
    """How often anybody has looked at the workspace."""
    owner: str | None = None
    """Who took it, of several who share the workspace; None is the person, or from before."""


@dataclass(frozen=True, slots=True)
class Change:
    """How one path differs between two snapshots."""

    path: bytes
    kind: ChangeKind
    what: frozenset[str]
    """Of "content", "type", "mode", "owner", "xattrs", "links", "time"."""
    type: EntryType
    size_before: int
    size_after: int


@dataclass(frozen=True, slots=True)
class Difference:
    """How two snapshots differ. A directory isn't listed for what changed in it."""

    changes: tuple[Change, ...]
    added: int
    modified: int
    deleted: int
    touched: int
    bytes_added: int
    bytes_removed: int
    cut: bool
    """Not all are listed; the counts are exact all the same."""

    @property
    def nothing(self) -> bool:
        """Tell whether the two are the same."""
        return not (self.added or self.modified or self.deleted or self.touched)


@dataclass(frozen=True, slots=True)
class TextDiff:
    """A unified diff of one file; bytes that aren't UTF-8 are escaped."""

    text: str
    binary: bool
    cut: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What a restore would do."""

    snapshot: Snapshot
    scope: Scope
    paths: tuple[str, ...]
    current_root: str
    target_root: str
    difference: Difference
    """From now to then: "added" comes back, "modified" is put back, "deleted" is removed."""
    kept: tuple[Conflict, ...]
    unprotected: tuple[Unprotected, ...]
    bytes_needed: int

    @property
    def nothing(self) -> bool:
        """Tell whether there is nothing to do."""
        return self.current_root == self.target_root


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a restore did."""

    safety: Snapshot
    """The workspace as it was before: restore this to undo the restore."""
    root: str
    verified: bool
    """The workspace was read again and is what was planned; if not, `conflicts` says why."""
    restored: tuple[bytes, ...]
    restored_count: int
    removed: tuple[bytes, ...]
    removed_count: int
    kept: tuple[Conflict, ...]
    conflicts: tuple[Conflict, ...]
    """What others changed meanwhile, and so was left alone."""
    unprotected: tuple[Unprotected, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it got."""

    phase: Phase
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Retention:
    """Which snapshots stay, of each workspace; those that a person named always do."""

    recent_count: int = 50
    hourly: int = 24
    daily: int = 14
    quota_bytes: int = QUOTA_BYTES


@dataclass(frozen=True, slots=True)
class Pruned:
    """What pruning did."""

    removed: tuple[str, ...]
    freed_bytes: int
    store_bytes: int
    over_quota: bool


@dataclass(frozen=True, slots=True)
class WorkspaceUsage:
    """One workspace of a store."""

    path: str
    snapshots_count: int
    latest_ns: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a store takes."""

    store_bytes: int
    objects_count: int
    objects_bytes: int
    """What the objects are before compression."""
    snapshots_count: int
    workspaces: tuple[WorkspaceUsage, ...]


@dataclass(frozen=True, slots=True)
class Damage:
    """An object that isn't there, or isn't what its name says."""

    object: str
    why: str
    paths: tuple[str, ...] = ()
    """Files and directories that need it, each after the snapshot's id and a colon, if of many."""

    def at(self, path: str) -> Damage:
        """Return what needs it to be at *path*."""
        return Damage(self.object, self.why, (path,))


@dataclass(frozen=True, slots=True)
class Verification:
    """What verifying found."""

    objects_count: int
    snapshots_count: int
    damage: tuple[Damage, ...]

    @property
    def whole(self) -> bool:
        """Tell whether nothing is damaged."""
        return not self.damage
