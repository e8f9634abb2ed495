"""One look at what changed beneath a workspace's top directory, and what it puts right.

Architecture invariant: what isn't known to be harmless, or a copy of what the person has, goes. Of
a directory that a worker made a repository of, only what made it one goes: the rest may be the
person's.
"""

from __future__ import annotations

import posix as os

from nono_mcp.guard import baseline, finding, judging_spots, names, spots, ways
from nono_mcp.guard.action import LEFT, REMOVED, RESTORED, Action, undo
from nono_mcp.guard.spots import Spot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.guard.baseline import Baseline
    from nono_mcp.guard.quarantine import Quarantine
    from nono_mcp.guard.tree import Kept, Print

ACTIONS_MAX = 200
"""Of each kind that are told one by one; of others the number is told."""
BARE = "a repository in a directory itself, whose settings or hooks can run commands"
_IN_PACKAGES = "settings of editors, agents, shells or package managers, {} of them in packages"
_SLACK_NS = 2 * 10**9


class SubtreeJudging:
    """The judging of what is at one time beneath the open directory *root*."""

    def __init__(self, known: Baseline, quarantine: Quarantine, root: int, since_ns: int) -> None:
        self._known = known
        self._quarantine = quarantine
        self._root = root
        self._since_ns = since_ns
        """Where only times tell what is new: when that begins; else 0."""
        self._actions: list[Action] = []
        self._told: dict[str, int] = {}
        self._more: dict[str, int] = {}
        self._in_packages: dict[tuple[str, ...], int] = {}

    def see(self, spot: Spot, parent: int) -> bool:
        """Put *spot* right, if it isn't in order; tell whether it's a directory to look into."""
        if baseline.is_at_top(spot) or self._known.is_open(spot):
            return False
        one = self._known.get(spot)
        found = judging_spots.printed(spot, parent)
        if found is None:
            self._known.forget(spot)
            return False
        if spot.rule == spots.TOO_MANY:
            if not self._known.is_crowded(spot):
                self._undo(spot, parent, None)
            return False
        same = self._known.holds(spot, parent, found)
        if (same and not self._known.is_gitfile(spot)) or self._was_there(spot, parent):
            return judging_spots.is_directory(found)
        now = judging_spots.kept(spot, parent, found)
        more = one is None and self._known.is_full()
        if more or not self._is_in_order(spot, found, now, one):
            found = self._replaced(spot, parent, one)
        else:
            self._known.take(spot, now, self._root, found)
            if now is not None:
                self._known.doubt(spot)
        return judging_spots.is_directory(found)

    def _replaced(self, spot: Spot, parent: int, one: baseline.One | None) -> Print:
        """Undo what became of *spot*, and return what stands there then."""
        action = self._undo(spot, parent, one)
        found = judging_spots.printed(spot, parent)
        if found is None or action == REMOVED:
            self._known.forget(spot)
            return found
        if action == LEFT and (one is None or one.kept is None or one.kept.is_whole):
            # A call that runs got in between, so that the next look tries again.
            self._known.doubt(spot)
        elif action != RESTORED or one is None:
            self._known.take(spot, judging_spots.kept(spot, parent, found), self._root, found)
        else:
            # A call that runs may have got at it by now: known is what was put there.
            self._known.take(spot, one.kept, self._root, found)
            self._known.doubt(spot)
        return found

    def see_bare(self, directory: tuple[str, ...], fd: int) -> None:
        """Judge the repository that the open directory *fd* is."""
        if directory in self._known.bare:
            spots.visit_bare(directory, fd, self.see)
            return
        wrong: list[Spot] = []

        def see(spot: Spot, parent: int) -> bool:
            found = judging_spots.printed(spot, parent)
            now = judging_spots.kept(spot, parent, found)
            if found is not None and not self._is_in_order(spot, found, now, None):
                wrong.append(spot)
            return judging_spots.is_directory(found) and not wrong

        head = Spot(directory, "HEAD", spots.TOO_MANY, BARE)
        if self._known.is_open(head) or self._was_there(head, fd):
            return
        spots.visit_bare(directory, fd, see)
        if wrong:
            self._undo(head, fd, None)
        else:
            self._known.bare.add(directory)
            spots.visit_bare(directory, fd, self.see)

    def bring_back(self) -> None:
        """Bring back what isn't there: who was killed may have been about to."""
        for spot, kept in self._known.absent(self._root):
            parent = ways.beneath(spot.directory, self._root, entering=False)
            if parent is not None:
                try:
                    path = self._known.path(spot)
                    self._tell(undo(self._quarantine, path, spot, parent, kept))
                finally:
                    os.close(parent)

    def left(self, found: finding.Found) -> None:
        """Tell of a directory that isn't looked into."""
        spot = Spot(found.directory[:-1], found.directory[-1], "", "what is in it")
        too_deep = f"what is over {finding.DEPTH_MAX} levels deep isn't looked at"
        why = too_deep if found.kind == finding.DEEP else f"it can't be looked into: {found.name}"
        self._tell(Action(self._known.path(spot), LEFT, spot.what, why=why))

    def done(self) -> tuple[Action, ...]:
        """Return what was done, and what was left."""
        for directory, count in sorted(self._in_packages.items()):
            spot = Spot(directory[:-1], directory[-1], "", _IN_PACKAGES.format(count))
            why = "packages stay as they were published: open none of them as a project"
            self._tell(Action(self._known.path(spot), LEFT, spot.what, why=why))
        for action, count in self._more.items():
            top = self._known.path(Spot((), "", "", ""))
            kept_in = "" if action == LEFT else self._quarantine.entry
            why = "that is more than is told one by one" if action == LEFT else ""
            what = f"{count} more of what is guarded"
            self._actions.append(Action(top, action, what, kept_in, why, by_name=False))
        return tuple(self._actions)

    def _was_there(self, spot: Spot, parent: int) -> bool:
        """Tell whether *spot*, in a package that nobody looked into before, is as it was."""
        if not self._since_ns or not finding.in_package(spot.directory):
            return False
        if self._known.get(spot) is not None:
            return False
        status = os.stat(spot.name, dir_fd=parent, follow_symlinks=False)
        return status.st_ctime_ns < self._since_ns - _SLACK_NS

    def _is_in_order(
        self, spot: Spot, found: Print, now: Kept | None, one: baseline.One | None
    ) -> bool:
        seen = None if one is None else judging_spots.Seen(one.print, one.kept)
        if now is None:
            return spot.rule != spots.TOO_MANY
        if self._known.has_to_lead_inside(spot, now, self._root):
            return True
        if spot.rule != spots.GIT and self._known.copies.have(spot, now):
            return True
        if spot.rule == spots.GIT:
            before = None if one is None else one.kept
            return now.is_whole and now == before and not self._known.is_gitfile(spot)
        return judging_spots.is_in_order(spot, found, now, seen, "")

    def _undo(self, spot: Spot, parent: int, one: baseline.One | None) -> str:
        """Undo what became of *spot*, and return what was done; of a package's nothing is."""
        package = finding.in_package(spot.directory)
        if package and _is_name(spot):
            top = spot.directory[:package]
            self._in_packages[top] = self._in_packages.get(top, 0) + 1
            return ""
        before = None if one is None or self._known.is_gitfile(spot) else one.kept
        action = undo(self._quarantine, self._known.path(spot), spot, parent, before)
        self._tell(action.replace(by_name=False) if spot.what == BARE else action)
        return action.action

    def _tell(self, action: Action) -> None:
        # What was put right doesn't keep what was left from being told.
        told = self._told.get(action.action, 0)
        if told < ACTIONS_MAX:
            self._told[action.action] = told + 1
            self._actions.append(action)
        else:
            self._more[action.action] = self._more.get(action.action, 0) + 1


def _is_name(spot: Spot) -> bool:
    return spot.what == names.what_of(spot.directory, spot.name)
