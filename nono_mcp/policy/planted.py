"""Grants that a worker could have turned: reached by a symlink where one may write.

A policy is looked up again while its session runs, and by every session after it. What a worker
can put a symlink in the place of must not lead it to what nobody granted.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

from nono_mcp.policy.errors import RefusedError, quoted
from nono_mcp.policy.paths import ancestors, covers
from nono_mcp.policy.rules import SHIPPED, TOOLS
from nono_sandbox.confinement import WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from nono_mcp.policy.paths import Place
    from nono_mcp.policy.rules import Asked

LINK = "fs.planted-link"


def writable(grants: Iterable[Asked]) -> frozenset[str]:
    """Return the directories that *grants* let be written."""
    return frozenset(
        asked.place.path
        for asked in grants
        if asked.access & WRITE and asked.place.kind == "directory"
    )


def is_turned(place: Place, roots: AbstractSet[str]) -> bool:
    """Tell whether the way to *place* leads by a symlink in one of *roots*, itself left out."""
    links = {one for link in place.links for one in _way(link.path)}
    if not roots.isdisjoint(links - {place.path}):
        return True
    # However it was put back while it was looked at; what `..` leads to only a look can tell.
    if place.text == place.path or ".." in place.text.split("/"):
        return False
    return not roots.isdisjoint(_way(place.text) - _way(place.path))


def _way(path: str) -> set[str]:
    """Return *path* and every directory above it."""
    return {path, *ancestors(path)}


def without(grants: Sequence[Asked]) -> list[Asked]:
    """Return *grants* but for those that a worker could have turned to what isn't granted.

    Raises:
        RefusedError: One of those is the person's: it's for them to say where it is to lead.
    """
    roots = writable(grants)
    turned = [asked for asked in grants if is_turned(asked.place, roots)]
    if not turned:
        return list(grants)
    others = [asked for asked in grants if asked not in turned]
    kept = list(others)
    for asked in turned:
        if any(
            covers(one.place.path, asked.place.path) and not asked.access & ~one.access
            for one in others
            if not one.exact or one.place.path == asked.place.path
        ):
            kept.append(asked)
        elif asked.layer.kind not in (SHIPPED, TOOLS):
            raise RefusedError(
                f"{asked.text}: it leads to {quoted(asked.place.path)} by a symlink that lies "
                "where calls may write",
                code=LINK,
                path=asked.place.path,
                remedy=f"if that is meant, grant {quoted(asked.place.path)} itself",
            )
    return kept
