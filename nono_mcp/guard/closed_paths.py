"""Paths that are left out of a look, with all beneath them.

Architecture invariant: pure.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class ClosedPaths:
    """Paths, and what is beneath them."""

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self.paths = frozenset(paths)
        self._beneath = tuple(f"{path}/" for path in self.paths)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClosedPaths) and other.paths == self.paths

    def __hash__(self) -> int:
        return hash(self.paths)

    def __and__(self, other: ClosedPaths) -> ClosedPaths:
        return ClosedPaths(self.paths & other.paths)

    def __or__(self, other: ClosedPaths) -> ClosedPaths:
        return ClosedPaths(self.paths | other.paths)

    def within(self, root: str) -> ClosedPaths:
        """Return those in the directory *root*, or around it."""
        lead = root.rstrip("/") + "/"
        return ClosedPaths(p for p in self.paths if p.startswith(lead) or lead.startswith(f"{p}/"))

    def covers(self, path: str, *, deep: bool) -> bool:
        """Tell whether *path* is one of them or, if *deep*, beneath one."""
        return path in self.paths or (deep and path.startswith(self._beneath))
