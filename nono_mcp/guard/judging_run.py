"""What is judged of what came, or was changed, since a program began.

What stands at a guarded name and isn't in order by what is in it is

- put away, if it surely came since (`arrivals`), be it by a rename or a link of something older;
- put back, if what stood there before was kept by `during_run`;
- told of and left, if it may have stood there before and wasn't kept. So is what
  an older directory holds that may have been moved there, and the `config` of an older repository:
  who commits or pushes there changes it.

Architecture invariant: what has a ctime from before, by a way on which nothing can have been moved,
is the person's.
"""

from __future__ import annotations

import _stat as stat
import posix as os

from nono_mcp.guard import finding, looking, names, spots, times, tree, ways
from nono_mcp.guard.action import LEFT, REMOVED, Action, undo
from nono_mcp.guard.arrivals import Arrivals
from nono_mcp.guard.baseline import Baseline
from nono_mcp.guard.finding import Found
from nono_mcp.guard.judging_subtree import BARE, SubtreeJudging
from nono_mcp.guard.quarantine import Quarantine
from nono_mcp.guard.spots import Spot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nono_mcp.guard.after_run import GoesOn
    from nono_mcp.guard.baseline import One
    from nono_mcp.guard.directory_listings import Listing, Plain

CHANGED = (
    "it was changed, or moved there, while the program ran, and what was there before isn't "
    "known: look through it"
)
CUT_SHORT = "a signal ended the look before it was judged: look through it"
_MARKS = ("HEAD", "objects", "refs", "commondir")


def judged(
    about: tuple[str, str, int, tuple[Iterable[str], Iterable[str]], GoesOn],
    listing: Listing,
    parts: tuple[Iterable[Plain], Iterable[Plain]],
    inodes: dict[str, int],
    kept: Baseline | None = None,
) -> tuple[tuple[Action, ...], bool]:
    """Judge what is doubtful of what is guarded in a *listing*.

    *about* is our state directory, the workspace, since when, what is closed and given up, and
    what tells whether to go on. The *parts* are what is doubtful, and what isn't. What stands at
    guarded names adds its *inodes*. What stood there before is known as far as it was *kept*.
    Returned is what was done, and whether all was come to.

    Raises:
        OSError: It can't be looked at.
    """
    state_dir, path, since_ns, (closed, given_up), goes_on = about
    root = os.open(path, ways.DIRECTORY)
    try:
        known = kept or Baseline(path, times.telling_device(root))
        known.closed, known.given_up = frozenset(closed), frozenset(given_up)
        fresh = RunJudging(known, Quarantine(state_dir), root, (since_ns, listing))
        doubtful = list(_opened_up(parts[0], root, since_ns))
        touched: list[Found] = []
        for done, found in enumerate(doubtful):
            if not goes_on(done, len(doubtful)):
                return fresh.leave((*touched, *doubtful[done:])), False
            if fresh.is_touched(found, inodes):
                touched.append(found)
        if not touched:
            return (), True
        fresh.learn({*doubtful, *(Found(*one) for one in parts[1])}.difference(touched))
        return fresh.judge(touched, goes_on)
    finally:
        os.close(root)


def _opened_up(doubtful: Iterable[Plain], root: int, since_ns: int) -> Iterable[Found]:
    """Yield what is *doubtful*, and what is in directories that were shut."""
    for one in doubtful:
        found = Found(*one)
        if found.kind != finding.SHUT:
            yield found
        elif not _was_shut("/".join(found.directory), root, since_ns):
            yield from finding.by_walk(root, found.directory, packages=True, forcing=True)


def _was_shut(path: str, root: int, since_ns: int) -> bool:
    """Tell whether nobody can have got into a directory since: to open it up gives it a ctime."""
    try:
        status = os.stat(path, dir_fd=root, follow_symlinks=False)
    except OSError:
        return False
    return status.st_ctime_ns < since_ns and not status.st_mode & stat.S_IXUSR


