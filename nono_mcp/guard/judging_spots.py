"""What may have become of a guarded spot while a call ran.

Architecture invariant: reads only, no more than a bound says, and never through a symlink.
"""

from __future__ import annotations

import _stat as stat
import posix as os

from nono_mcp.guard import spots, tree, ways
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.guard.spots import Spot
    from nono_mcp.guard.tree import Kept, Print

_BY_KIND = (spots.DIRECTORY, spots.GIT, spots.AROUND, spots.TOO_MANY)
_COMMON = (b"../..", b"../..\n")
_GITFILE = b"gitdir: "
_INSIDE_GIT = ("modules", "worktrees")


class Seen(Value):
    """A spot as it was when it was last in order."""

    print: Print
    kept: Kept | None


def printed(spot: Spot, parent: int) -> Print:
    """Return what is otherwise whenever there is something to judge at *spot*; None if nothing."""
    if spot.rule in _BY_KIND:
        try:
            status = os.stat(spot.name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(status.st_mode):
            return number(status)
    return tree.look(spot.name, parent)


def number(status: os.stat_result) -> Print:
    """Return what is printed of a directory that is entered."""
    return (stat.S_IFMT(status.st_mode), status.st_ino)


def is_directory(found: Print) -> bool:
    """Tell whether what was printed is a directory that is entered."""
    return found is not None and found[0] == stat.S_IFDIR


def kept(spot: Spot, parent: int, found: Print) -> Kept | None:
    """Return what stands at *spot*, for later; of a directory that is entered nothing."""
    entered = spot.rule in _BY_KIND and is_directory(found)
    return None if entered else tree.keep(spot.name, parent)


def is_in_order(spot: Spot, found: Print, now: Kept | None, old: Seen | None, root: str) -> bool:
    """Tell whether what was *found* at *spot*, which isn't what stood there, may stay.

    What it holds is *now*. Who takes it for known then takes just that, and doesn't read again.
    """
    if _is_by_kind(spot, found, now):
        return True
    before = None if old is None else old.kept
    if spot.rule != spots.TOO_MANY and now is not None and now.is_whole and now == before:
        return True
    if spot.rule == spots.CONFIGURATION:
        return now is None or _is_harmless(now, before, len(spot.directory))
    if now is None or now.kind != "file" or not now.is_whole:
        return False
    if spot.rule == spots.COMMON:
        return now.data in _COMMON
    return spot.rule == spots.GIT and before is None and _leads_inside(now.data, root)


def _is_by_kind(spot: Spot, found: Print, now: Kept | None) -> bool:
    if spot.rule == spots.AROUND and now is not None and now.kind == "file":
        return True
    by_kind = spot.rule in (spots.DIRECTORY, spots.GIT, spots.AROUND)
    return by_kind and (found is None or is_directory(found))


def _is_harmless(now: Kept, before: Kept | None, depth: int) -> bool:
    # Only who has a configuration to judge pays for the import.
    from nono_mcp.guard.gitconfig import dangers

    if now.kind != "file" or not now.is_whole:
        return False
    known = frozenset() if before is None else dangers(before.data, depth)
    return dangers(now.data, depth) <= known


def _leads_inside(data: bytes, root: str) -> bool:
    """Tell whether a working tree's `.git` file names a repository that is looked at as well."""
    target = ways.decoded(data.removeprefix(_GITFILE).rstrip(b"\n"))
    relative = target.removeprefix(root.rstrip("/") + "/")
    parts = relative.split("/")
    plain = not any(part in ("", ".", "..") for part in parts)
    inside = len(parts) > 2 and parts[0] == ".git" and parts[1] in _INSIDE_GIT  # noqa: PLR2004
    return data.startswith(_GITFILE) and plain and inside
