"""The guard beneath a workspace's top directory: told what changed, it looks there alone.

    below.settle("/home/ann/project", closed)
    below.learn(None)  # None is everything
    ...  # a call
    for action in below.put_right(Changed(names, trees)): ...

What `Guard` guards in the top directory is guarded in every directory here: the names of `names`,
and repositories, bare ones and those of submodules and linked worktrees too. Removing one of them
runs nothing, and so isn't undone.

Architecture invariant: the work is bounded by what changed, and by what is known. Not thread-safe.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from nono_mcp.guard import finding, judge, names, spots, tree
from nono_mcp.guard.guard import LEFT, MOVED, Action
from nono_mcp.guard.judging import Judging
from nono_mcp.guard.known import Known
from nono_mcp.guard.quarantine import Quarantine
from nono_mcp.guard.spots import Spot
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nono_mcp.guard.finding import Found
    from nono_mcp.guard.spots import See

    SeeBare = Callable[[tuple[str, ...], int], None]

_NOT_ENTERED = (finding.DEEP, finding.SHUT)
_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Changed(Value):
    """What may have changed: paths in the workspace, and directories with all beneath them."""

    names: frozenset[str]
    trees: frozenset[str] = frozenset()


_NOTHING = Changed(frozenset())


class Below:
    """What is guarded beneath the top directory of one workspace."""

    def __init__(self, state_dir: str) -> None:
        self._quarantine = Quarantine(state_dir)
        self._root = ""
        self._closed: frozenset[str] = frozenset()
        self._identity: tuple[int, int] | None = None
        self._known = Known("", ())
        self._began_ns = 0
        self._told_moved = False
        self._again: list[Found] = []
        """What couldn't be looked at, since a call that still ran was changing it."""

    def settle(self, root: str, closed: Iterable[str]) -> None:
        """Guard the directory *root*, but for the paths *closed*; nothing, if *root* is empty."""
        self._root = root
        self._closed = frozenset(closed)
        self._known.closed = self._closed

    def learn(self, changed: Changed | None) -> None:
        """Take in what is there, while no call that may write runs; None is everything."""
        self._told_moved = False
        root = self._opened()
        if root is None:
            self._identity = None
            return
        try:
            if self._identity != _identity(root):
                self._identity = _identity(root)
                self._known = Known(self._root, self._closed)
                changed = None
            self._known.trust()
            for found in self._found(root, changed, learning=True):
                self._learn(found, root)
        finally:
            os.close(root)
        self._began_ns = time.time_ns()

    def is_still(self, *, learning: bool) -> bool:
        """Tell whether what is known is as it is known, where nothing else changed.

        It is by what was done with a file that others have mapped, and by other names of one. If
        nothing differs and it's for *learning*, that is done.
        """
        root = self._opened()
        if root is None:
            return self._identity is None
        try:
            if learning:
                self._known.trust()
            if self._identity != _identity(root) or not self._is_same(root):
                return False
        finally:
            os.close(root)
        if learning:
            self._began_ns = time.time_ns()
        return True

    def put_right(self, changed: Changed | None) -> tuple[Action, ...]:
        """Put right what changed since `learn`, and return what was done; None is everything."""
        root = self._opened()
        if self._root and self._identity not in (None, _identity(root)):
            if root is not None:
                os.close(root)
            return self._moved()
        if root is None:
            return ()
        try:
            if changed == _NOTHING and self._is_same(root):
                return ()
            since_ns = self._began_ns if changed is None else 0
            judging = Judging(self._known, self._quarantine, root, since_ns)
            candidates = [*self._again, *self._found(root, changed, learning=False)]
            self._again = []
            failed = [one for found in candidates for one in self._judge(found, root, judging)]
            return (*judging.done(), *failed)
        finally:
            os.close(root)

    def _is_same(self, root: int) -> bool:
        return not (self._again or self._known.is_doubted() or self._known.differing(root))

    def _moved(self) -> tuple[Action, ...]:
        """Tell, once, that the workspace is another directory, or none; the calls' was moved."""
        if self._told_moved:
            return ()
        self._told_moved = True
        return (Action(self._root, LEFT, "what is guarded beneath it", why=MOVED),)

    def _opened(self) -> int | None:
        try:
            return os.open(self._root, _ROOT) if self._root else None
        except OSError:
            return None  # of which whoever keeps the workspace complains

    def _found(self, root: int, changed: Changed | None, *, learning: bool) -> list[Found]:
        """Return what has to be looked at, each once."""
        if changed is None:
            walk = finding.by_walk(root, (), packages=not learning, forcing=not learning)
            return _by_depth(walk)
        known = self._known.differing(root) if learning else self._known.touched(root)
        paths = changed.names | changed.trees | known
        found = dict.fromkeys(finding.by_names(sorted(paths), self._known.bare))
        for path in sorted(changed.trees):
            top = tuple(path.split("/")) if path else ()
            if ".git" not in top and names.NAMES.keys().isdisjoint(top):
                walk = finding.by_walk(root, top, packages=True, forcing=not learning)
                found.update(dict.fromkeys(walk))
        return _by_depth(found)

    def _learn(self, found: Found, root: int) -> None:
        def see(spot: Spot, parent: int) -> bool:
            there = judge.printed(spot, parent)
            one = self._known.get(spot)
            if there is None:
                self._known.forget(spot)
            elif spot.rule == spots.TOO_MANY or one is None or one.print != there:
                self._known.learn(spot, parent, root, there)
            return judge.is_directory(there)

        def see_bare(directory: tuple[str, ...], fd: int) -> None:
            self._known.bare.add(directory)
            spots.visit_bare(directory, fd, see)

        with suppress(FileNotFoundError):  # somebody removed it meanwhile
            self._visit(found, root, see, see_bare)

    def _judge(self, found: Found, root: int, judging: Judging) -> list[Action]:
        """Have what was *found* judged; return why it couldn't be."""
        if found.kind in _NOT_ENTERED:
            judging.left(found)
            return []
        try:
            self._visit(found, root, judging.see, judging.see_bare)
        except FileNotFoundError:
            self._again.append(found)
        except OSError as error:
            self._again.append(found)
            path = "/".join((self._root.rstrip("/"), *found.directory))
            return [Action(path, LEFT, "what is guarded in it", why=str(error))]
        return []

    def _visit(self, found: Found, root: int, see: See, see_bare: SeeBare) -> None:
        left = found.kind in _NOT_ENTERED
        directory = None if left else tree.beneath(found.directory, root)
        if directory is None:
            return
        try:
            if found.kind == finding.NAME:
                what = names.NAMES[found.name]
                see(Spot(found.directory, found.name, spots.AS_IT_WAS, what), directory)
            elif found.kind == finding.GIT:
                spots.visit_git(found.directory, directory, see)
            elif finding.is_reached(found.directory, root):
                return  # part of a repository: that one's owner looks at it
            elif finding.is_bare(finding.marks(directory)):
                see_bare(found.directory, directory)
            else:
                self._known.bare.discard(found.directory)
        finally:
            os.close(directory)


def _identity(root: int | None) -> tuple[int, int] | None:
    if root is None:
        return None
    status = os.fstat(root)
    return status.st_dev, status.st_ino


def _by_depth(found: Iterable[Found]) -> list[Found]:
    """Return each once, what others are in first: what becomes of those may change what it is."""
    return sorted(dict.fromkeys(found), key=lambda one: len(one.directory))
