"""A look at what is guarded beneath a workspace's top directory: where, and at each of the spots.

Architecture invariant: the work is bounded by what changed, and by what is known.
"""

from __future__ import annotations

import posix as os

from nono_mcp.guard import finding, judging_spots, names, spots, ways
from nono_mcp.guard.spots import Spot
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nono_mcp.guard.baseline import Baseline
    from nono_mcp.guard.finding import Found
    from nono_mcp.guard.spots import See

    SeeBare = Callable[[tuple[str, ...], int], None]

NOT_ENTERED = (finding.DEEP, finding.SHUT)


class Changed(Value):
    """What may have changed: paths in the workspace, and directories with all beneath them."""

    names: frozenset[str]
    trees: frozenset[str] = frozenset()


NOTHING = Changed(frozenset())


def to_look_at(
    known: Baseline, root: int, changed: Changed | None, *, learning: bool
) -> list[Found]:
    """Return what has to be looked at, each once."""
    if changed is None:
        walk = finding.by_walk(root, (), packages=not learning, forcing=not learning)
        return _by_depth(walk)
    more = known.differing(root) | known.untimed() if learning else known.touched(root)
    paths = changed.names | changed.trees | more
    found = dict.fromkeys(finding.by_names(sorted(paths), known.bare))
    for path in sorted(changed.trees):
        top = tuple(path.split("/")) if path else ()
        if not any(map(names.is_git, top)) and not names.guards(top):
            walk = finding.by_walk(root, top, packages=True, forcing=not learning)
            found.update(dict.fromkeys(walk))
    return _by_depth(found)


def learn(known: Baseline, found: Found, root: int) -> None:
    """Take what was *found* in the open directory *root* for the person's."""

    def see(spot: Spot, parent: int) -> bool:
        there = judging_spots.printed(spot, parent)
        if there is None:
            known.forget(spot)
        elif spot.rule == spots.TOO_MANY or not known.holds(spot, parent, there):
            known.learn(spot, parent, root, there)
        return judging_spots.is_directory(there)

    def see_bare(directory: tuple[str, ...], fd: int) -> None:
        known.bare.add(directory)
        spots.visit_bare(directory, fd, see)

    try:
        visit(known, found, root, see, see_bare)
    except FileNotFoundError:
        return  # somebody removed it meanwhile


def visit(  # noqa: PLR0913 - what sees is two functions
    known: Baseline, found: Found, root: int, see: See, see_bare: SeeBare, *, entering: bool = True
) -> None:
    """Have each spot seen that belongs to what was *found* in the open directory *root*.

    Directories on the way that were shut are opened up, unless *entering* is false.
    """
    left = found.kind in NOT_ENTERED
    directory = None if left else ways.beneath(found.directory, root, entering=entering)
    if directory is None:
        return
    try:
        if found.kind == finding.NAME:
            what = names.what(found.name)
            see(Spot(found.directory, found.name, spots.AS_IT_WAS, what), directory)
        elif found.kind == finding.AROUND:
            spots.visit_around(found.directory, found.name, directory, see)
        elif found.kind == finding.GIT:
            spots.visit_git(found.directory, directory, see)
        elif finding.is_reached(found.directory, root):
            return  # part of a repository: that one's owner looks at it
        elif finding.is_bare(finding.marks(directory)):
            see_bare(found.directory, directory)
        else:
            known.bare.discard(found.directory)
    finally:
        os.close(directory)


def _by_depth(found: Iterable[Found]) -> list[Found]:
    """Return each once, what others are in first: what becomes of those may change what it is."""
    return sorted(dict.fromkeys(found), key=lambda one: len(one.directory))
