"""What a session's snapshots are asked with and answer with.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from nono_mcp.snapshots.errors import SnapshotError
from nono_mcp.snapshots.values import Unsure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nono_mcp.guard.action import Action
    from nono_mcp.snapshots.values import Difference, Scope, Snapshot


class CallsRunError(SnapshotError):
    """A call runs, here or in another server of the workspace; nothing was put back."""

    @classmethod
    def of(cls, count: int) -> Self:
        """Return it where *count* calls run here; none is: elsewhere."""
        if count:
            who = "a call runs" if count == 1 else f"{count} calls run"
        else:
            who = "a call runs in another server of this workspace, or a rollback does"
        return cls(f"{who}: nothing was put back; wait for the end, or end it, and ask again")


class PutBackError(Exception):
    """A rollback went on since the call was judged: it wasn't begun. Judge it anew."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What the workspace was before a call, and how it differs after it."""

    before: Snapshot
    after: Snapshot | None = None
    difference: Difference | None = None
    """Nothing where nothing changed, or where that isn't known."""
    overlapped: bool = False
    """Other calls that may write ran meanwhile: what they changed may be among it."""
    error: str = ""
    """Why what changed isn't known."""


class Kept:
    """What is known of a call's changes: nothing, if it may not write."""

    def __init__(self, network: int = 0) -> None:
        self.changed: Changed | None = None
        self.overlapped = False
        self.guarded: list[Action] = []
        """What was put right of what it did beneath the top directory."""
        self.network = network
        """A process that has the network of its session's calls alone, if there is one."""
        self.left_open = False
        """It may have left files open, which are told of only later."""
        self.unsure = Unsure()
        """What was read for others while it ran, and it may have changed unseen."""


@dataclass(frozen=True, slots=True)
class Told:
    """Who records what happens around a call; if that can't be, it raises."""

    begins: Callable[[Snapshot | None], None]
    """Heard first: that it's to run, and its snapshot if that needed no look."""
    ends: Callable[[Snapshot], None]
    """Heard of the snapshot after it, likewise."""
    guarded: Callable[[Iterable[Action]], None]
    """What was put right beneath the top directory."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A rollback that is asked for."""

    snapshot: str
    """The beginning of an id, a name, or "latest"."""
    scope: Scope = "everything"
    paths: tuple[str, ...] = ()
    leave: tuple[bytes, ...] = ()
    """Paths of what stays as it is, whatever the rest says."""
