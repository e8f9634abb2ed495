"""What the person has under guarded names: the same content, elsewhere, is no worker's doing.

So a copy of a project, a linked worktree, or a directory that was moved keeps its settings. A
copy can run what its original can run, in a workspace that a worker may write anyway.
"""

from __future__ import annotations

from nono_mcp.guard import names, spots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from nono_mcp.guard.spots import Spot
    from nono_mcp.guard.tree import Kept

    One = tuple[str, bytes, bool]


class KnownContents:
    """The contents that are known, each with what it was called and whether it's executable."""

    def __init__(self, known: Iterable[One] = ()) -> None:
        self._known: set[One] = set(known)

    def written(self) -> tuple[One, ...]:
        """Return what is known as plain values."""
        return tuple(sorted(self._known))

    def learn(self, spot: Spot, kept: Kept) -> None:
        """Take in what stands at *spot*, which is the person's."""
        if _counts(spot):
            self._known.update(one for one in _files(_called(spot), kept) if one is not None)

    def have(self, spot: Spot, kept: Kept) -> bool:
        """Tell whether all that stands at *spot* is a copy of something of the person's."""
        return _counts(spot) and all(one in self._known for one in _files(_called(spot), kept))


def _counts(spot: Spot) -> bool:
    # What names another place by a relative path leads somewhere else from there.
    elsewhere = spot.rule in (spots.COMMON, spots.GIT) or spot.name == "commondir"
    return not elsewhere


def _called(spot: Spot) -> str:
    return f"{spots.HOOKS}/{spot.name}" if spot.what == names.HOOK else spot.name


def _files(called: str, kept: Kept) -> Iterator[One | None]:
    """Yield each file with what it's called; None is what is no file, or wasn't kept whole."""
    if not kept.is_whole or kept.kind not in ("file", "directory"):
        yield None
    elif kept.kind == "file":
        # A hook that may not be executed is one that the person turned off.
        yield called, _digest(kept.data), bool(kept.mode & 0o111)
    else:
        for name, inner in kept.entries:
            yield from _files(f"{called}/{name}", inner)


def _digest(data: bytes) -> bytes:
    # Where nothing is guarded nobody waits for the import.
    from hashlib import sha256

    return sha256(data).digest()
