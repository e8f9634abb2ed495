"""A directory that may be written: what is guarded in it, as it was, and as it is put back.

Architecture invariant: what changed while a call ran, whoever's, is judged against what was there
when none did. Everything goes by the directory that was granted, held open for as long as a look
takes.
"""

from __future__ import annotations

import posix as os
import time

from nono_mcp.guard import action, judging_spots, names, spelling, spots, times, ways
from nono_mcp.guard.action import LEFT, Action
from nono_mcp.guard.closed_paths import ClosedPaths
from nono_mcp.guard.judging_spots import Seen
from nono_mcp.guard.moved_directories import MovedDirectories, is_movable
from nono_mcp.guard.spots import Spot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nono_mcp.guard.marshalled import Key, Top
    from nono_mcp.guard.quarantine import Quarantine
    from nono_mcp.guard.register import Register
    from nono_mcp.guard.tree import Kept, Print

    Identity = tuple[int, int]

_OLD_NS = 3 * 10**9
"""A directory that hasn't changed for so long has a ctime that its next change will change."""


class Root:
    """One directory, and what was guarded in it when it was last in order."""

    def __init__(
        self, path: str, identity: Identity | None, register: Register, quarantine: Quarantine
    ) -> None:
        self.path = path
        self.identity = identity
        self.register = register
        self.seen: dict[Key, Seen] = {}
        self.awaited: tuple[Spot, ...] = ()
        self.is_home = False
        self.was_there = False
        """When what is in it was taken in."""
        self.is_taken = False
        """What is in it was taken in, at some time."""
        self.is_stale = False
        """Something else is looked at than when what is in it was taken in."""
        self.left_out = ClosedPaths()
        """What isn't looked at while our calls run alone."""
        self.others_closed: tuple[ClosedPaths, ...] = ()
        """The same of those whose calls ran when ours began."""
        self.is_shared = False
        """Others' calls ran when ours began."""
        self.published: Top | None = None
        """What others know."""
        self.is_told = False
        """It's all that is known here."""
        self.crowded: set[Key] = set()
        """What was more than is looked through before."""
        self.still: object = None
        """What `Guard.still` said when what is in `seen` was looked at."""
        self._quarantine = quarantine
        self.held = MovedDirectories()
        self._closed = ClosedPaths()
        """What no call of ours can change."""
        self._given_up = ClosedPaths()
        """What each may."""
        self._unsure: set[Key] = set()
        """What was seen while a call ran, which may have it mapped and so change it unseen."""
        self._device = -1
        self._is_timed = False
        """What changes on the device has another time."""
        self.listing: tuple[int, tuple[str, ...]] | None = None
        """Which guarded names were there at which ctime, if the next change has another."""

    def path_of(self, spot: Spot) -> str:
        """Return the absolute path of *spot*."""
        return f"{self.path.rstrip('/')}/{spot.path}"

    def open(self) -> int | None:
        """Return a descriptor of the directory that was granted, if it's still there."""
        try:
            fd = os.open(self.path, ways.DIRECTORY)
        except PermissionError:
            # A worker's doing, or there would be nothing that it could have done.
            fd = ways.opened_up(self.path)
        except OSError:
            return None
        status = os.fstat(fd)
        if self.identity in (None, (status.st_dev, status.st_ino)):
            return fd
        os.close(fd)
        return None

    def is_open(self, spot: Spot) -> bool:
        """Tell whether no call can have changed *spot*, or each may."""
        path, deep = self.path_of(spot), bool(spot.directory)
        return self._given_up.covers(path, deep=deep) or all(
            one.covers(path, deep=deep) for one in (self._closed, *self.others_closed)
        )

    @property
    def is_doubtful(self) -> bool:
        """Tell whether a file may hold something else, and have the same status."""
        return bool(self._unsure) or self.is_shared or not self._is_timed

    def settle(self, awaited: tuple[Spot, ...], given_up: ClosedPaths, *, is_home: bool) -> None:
        """Look at what is *awaited* too, and not at what is *given_up*."""
        self.is_stale = self.is_stale or (awaited, given_up) != (self.awaited, self._given_up)
        self.awaited = awaited
        self._given_up = given_up
        self.is_home = is_home
        self.still = None

    def await_too(self, keys: Iterable[Key]) -> None:
        """Look also at what others' calls weren't to make, and ours can't change as it's there."""
        spots_of = (Spot(*key, spots.AS_IT_WAS, "what is closed to calls") for key in keys)
        self.awaited += tuple(
            spot
            for spot in spots_of
            if self._closed.covers(self.path_of(spot), deep=bool(spot.directory))
        )

    def close(self, closed: ClosedPaths) -> None:
        """Have it that our calls can't change what is *closed*."""
        if closed is not self._closed:
            self.is_stale = self.is_stale or closed != self._closed
            self._closed = closed
        if self.is_stale:
            self.left_out = (self._closed | self._given_up).within(self.path)

    def be_alone(self) -> None:
        """Go by the status of everything again, since no call runs that could have it mapped."""
        self.is_told = self.is_told and not (self.is_shared or self.others_closed)
        self.is_shared = False
        self.others_closed = ()
        self._unsure.clear()

    def share(self) -> None:
        """Go by what everything holds, since calls run that may have it mapped."""
        self.is_shared = True
        self.still = None

    def _present(self, root: int) -> tuple[str, ...]:
        """Return the guarded names that stand in the open directory *root*."""
        changed_ns = os.fstat(root).st_ctime_ns
        if self.listing is None or self.listing[0] != changed_ns:
            found = spelling.guarded(root)
            self.listing = None
            if time.time_ns() - changed_ns > _OLD_NS:
                self.listing = (changed_ns, found)
            return found
        return self.listing[1]

    def names(self, fd: int) -> list[str]:
        """Return the guarded names that are in the open directory *fd*, or were."""
        known = names.guarded(name for directory, name in self.seen if not directory)
        return sorted({*self._present(fd), *known})

    def take_in(self, fd: int | None) -> None:
        """Take what is in the open directory *fd* for the person's; None is that it's gone."""
        self.is_taken = True
        self.is_stale = self.is_told = False
        self.was_there = fd is not None
        before, self.seen = self.seen, {}
        self.crowded.clear()
        self.held.close()
        if fd is None:
            return
        self._see_where(fd)

        def see(spot: Spot, parent: int) -> bool:
            return not self.is_open(spot) and self._take(spot, parent, before)

        self.visit(fd, self._present(fd), see)

    def take_over(self, fd: int, seen: dict[Key, Seen], known: Callable[[Spot], bool]) -> None:
        """Go by what was *seen* in the open directory *fd*, but for what isn't *known* by that."""
        self.is_taken = self.was_there = True
        self.is_stale = self.is_told = False
        self._see_where(fd)
        self.seen = dict(seen)
        self.held.close()

        def see(spot: Spot, parent: int) -> bool:
            if known(spot):
                return self._see_known(spot, parent)
            return not self.is_open(spot) and self._take(spot, parent, {})

        self.visit(fd, self._present(fd), see)

    def _see_known(self, spot: Spot, parent: int) -> bool:
        found, old = judging_spots.printed(spot, parent), self.seen.get(spot.key)
        if old is not None and old.print == found:
            self.held.hold(spot, parent, found)
        return judging_spots.is_directory(found)

    def _see_where(self, fd: int) -> None:
        device = os.fstat(fd).st_dev
        if device != self._device:
            self._device, self._is_timed = device, times.are_told(fd)

    def _take(self, spot: Spot, parent: int, before: dict[Key, Seen]) -> bool:
        if spot.rule == spots.TOO_MANY:
            self.crowded.add(spot.key)
        found = judging_spots.printed(spot, parent)
        self.held.hold(spot, parent, found)
        old = before.get(spot.key)
        if old is not None and old.print == found and self._holds(spot, parent, found, old):
            self.seen[spot.key] = old
        elif found is not None:
            self.seen[spot.key] = Seen(found, judging_spots.kept(spot, parent, found))
        return judging_spots.is_directory(found)

    def _holds(self, spot: Spot, parent: int, found: Print, old: Seen) -> bool:
        return self._is_timed or judging_spots.kept(spot, parent, found) == old.kept

    def put_right(self, fd: int, actions: list[Action]) -> None:
        """Put right what is otherwise in the open directory *fd*, and add to *actions* what was."""
        visited = set()

        def see(spot: Spot, parent: int) -> bool:
            if self.is_open(spot):
                return False
            visited.add(spot.key)
            old = self.seen.get(spot.key)
            found = judging_spots.printed(spot, parent)
            if not self.is_same(spot, parent, found):
                actions.extend(self._judge(spot, parent, old))
                found = judging_spots.printed(spot, parent)
            return judging_spots.is_directory(found)

        self.visit(fd, self.names(fd), see)
        for directory, name in sorted(self.seen.keys() - visited):
            spot = Spot(directory, name, spots.AS_IT_WAS, names.GIT)
            parent = ways.walk(directory, fd, make=directory[-1:] == (spots.HOOKS,))
            if parent is not None:
                try:
                    see(spot, parent)
                finally:
                    os.close(parent)

    def visit(self, fd: int, present: Iterable[str], see: spots.See) -> None:
        """Have each spot seen that is looked at; in *fd* itself those *present* are there."""
        if not self.is_home:
            spots.visit(fd, present, see)
        for spot in self.awaited:
            parent = ways.walk(spot.directory, fd, make=False)
            if parent is not None:
                try:
                    see(spot, parent)
                finally:
                    os.close(parent)

    def is_same(self, spot: Spot, parent: int, found: Print) -> bool:
        """Tell whether what was *found* at *spot* is what was seen there last."""
        if spot.rule == spots.TOO_MANY and spot.key not in self.crowded:
            return False
        old = self.seen.get(spot.key)
        if old is None or old.print != found:
            return old is None and found is None
        if self.is_shared or spot.key in self._unsure:
            return judging_spots.kept(spot, parent, found) == old.kept
        return self._holds(spot, parent, found, old)

    def _judge(self, spot: Spot, parent: int, old: Seen | None) -> list[Action]:
        """Put *spot* right, if it isn't in order; return what was done."""
        found = judging_spots.printed(spot, parent)
        now = judging_spots.kept(spot, parent, found)
        if is_movable(spot) and old is not None and judging_spots.is_directory(old.print):
            done = self._swap_back(spot, parent)
            found, now = action.as_left(spot, parent, old, done)
        elif judging_spots.is_in_order(spot, found, now, old, self.path):
            done = []
        else:
            done = [self._undo(spot, parent, None if old is None else old.kept)]
            found, now = action.as_left(spot, parent, old, done)
        left = any(one.action == LEFT for one in done)
        if left and (old is None or old.kept is None or old.kept.is_whole):
            return done  # a call that runs got in between: the next look tries again
        self.is_told = False
        self.seen.pop(spot.key, None)
        self._unsure.discard(spot.key)
        if found is not None:
            self.seen[spot.key] = Seen(found, now)
            self.held.hold(spot, parent, found)
            if not left:
                self._unsure.add(spot.key)
        return done

    def _undo(self, spot: Spot, parent: int, before: Kept | None = None) -> Action:
        return action.undo(self._quarantine, self.path_of(spot), spot, parent, before)

    def _swap_back(self, spot: Spot, parent: int) -> list[Action]:
        """Give the repository, or its hooks, the name back, if it's still beside it.

        If it isn't, what stands there now is judged by what is in it, as a new one is.
        """
        now = judging_spots.printed(spot, parent)
        moved = self.held.name_of(spot, parent)
        if now is None or (judging_spots.is_directory(now) and moved is None):
            return []
        done = self._undo(spot, parent)
        return [done if moved is None else action.renamed(moved, spot, parent, done)]
