"""What the guard is about in a policy: where it looks, and what a worker can't change anyway."""

from __future__ import annotations

from nono_mcp.guard import names, spelling, spots
from nono_mcp.policy import resolve
from nono_mcp.policy.paths import covers
from nono_mcp.policy.protection import Protected
from nono_sandbox.confinement import WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from nono_mcp.guard.guard import Guard
    from nono_mcp.guard.subtree_guard import SubtreeGuard
    from nono_mcp.policy.request import Prepared
    from nono_mcp.policy.rules import Asked

ROOTS_MASKED_MAX = 256
"""In how many grants what is guarded is made read-only too; in others it's put back alone."""


def present(grants: Sequence[Asked], home: str) -> Iterator[Protected]:
    """Yield what is guarded and there, in the directories that *grants* let be written.

    Of the *home* itself it is another table that says what is protected.
    """
    roots = {
        asked.place.path
        for asked in grants
        if asked.access & WRITE and asked.place.kind == "directory"
    } - {home}
    for root in sorted(roots)[:ROOTS_MASKED_MAX]:
        for spot in spots.standing(root):
            place = resolve.resolve(f"{root.rstrip('/')}/{spot.path}")
            # A symlink is the guard's alone: a mask would cover what it leads to. So is what a mask
            # would cover by one of its spellings, and what isn't written as it's guarded.
            if place.kind and place.path == place.text and not place.is_loose:
                yield Protected(place, WRITE, spot.what)


def as_guarded(path: str, grants: Sequence[Asked]) -> str:
    """Return *path* as the guard has it, who looks at it or at something beneath it; or nothing."""
    for asked in grants:
        root = asked.place.path
        if asked.access & WRITE and covers(root, path) and path != root:
            top = root.rstrip("/")
            parts = spelling.way_as_guarded(root, path[len(top) + 1 :].split("/"))
            if any(map(names.is_git, parts)) or names.guards(parts):
                return "/".join((top, *parts))
    return ""


def roots(prepared: Prepared) -> list[tuple[str, tuple[int, int] | None]]:
    """Return the directories of the person's that may be written, each with its identity."""
    confinement = prepared.confinement
    own = {prepared.private_home, dict(confinement.environment).get("TMPDIR")}
    return [
        (grant.path, grant.identity)
        for grant in confinement.grants
        if grant.access & WRITE and not grant.exact and not grant.source and grant.path not in own
    ]


def settle(guard: Guard, prepared: Prepared) -> None:
    """Have *guard* look at what *prepared* lets be written, but for what it closes or gives up."""
    guard.settle(*settling(prepared))


def settling(prepared: Prepared) -> tuple[Any, ...]:
    """Return what `Guard.settle` takes, which is as plain as it looks."""
    closed, awaited, home = _closed(prepared), prepared.awaited, prepared.home
    return tuple(roots(prepared)), closed, awaited, home, prepared.given_up


def settle_below(below: SubtreeGuard, prepared: Prepared, workspace: str) -> None:
    """Have *below* look at the *workspace*, if it may be written."""
    place = resolve.resolve(workspace).path
    written = any(covers(path, place) for path, _ in roots(prepared))
    below.settle(place if written else "", _closed(prepared), prepared.given_up)


def _closed(prepared: Prepared) -> list[str]:
    """Return what no worker can change."""
    return [one.path for one in prepared.confinement.denials if one.access & WRITE]
