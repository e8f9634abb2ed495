"""Hard-link groups: which names are one file.

Architecture invariant: this module does no I/O and reads no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Group = tuple[bytes, ...]


def by_path(groups: Iterable[Group]) -> dict[bytes, Group]:
    """Return the group of each path that has one."""
    return {path: group for group in groups for path in group}


def relinked(before: Iterable[Group], after: Iterable[Group]) -> set[bytes]:
    """Return the paths that are together with other paths than before."""
    old, new = by_path(before), by_path(after)
    return {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}


def merged(current: Iterable[Group], wanted: Iterable[Group], replaced: set[bytes]) -> list[Group]:
    """Return the groups once the paths *replaced* are as *wanted* has them."""
    kept = (tuple(path for path in group if path not in replaced) for group in current)
    brought = (tuple(path for path in group if path in replaced) for group in wanted)
    return [group for groups in (kept, brought) for group in groups if len(group) > 1]
