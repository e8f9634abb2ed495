"""A look beneath the top directory after a program that nobody looked there for before.

    guard.begin()
    afterwards = AfterRun(state_dir, settled, cwd, guard.began)
    afterwards.begin(has_started)  # as long as there's nothing else to do
    ...  # while the program runs, whenever there's nothing else to do: afterwards.step()
    actions = *guard.end(), *afterwards.look(patience)  # until somebody doesn't want to wait

No program can set a ctime, or the time of a file's birth: what is new or was changed since the
program began is told by those. What is new and isn't in order is put away. What was there before is
put back, if the steps came to it before the program did (`during_run`), and else it's told.

Architecture invariant: the program waits for nothing of it.
"""

from __future__ import annotations

import _stat as stat
import posix as os
import time

from nono_mcp.guard import times
from nono_mcp.guard.action import LEFT, Action
from nono_mcp.guard.directory_listings import Listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from nono_mcp.guard.directory_listings import Plain
    from nono_mcp.guard.during_run import DuringRun
    from nono_mcp.guard.times import Began

    GoesOn = Callable[[int, int], bool]
    """Tells whether to go on, once so many of so many things are done."""

LOOK_S = 5.0
"""For all directories; where that isn't enough, it's told, and the next look gets further."""
PAUSE_MS = 5.0
"""For a program that is over by then nobody looks, where nothing is known to be guarded."""
SLOW = "there are more directories than could be looked through after the program"
WHAT = "what is guarded beneath it"


class AfterRun:
    """The look after a program that starts in *cwd*; `Guard.settle` took what is *settled*."""

    def __init__(self, state_dir: str, settled: tuple[Any, ...], cwd: str, began: Began) -> None:
        roots, closed, _, home, given_up = settled
        self._state_dir = state_dir
        self._root = _beneath(roots, cwd, home)
        self._left_out = closed, given_up
        self._began = began
        self._beside: DuringRun | None = None
        self._listing = Listing(state_dir, self._root) if self._root else None
        self._steps: Iterator[object] = iter(())
        self.pause_ms: float | None = None
        """How long to wait for something else to do before the next step; None is for ever."""
        if self._listing is not None:
            began.count(self._listing.apart_ns)
            self._steps = self._looked_at(self._listing)
            known = any(directory for _, directory, _ in self._listing.found())
            self.pause_ms = 0 if known or not self._listing.directories else PAUSE_MS

    def begin(self, is_over: Callable[[], bool]) -> None:
        """Keep what is known to be guarded, until something else *is_over*."""
        while self.pause_ms == 0 and not is_over():
            self.step()

    def step(self) -> None:
        """Keep something of what the program hasn't changed yet, if there is anything."""
        self.pause_ms = 0
        try:
            next(self._steps)
        except (StopIteration, OSError):
            self.pause_ms = None

    def _looked_at(self, listing: Listing) -> Iterator[object]:
        known = dict.fromkeys(found for found in listing.found() if found[1])
        if not known and listing.is_as_it_was():
            listing.note_same()
            return
        # Where nothing is guarded nobody pays for it.
        from nono_mcp.guard.during_run import DuringRun
        from nono_mcp.guard.finding import Found

        self._beside = beside = DuringRun(self._root, self._began)
        for found in known:
            beside.keep(Found(*found))
            yield found
        listing.note_same()
        if known and listing.is_as_it_was():
            return
        until = time.monotonic() + LOOK_S
        for one in listing.renewal(doubting=True):
            for found in one.found:
                if found not in known:
                    beside.keep(Found(*found))
            if time.monotonic() > until:
                return
            yield one

    def look(self, patience: Callable[[], GoesOn] | None = None) -> tuple[Action, ...]:
        """Look for what came since the program began, and return what was done about it.

        If there is anything to judge, *patience* gives what is asked whether to go on, from one
        thing to the next. What isn't judged then is told as left.
        """
        listing = self._listing
        if listing is None:
            return ()
        self._steps = iter(())
        if self._beside is not None:
            self._beside.close()
        since_ns, now_ns = self._began.since_ns(), times.now_ns()
        actions: tuple[Action, ...] = ()
        try:
            is_all = listing.is_as_it_was() or listing.renew(time.monotonic() + LOOK_S)
            inodes: dict[str, int] = {}
            actions, is_whole = self._judged(listing, since_ns, inodes, patience or _always)
        except OSError as error:
            return (*actions, Action(self._root, LEFT, WHAT, why=str(error)))
        if is_whole:
            _keep(listing, inodes, now_ns)
        if not is_all:
            actions += (Action(self._root, LEFT, WHAT, why=SLOW),)
        return actions

    def _judged(
        self,
        listing: Listing,
        since_ns: int,
        inodes: dict[str, int],
        patience: Callable[[], GoesOn],
    ) -> tuple[tuple[Action, ...], bool]:
        """Judge what came; return what was done, and whether all was come to."""
        parts = _told_apart(listing, since_ns, inodes)
        if not parts[0]:
            return (), True
        from nono_mcp.guard.judging_run import judged

        about = self._state_dir, self._root, since_ns, self._left_out, patience()
        kept = None if self._beside is None else self._beside.known
        return judged(about, listing, parts, inodes, kept)


def _always() -> GoesOn:
    return lambda _done, _total: True


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
