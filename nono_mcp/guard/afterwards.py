"""A look beneath the top directory after a program that nobody looked there for before.

    guard.begin()
    ...  # the program starts
    afterwards = Afterwards(state_dir, settled, cwd)
    ...  # it ends
    actions = *guard.end(), *afterwards.look(guard.began.since_ns())

No program can set a ctime, or the time of a file's birth: what is new or was changed since the
program began is told by those. What is new and isn't in order is put away; of what was there before
nothing is known to put back, so that is told.

Architecture invariant: the program waits for nothing of it.
"""

from __future__ import annotations

import _stat as stat
import posix as os
import time

from nono_mcp.guard import times
from nono_mcp.guard.action import LEFT, Action
from nono_mcp.guard.listing import Listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from nono_mcp.guard.listing import Plain

LOOK_S = 5.0
"""For all directories; where that isn't enough, it's told, and the next look gets further."""
SLOW = "there are more directories than could be looked through after the program"
WHAT = "what is guarded beneath it"


class Afterwards:
    """The look after a program that starts in *cwd*, where `Guard.settle` took what is *settled*.

    It's made while the program runs already.
    """

    def __init__(self, state_dir: str, settled: tuple[Any, ...], cwd: str) -> None:
        roots, closed, _, home, given_up = settled
        self._state_dir = state_dir
        self._root = _beneath(roots, cwd, home)
        self._left_out = closed, given_up
        self._listing = Listing(state_dir, self._root) if self._root else None

    def look(self, since_ns: int) -> tuple[Action, ...]:
        """Look for what came since *since_ns*, and return what was done about it."""
        listing = self._listing
        if listing is None:
            return ()
        now_ns = times.now_ns()
        actions: tuple[Action, ...] = ()
        try:
            is_all = listing.is_as_it_was() or listing.renew(time.monotonic() + LOOK_S)
            inodes: dict[str, int] = {}
            actions = self._judged(listing, since_ns, inodes)
        except OSError as error:
            return (*actions, Action(self._root, LEFT, WHAT, why=str(error)))
        _keep(listing, inodes, now_ns)
        if not is_all:
            actions += (Action(self._root, LEFT, WHAT, why=SLOW),)
        return actions

    def _judged(
        self, listing: Listing, since_ns: int, inodes: dict[str, int]
    ) -> tuple[Action, ...]:
        parts = _told_apart(listing, since_ns, inodes)
        if not parts[0]:
            return ()
        from nono_mcp.guard.fresh import judged

        about = self._state_dir, self._root, since_ns, self._left_out
        return judged(about, listing, parts, inodes)


def _keep(listing: Listing, inodes: dict[str, int], now_ns: int) -> None:
    try:
        listing.write(inodes, now_ns)
    except OSError:
        return  # the next look takes longer


def _told_apart(
    listing: Listing, since_ns: int, inodes: dict[str, int]
) -> tuple[list[Plain], list[Plain]]:
    """Return what has to be looked at, and what is from before or another guard's."""
    doubtful, rest = [], []
    for found in listing.found():
        kind, directory, name = found
        if not directory and kind != "bare":
            rest.append(found)
        elif kind == "name" and (inode := _from_before(listing, directory, name, since_ns)):
            inodes["/".join((*directory, name))] = inode
            rest.append(found)
        else:
            doubtful.append(found)
    return doubtful, rest


def _from_before(listing: Listing, directory: tuple[str, ...], name: str, since_ns: int) -> int:
    """Return the inode of the file *name* in a *directory*, if it's from before; else 0."""
    try:
        status = os.lstat(listing.path(directory, name))
    except OSError:
        return 0
    is_old = status.st_ctime_ns < since_ns and not stat.S_ISDIR(status.st_mode)
    if not is_old or listing.came_unseen(directory, name, status, since_ns):
        return 0
    return status.st_ino


def _beneath(roots: Iterable[tuple[str, object]], cwd: str, home: str) -> str:
    """Return which of the *roots* a program that starts in *cwd* has for its workspace, if any."""
    around = [root for root, _ in roots if f"{cwd}/".startswith(f"{root.rstrip('/')}/")]
    nearest = max(around, key=len, default="")
    return "" if nearest == home else nearest
