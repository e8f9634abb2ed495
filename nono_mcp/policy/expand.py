"""Grants taken apart: the directory's children instead of the directory.

Landlock adds access and takes none away. So where a path inside a readable directory is to be
closed, its siblings are granted instead, on every level between the two.

Architecture invariant: this module does no I/O; listing a directory is handed in.
"""

from __future__ import annotations

from nono_mcp.policy.errors import RefusedError, quoted
from nono_mcp.policy.paths import ancestors
from nono_sandbox.confinement import Grant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from nono_mcp.policy.paths import Place
    from nono_sandbox.confinement import Denial

GRANTS_MAX = 4096
"""How many siblings may be granted in all; more is a policy to be written differently."""

OWN_TREES = frozenset(("/proc", "/dev", "/sys"))
"""What a worker sees of these is the mechanism's to say."""


def top_level(grant: Grant, children: Callable[[str], Iterable[Place]]) -> Iterator[Grant]:
    """Yield, instead of a *grant* of the root directory, those of what stands in it.

    But for the kernel's trees: what a worker sees of them isn't a policy's to say.
    """
    for child in children("/"):
        if child.path not in OWN_TREES:
            yield _sibling(child, grant.access)


def apart(
    grants: Sequence[Grant],
    denials: Sequence[Denial],
    children: Callable[[str], Iterable[Place]],
) -> list[Grant]:
    """Return *grants*, those around a denial replaced by what lies beside it.

    Raises:
        RefusedError: There is too much beside it.
    """
    closed = {denial.path for denial in denials}
    around = {above for path in closed for above in ancestors(path)}
    result: list[Grant] = []
    for grant in grants:
        if not closed.isdisjoint((grant.path, *ancestors(grant.path))):
            continue
        if grant.exact or grant.path not in around:
            result.append(grant)
            continue
        siblings = _siblings(grant, closed, around, children)
        for sibling in siblings:
            result.append(sibling)
            if len(result) > GRANTS_MAX + len(grants):
                raise RefusedError(
                    f"over {GRANTS_MAX} files and directories would have to be granted one by one "
                    f"instead of {quoted(grant.path)}, to keep a part of it closed",
                    code="tier.deny-inside-allow",
                    path=grant.path,
                    remedy="grant less of it",
                )
    return result


def _siblings(
    grant: Grant,
    closed: set[str],
    around: set[str],
    children: Callable[[str], Iterable[Place]],
) -> Iterator[Grant]:
    pending = [grant.path]
    while pending:
        for child in children(pending.pop()):
            if child.path in closed:
                continue
            if child.path in around:
                pending.append(child.path)
            else:
                yield _sibling(child, grant.access)


def _sibling(place: Place, access: int) -> Grant:
    return Grant(place.path, access, place.kind != "directory", place.identity)
