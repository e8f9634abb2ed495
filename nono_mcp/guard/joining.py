"""Taking part in what is known of a directory while calls of another session run there.

Or after such a session was killed: then what its last call left is judged as that call's, and what
the person changed since as well, since nobody can tell the two apart.

Architecture invariant: it has to be our turn in the root's register.
"""

from __future__ import annotations

import posix as os

from nono_mcp.guard import judging_spots, marshalled, register, tree
from nono_mcp.guard.action import LEFT, UNKNOWN, Action, by_others
from nono_mcp.guard.marshalled import Top

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.guard.root import Root
    from nono_mcp.guard.spots import Spot


def join(root: Root, actions: list[Action]) -> None:
    """Put right what differs from what was there before the others' calls.

    Raises:
        OSError: It can't be looked at.
    """
    fd = root.open()
    if fd is None:
        root.share()
        return
    try:
        if not (root.is_taken and not root.is_stale and root.register.is_current()):
            actions += _taken_over(root, fd)
        root.share()
        found: list[Action] = []
        root.put_right(fd, found)
        actions += map(by_others, found)
    finally:
        os.close(fd)


def _taken_over(root: Root, fd: int) -> tuple[Action, ...]:
    theirs = root.register
    top = marshalled.to_top(theirs.read(), root.path)
    if top is None or theirs.is_old or (theirs.is_uncertain and not _is_any_there(top, fd)):
        root.take_in(fd)
        why = UNKNOWN if top is None else register.OTHER
        return (Action(root.path, LEFT, "what is guarded in it", why=why),)
    root.await_too(sorted(top.awaited - {spot.key for spot in root.awaited}))
    awaited = {spot.key for spot in root.awaited}

    def is_known(spot: Spot) -> bool:
        if spot.key in awaited:
            return spot.key in top.awaited
        path, deep = root.path_of(spot), bool(spot.directory)
        return not all(one.covers(path, deep=deep) for one in top.closed)

    root.others_closed = tuple(one for one in top.closed if one != root.left_out)
    root.crowded = set(top.crowded)
    root.published = top
    root.take_over(fd, top.seen, is_known)
    return ()


def _is_any_there(top: Top, fd: int) -> bool:
    """Tell whether a file stands in the open directory *fd* as it was known, or none was known."""
    files = [
        (key, seen.print)
        for key, seen in top.seen.items()
        if not judging_spots.is_directory(seen.print)
    ]
    return not files or any(
        tree.look("/".join((*directory, name)), fd) == found for (directory, name), found in files
    )


def publish(root: Root) -> None:
    """Have others know what is known of *root*, unless they do.

    Raises:
        OSError: They don't. Run nothing.
    """
    awaited = frozenset(spot.key for spot in root.awaited)
    closed = (root.left_out, *root.others_closed)
    known = root.published
    if not root.register.is_current():
        # Others may have found the same.
        known = marshalled.to_top(root.register.read(), root.path) or known
    if (
        known is not None
        and root.register.is_current()
        and known.seen == root.seen
        and known.crowded == root.crowded
        and known.was_there == root.was_there
        and awaited <= known.awaited
        and set(closed) == set(known.closed)
    ):
        root.published, root.is_told = known, True
        return
    if root.is_shared and known is not None:
        awaited |= known.awaited
    root.published = Top(
        root.path, root.was_there, frozenset(root.crowded), closed, awaited, dict(root.seen)
    )
    root.register.publish(marshalled.of_top(root.published))
    root.is_told = True
