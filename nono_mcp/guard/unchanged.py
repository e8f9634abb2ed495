"""Whether all that is guarded in a directory is as it was seen: a look that changes nothing.

So it needs no turn: who has one meanwhile puts right what differs, and is seen doing it or not.
"""

from __future__ import annotations

import posix as os

from nono_mcp.guard import judging_spots, open_directory, tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.guard.root import Root
    from nono_mcp.guard.spots import Spot


def is_as_seen(root: Root, still: object) -> bool:
    """Tell whether nothing needs a look: by what *still* is, and the status of the files."""
    if root.is_doubtful or still is None or still != root.still:
        return False
    try:
        if not root.register.place.is_at(os.stat(root.path, follow_symlinks=False)):
            return False
        return all(
            judging_spots.is_directory(seen.print)
            or tree.is_same(seen.print, "/".join((root.path, *directory, name)))
            for (directory, name), seen in root.seen.items()
        )
    except OSError:
        return False


def _is_blank(root: Root) -> bool:
    """Tell whether nothing guarded was there, and by the directory's status no name came since."""
    status = None if root.seen or root.awaited else open_directory.standing(root.path)
    if status is None or not root.register.place.is_at(status):
        return False
    return root.listing == (status.st_ctime_ns, ())


def is_unchanged(root: Root, still: object) -> bool:
    """Tell whether all is as it was seen, by a look if *still* and statuses don't tell."""
    if is_as_seen(root, still) or _is_blank(root):
        return True
    fd = root.open()
    if fd is None:
        return not root.was_there
    try:
        if not root.register.is_about(fd) or _differs(root, fd):
            return False
    except OSError:
        return False  # to be found out by who can do something about it
    finally:
        os.close(fd)
    root.still = still
    return True


def _differs(root: Root, fd: int) -> bool:
    visited, differing = set(), []

    def see(spot: Spot, parent: int) -> bool:
        if root.is_open(spot):
            return False
        visited.add(spot.key)
        found = judging_spots.printed(spot, parent)
        if not root.is_same(spot, parent, found):
            differing.append(spot)
        return judging_spots.is_directory(found)

    root.visit(fd, root.names(fd), see)
    return bool(differing) or not root.seen.keys() <= visited
