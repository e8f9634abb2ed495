"""Which snapshots to keep.

Architecture invariant: this module does no I/O and reads no clock. What a person named stays, and
so does the newest of each workspace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nono_mcp.snapshots.values import Retention

_HOUR_NS: Final = 3600 * 10**9
_DAY_NS: Final = 24 * _HOUR_NS


class Kept(NamedTuple):
    """What is known of a snapshot when it's decided on."""

    id: str
    workspace: int
    time_ns: int
    named: bool


def expendable(snapshots: Iterable[Kept], retention: Retention) -> list[Kept]:
    """Return the snapshots that *retention* doesn't keep, the oldest first."""
    by_workspace: dict[int, list[Kept]] = {}
    for snapshot in snapshots:
        by_workspace.setdefault(snapshot.workspace, []).append(snapshot)
    gone = [each for own in by_workspace.values() for each in _of_one(own, retention)]
    return sorted(gone, key=_time)


def _of_one(snapshots: list[Kept], retention: Retention) -> list[Kept]:
    newest_first = sorted(snapshots, key=_time, reverse=True)
    kept = set(newest_first[: max(1, retention.recent_count)])
    # Of each hour and day the newest.
    for length_ns, count in ((_HOUR_NS, retention.hourly), (_DAY_NS, retention.daily)):
        periods: dict[int, Kept] = {}
        for snapshot in newest_first:
            periods.setdefault(snapshot.time_ns // length_ns, snapshot)
        kept |= set(list(periods.values())[:count])
    return [each for each in newest_first if each not in kept and not each.named]


def over_quota(snapshots: Sequence[Kept]) -> list[Kept]:
    """Return what may go for want of space, what goes first at the beginning."""
    newest = {each.workspace: each for each in sorted(snapshots, key=_time)}
    spared = set(newest.values())
    return sorted((s for s in snapshots if not s.named and s not in spared), key=_time)


def _time(snapshot: Kept) -> int:
    return snapshot.time_ns
