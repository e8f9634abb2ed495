"""Rules and filters made from a confinement's grants and denials.

Architecture invariant: no I/O; what a rule is for is `profile`'s business.
"""

from __future__ import annotations

from nono_sandbox.confinement import WRITE, Confinement
from nono_sandbox.seatbelt.sbpl import Pattern, Text, write
from nono_sandbox.seatbelt.spelling import (
    DATA_VOLUME,
    ancestors,
    canonical,
    equal_names,
    escaped,
    spellings,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nono_sandbox.seatbelt.sbpl import Form

    Rules = list[tuple[Form, ...]]

READ_OPERATIONS = (
    "file-map-executable",
    "file-read*",
    "file-read-metadata",
    "file-test-existence",
    "process-exec*",
)
SEEN_OPERATIONS = ("file-read-metadata", "file-test-existence")
"""What leads to a grant shows of itself, and a grant of writing alone: stat(2), access(2)."""
WRITE_OPERATIONS = ("file-ioctl", "file-write*", "file-write-data")


def rule(action: str, operations: Iterable[str], filters: Iterable[tuple[Form, ...]]) -> Rules:
    """Return one rule, or none: a rule without a filter would match everything."""
    ordered = sorted({write(form): form for form in filters}.items())
    return [(action, *operations, *(form for _, form in ordered))] if ordered else []


def texts(kind: str, values: Iterable[str]) -> list[tuple[Form, ...]]:
    """Return a filter *kind* for each of *values*."""
    return [(kind, Text(value)) for value in values]


def patterns(values: Iterable[str]) -> list[tuple[Form, ...]]:
    """Return a filter for each of the patterns *values*."""
    return [("regex", Pattern(value)) for value in values]


def granted(confinement: Confinement, access: int) -> list[tuple[Form, ...]]:
    """Return a filter for every spelling of every grant that has *access*."""
    return [
        ("literal" if grant.exact else "subpath", Text(spelling))
        for grant in confinement.grants
        if grant.access & access
        for spelling in spellings(grant.path)
    ]


def denied(confinement: Confinement, access: int) -> list[tuple[Form, ...]]:
    """Return the filters of every denial of *access*, equal names included."""
    roots = writable_roots(confinement)
    found: list[tuple[Form, ...]] = []
    for denial in confinement.denials:
        if denial.access & access:
            found += texts("subpath", spellings(denial.path))
            found += patterns(equal_patterns(roots, denial.path, "(/|$)"))
    return found


def writable_roots(confinement: Confinement) -> frozenset[str]:
    """Return the writable directories that lie in no other, canonical."""
    paths = {
        canonical(grant.path)
        for grant in confinement.grants
        if grant.access & WRITE and not grant.exact
    }
    return frozenset(path for path in paths if paths.isdisjoint(ancestors(path)))


def root_of(path: str, roots: frozenset[str]) -> str | None:
    """Return which of *roots* the canonical *path* is or lies in."""
    return next((place for place in (*ancestors(path), path) if place in roots), None)


def equal_patterns(roots: frozenset[str], path: str, end: str) -> list[str]:
    """Return patterns of the names equal to *path* that could be made in one of *roots*."""
    path = canonical(path)
    root = root_of(path, roots)
    if root in (None, path):
        return []
    equal = equal_names(path[len(root.rstrip("/")) + 1 :])
    prefixes = ("", DATA_VOLUME) if root == "/" else spellings(root)
    patterns = [f"^{escaped(prefix)}/{equal}{end}" for prefix in prefixes]
    # An alias of a path in the root is none of the root's, and is as well spelled in many ways.
    alias = path.removeprefix("/private")
    if root == "/" and alias != path and alias in spellings(path):
        patterns.append(f"^/{equal_names(alias[1:])}{end}")
    return patterns


def sockets(action: str, filters: list[tuple[Form, ...]]) -> Rules:
    """Return rules on unix sockets at the paths that *filters* match."""
    local: Rules = [("local", "unix-socket", form) for form in filters]
    remote: Rules = [("remote", "unix-socket", form) for form in filters]
    return [
        *rule(action, ["network-bind", "network-inbound"], local),
        *rule(action, ["network-outbound"], remote),
    ]