class RunJudging(SubtreeJudging):
    """The judging of what came since a time, as far as that can be told."""

    def __init__(
        self,
        known: Baseline,
        quarantine: Quarantine,
        root: int,
        before: tuple[int, Listing],
    ) -> None:
        super().__init__(known, quarantine, root, 0)
        self._from_ns = before[0]
        self._arrivals = Arrivals(known, root, *before)

    def is_touched(self, found: Found, seen: dict[str, int]) -> bool:
        """Tell whether something may have come or changed in what was *found*; add inodes."""
        if found.kind in looking.NOT_ENTERED:
            return True
        touched = False

        def see(spot: Spot, parent: int) -> bool:
            nonlocal touched
            try:
                status = os.stat(spot.name, dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError:
                return False
            seen[spot.path] = status.st_ino
            self._arrivals.note_way(spot.directory, parent, seen)
            self._arrivals.note(spot, parent, status)
            touched = touched or not self._arrivals.is_old(spot, parent, status)
            return stat.S_ISDIR(status.st_mode)

        def see_bare(directory: tuple[str, ...], fd: int) -> None:
            for name in _MARKS:
                see(Spot(directory, name, spots.DIRECTORY, BARE), fd)
            spots.visit_bare(directory, fd, see)

        try:
            looking.visit(self._known, found, self._root, see, see_bare)
        except OSError:
            return True  # of which the judging tells
        return touched

    def learn(self, others: Iterable[Found]) -> None:
        """Take what nobody touched for the person's, and copies of it too."""
        for found in others:
            looking.learn(self._known, found, self._root)

    def judge(self, touched: Iterable[Found], goes_on: GoesOn) -> tuple[tuple[Action, ...], bool]:
        """Judge what was *touched*; return what was done, and whether all was come to."""
        ordered = sorted(touched, key=lambda one: len(one.directory))
        for done, found in enumerate(ordered):
            if not goes_on(done, len(ordered)):
                return self.leave(ordered[done:]), False
            if found.kind in looking.NOT_ENTERED:
                self.left(found)
                continue
            try:
                looking.visit(self._known, found, self._root, self.see, self.see_bare)
            except OSError as error:
                self._tell_left(found, str(error))
        return self.done(), True

    def leave(self, rest: Iterable[Found]) -> tuple[Action, ...]:
        """Leave the *rest* unjudged, and return what was done, of that too."""
        for found in rest:
            self._tell_left(found, CUT_SHORT)
        return self.done()

    def _tell_left(self, found: Found, why: str) -> None:
        path = self._known.path(Spot(found.directory, found.name or ".git", "", ""))
        self._tell(Action(path, LEFT, "what is guarded there", why=why))

    def _was_there(self, spot: Spot, parent: int) -> bool:
        if spot.what == BARE:
            return False  # by its HEAD alone, which tells nothing of the rest
        status = os.stat(spot.name, dir_fd=parent, follow_symlinks=False)
        return self._arrivals.is_old(spot, parent, status)

    def see_bare(self, directory: tuple[str, ...], fd: int) -> None:
        """Judge the repository that the open directory *fd* is."""
        old = True
        for name in _MARKS:
            spot = Spot(directory, name, spots.DIRECTORY, BARE)
            if ways.is_there(name, fd):
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                old = old and self._arrivals.is_same(spot, status)
        if old:
            self._known.bare.add(directory)
        super().see_bare(directory, fd)

    def _undo(self, spot: Spot, parent: int, one: One | None) -> str:
        if finding.in_package(spot.directory) and spot.what == names.what_of(
            spot.directory, spot.name
        ):
            return super()._undo(spot, parent, one)
        if one is not None and one.kept is not None:
            return super()._undo(spot, parent, one)
        if spot.what == BARE:
            came = any(self._arrivals.is_new(name, parent) for name in _MARKS)
        else:
            came = self._arrivals.came(spot, parent)
        return super()._undo(spot, parent, None) if came else self._left_or_within(spot, parent)

    def _left_or_within(self, spot: Spot, parent: int) -> str:
        """Put away what is new in a directory that is older, and tell of what isn't."""
        before = len(self._actions)
        status = os.stat(spot.name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode) or not self._within(spot, parent, 0):
            self._tell(Action(self._known.path(spot), LEFT, spot.what, why=CHANGED))
            return LEFT
        return REMOVED if len(self._actions) > before else ""

    def _within(self, spot: Spot, parent: int, depth: int) -> bool:
        """Put away what is new in what stands at *spot*; tell whether nothing else was touched."""
        status = os.stat(spot.name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            return status.st_ctime_ns < self._from_ns
        if depth > tree.DEPTH_MAX or self._arrivals.is_way_moved((*spot.directory, spot.name)):
            return False
        rest = True
        directory = ways.enter(spot.name, parent)
        try:
            # Before anything is put away from it.
            changed_ns = os.fstat(directory).st_ctime_ns
            for name in sorted(os.listdir(directory)):
                at = (*spot.directory, spot.name)
                inner = Spot(at, name, spots.AS_IT_WAS, spot.what)
                if self._arrivals.is_new(name, directory):
                    path = self._known.path(inner)
                    self._tell(undo(self._quarantine, path, inner, directory, None))
                elif _came_by_itself(name, directory, changed_ns, self._from_ns):
                    rest = False
                else:
                    rest = self._within(inner, directory, depth + 1) and rest
        finally:
            os.close(directory)
        return rest


def _came_by_itself(name: str, parent: int, changed_ns: int, since_ns: int) -> bool:
    """Tell whether the directory *name* may have been moved into one that was *changed_ns*."""
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    return stat.S_ISDIR(status.st_mode) and min(status.st_ctime_ns, changed_ns) >= since_ns
