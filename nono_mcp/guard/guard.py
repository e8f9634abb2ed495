"""The guard of a session: what is looked at before each call, and put right after it.

    guard.settle(roots, closed)
    guard.begin()
    ...  # the call
    for action in guard.end(): ...

Where somebody watches (`still`), what nothing was made, removed or moved in is not looked through
again; of the files that are guarded there the status is compared, since a file that is mapped
changes unseen by who watches.

Architecture invariant: what a call made is judged when that call has ended, before it is answered.
What changed while none ran is the person's own edit, and is what later calls are compared with.
"""

from __future__ import annotations

import os
import stat
import time

from nono_mcp.guard import judge, names, spots, tree
from nono_mcp.guard.judge import Seen
from nono_mcp.guard.quarantine import Quarantine
from nono_mcp.guard.spots import Spot
from nono_sandbox.errors import ConfinementError
from nono_sandbox.look import WAY
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nono_mcp.guard.tree import Kept, Print

REMOVED, RESTORED, LEFT = "removed", "restored", "left"
_OLD_NS = 3 * 10**9
"""A directory that hasn't changed for so long has a ctime that its next change will change."""
MOVED = "it isn't where it was when the call began, so nothing in it was looked at"
_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Action(Value):
    """What the guard did about one path."""

    path: str
    action: str
    """removed, restored, or left: then *why* it couldn't be put right."""
    what: str
    """What is guarded there."""
    kept_in: str = ""
    """Where what a worker had put there is now."""
    why: str = ""


class _Root:
    """A directory that may be written, and what was guarded in it when it was last in order."""

    def __init__(self, path: str, identity: tuple[int, int] | None) -> None:
        self.path = path
        self.identity = identity
        self.seen: dict[tuple[tuple[str, ...], str], Seen] = {}
        self.awaited: tuple[Spot, ...] = ()
        self.is_home = False
        self.was_there = False
        """When what is in it was taken in."""
        self.crowded: set[tuple[tuple[str, ...], str]] = set()
        """What was more than is looked through before."""
        self.unsure: set[tuple[tuple[str, ...], str]] = set()
        """What was seen while a call ran, which may have it mapped and so change it unseen."""
        self.still: object = None
        """What `Guard.still` said when what is in `seen` was looked at."""
        self._listing: tuple[int, tuple[str, ...]] | None = None

    def path_of(self, spot: Spot) -> str:
        """Return the absolute path of *spot*."""
        return f"{self.path.rstrip('/')}/{spot.path}"

    def open(self) -> int | None:
        """Return a descriptor of the directory that was granted, if it's still there."""
        try:
            fd = os.open(self.path, _ROOT)
        except PermissionError:
            # A worker's doing, or there would be nothing that it could have done.
            fd = _opened_up(self.path)
        except OSError:
            return None
        status = os.fstat(fd)
        if self.identity in (None, (status.st_dev, status.st_ino)):
            return fd
        os.close(fd)
        return None

    def is_as_seen(self, still: object) -> bool:
        """Tell whether nothing needs a look: by what *still* is, and the status of the files."""
        if still is None or still != self.still or self.unsure:
            return False
        try:
            status = os.stat(self.path, follow_symlinks=False)
            if self.identity not in (None, (status.st_dev, status.st_ino)):
                return False
            return all(
                judge.is_directory(seen.print)
                or tree.is_same(seen.print, "/".join((self.path, *directory, name)))
                for (directory, name), seen in self.seen.items()
            )
        except OSError:
            return False

    def present(self, root: int) -> tuple[str, ...]:
        """Return the guarded names that stand in the open directory *root*."""
        changed_ns = os.fstat(root).st_ctime_ns
        if self._listing is None or self._listing[0] != changed_ns:
            found = tuple(names.NAMES.keys() & set(os.listdir(root)))
            self._listing = None
            if time.time_ns() - changed_ns > _OLD_NS:
                self._listing = (changed_ns, found)
            return found
        return self._listing[1]


class Guard:
    """What is guarded in the grants of one session."""

    def __init__(self, state_dir: str) -> None:
        self._quarantine = Quarantine(state_dir)
        self._roots: dict[str, _Root] = {}
        self._closed: frozenset[str] = frozenset()
        self._closed_next: frozenset[str] = frozenset()
        self._beneath: tuple[str, ...] = ()
        self._running_count = 0
        self.still: Callable[[str], object] = _unknown
        """Says of a directory what stays the same while no name in it changes, or None."""

    def settle(
        self,
        roots: Iterable[tuple[str, tuple[int, int] | None]],
        closed: Iterable[str],
        awaited: Iterable[tuple[str, str]] = (),
        home: str = "",
    ) -> None:
        """Guard the directories *roots*, each with its identity.

        *closed* are paths that a worker can't have changed, or may; *awaited* are others that it
        may not make, and what they are. The *home* has those, and no others.
        """
        awaited = tuple(awaited)
        old, self._roots = self._roots, {}
        for path, identity in roots:
            root = old.get(path)
            same = root is not None and root.identity == identity
            root = root if root is not None and same else _Root(path, identity)
            root.awaited = _beneath(path, awaited)
            root.is_home = path == home
            root.still = None
            self._roots[path] = root
        self._closed_next = frozenset(closed)
        # To the calls that run already something else was closed.
        self._close(self._closed_next & self._closed if self._running_count else self._closed_next)

    def _close(self, paths: frozenset[str]) -> None:
        self._closed = paths
        self._beneath = tuple(f"{path}/" for path in paths)

    def begin(self) -> None:
        """Take in what is there now, before a call; while another runs, that's for its end.

        Raises:
            ConfinementError: It can't be looked at. Run nothing.
        """
        if not self._running_count:
            self._close(self._closed_next)
            for root in self._roots.values():
                root.unsure.clear()
                still = self._watched(root)
                if root.is_as_seen(still):
                    continue
                root.still = None
                try:
                    self._take_in_anew(root)
                except OSError as error:
                    raise ConfinementError(
                        f"can't look at what is guarded in {root.path}: {error}"
                    ) from error
                root.still = still
        self._running_count += 1

    def _watched(self, root: _Root) -> object:
        # What runs may have a file mapped, or have yet to close one.
        return None if self._running_count else self.still(root.path)

    def _take_in_anew(self, root: _Root) -> None:
        fd = root.open()
        root.was_there = fd is not None
        if fd is not None:
            try:
                self._take_in(root, fd)
            finally:
                os.close(fd)

    def end(self) -> tuple[Action, ...]:
        """Put right what is otherwise than before, after a call, and return what was done."""
        self._running_count -= 1
        return self.put_right()

    def put_right(self) -> tuple[Action, ...]:
        """Put right what is otherwise than before the calls that run, and return what was done."""
        actions: list[Action] = []
        for root in self._roots.values():
            still = self._watched(root)
            if root.is_as_seen(still):
                continue
            root.still = None
            try:
                self._put_right_anew(root, actions)
            except OSError as error:
                actions.append(Action(root.path, LEFT, "what is guarded in it", why=str(error)))
            else:
                root.still = still
        return tuple(actions)

    def _put_right_anew(self, root: _Root, actions: list[Action]) -> None:
        fd = root.open()
        if fd is not None:
            try:
                self._put_right(root, fd, actions)
            finally:
                os.close(fd)
        elif root.was_there:
            actions.append(Action(root.path, LEFT, "what is guarded in it", why=MOVED))

    def _take_in(self, root: _Root, fd: int) -> None:
        before, root.seen = root.seen, {}
        root.crowded.clear()

        def see(spot: Spot, parent: int) -> bool:
            if self._is_open(root, spot):
                return False
            if spot.rule == spots.TOO_MANY:
                root.crowded.add(spot.key)
            found = judge.printed(spot, parent)
            old = before.get(spot.key)
            if old is not None and old.print == found:
                root.seen[spot.key] = old
            elif found is not None:
                root.seen[spot.key] = Seen(found, judge.kept(spot, parent, found))
            return judge.is_directory(found)

        if not root.is_home:
            spots.visit(fd, root.present(fd), see)
        _see_each(root.awaited, fd, see)

    def _put_right(self, root: _Root, fd: int, actions: list[Action]) -> None:
        visited = set()

        def see(spot: Spot, parent: int) -> bool:
            if self._is_open(root, spot):
                return False
            visited.add(spot.key)
            old = root.seen.get(spot.key)
            found = judge.printed(spot, parent)
            crowded = spot.rule == spots.TOO_MANY and spot.key not in root.crowded
            if crowded or not _is_same(root, spot, parent, found):
                actions.extend(self._judge(root, spot, parent, old))
                found = judge.printed(spot, parent)
            return judge.is_directory(found)

        if not root.is_home:
            known = {name for directory, name in root.seen if not directory} & names.NAMES.keys()
            spots.visit(fd, sorted({*root.present(fd), *known}), see)
        _see_each(root.awaited, fd, see)
        for directory, name in sorted(root.seen.keys() - visited):
            spot = Spot(directory, name, spots.AS_IT_WAS, names.GIT)
            parent = _walk(directory, fd, make=directory[-1:] == (spots.HOOKS,))
            if parent is not None:
                try:
                    see(spot, parent)
                finally:
                    os.close(parent)

    def _is_open(self, root: _Root, spot: Spot) -> bool:
        path = root.path_of(spot)
        return path in self._closed or bool(spot.directory and path.startswith(self._beneath))

    def _judge(self, root: _Root, spot: Spot, parent: int, old: Seen | None) -> list[Action]:
        """Put *spot* right, if it isn't in order; return what was done."""
        found = judge.printed(spot, parent)
        now = judge.kept(spot, parent, found)
        movable = spot.rule == spots.GIT or spot.name == spots.HOOKS
        if movable and old is not None and judge.is_directory(old.print):
            done = self._swap_back(root, spot, parent, old)
            found, now = _as_left(spot, parent, old, done)
        elif judge.is_in_order(spot, found, now, old, root.path):
            done = []
        else:
            done = [self._undo(root, spot, parent, old)]
            found, now = _as_left(spot, parent, old, done)
        left = any(action.action == LEFT for action in done)
        if left and (old is None or old.kept is None or old.kept.is_whole):
            return done  # a call that runs got in between: the next look tries again
        root.seen.pop(spot.key, None)
        root.unsure.discard(spot.key)
        if found is not None:
            root.seen[spot.key] = Seen(found, now)
            if not left:
                root.unsure.add(spot.key)
        return done

    def _undo(self, root: _Root, spot: Spot, parent: int, old: Seen | None) -> Action:
        before = None if old is None else old.kept
        return undo(self._quarantine, root.path_of(spot), spot, parent, before)

    def _swap_back(self, root: _Root, spot: Spot, parent: int, old: Seen) -> list[Action]:
        """Give the repository, or its hooks, the name back, if it's still beside it.

        If it isn't, what stands there now is judged by what is in it, as a new one is.
        """
        now = judge.printed(spot, parent)
        moved = _name_of(old.print, parent)
        if now is None or (judge.is_directory(now) and moved is None):
            return []
        action = self._undo(root, spot, parent, None)
        if moved is not None and action.action != LEFT:
            with tree.Writable(parent):
                os.rename(moved, spot.name, src_dir_fd=parent, dst_dir_fd=parent)
            action = action.replace(action=RESTORED)
        return [action]


def _is_same(root: _Root, spot: Spot, parent: int, found: Print) -> bool:
    """Tell whether what was *found* at *spot* is what was seen there last."""
    old = root.seen.get(spot.key)
    if old is None or old.print != found:
        return old is None and found is None
    return spot.key not in root.unsure or judge.kept(spot, parent, found) == old.kept


def _as_left(
    spot: Spot, parent: int, old: Seen | None, done: list[Action]
) -> tuple[Print, Kept | None]:
    """Return what is known of *spot* once that was *done*, and what it should hold.

    A call that runs may have got at it by now, and isn't to have what it did taken for known.
    """
    found = judge.printed(spot, parent)
    if not done:
        return (found, None) if judge.is_directory(found) else (None, None)
    if done[0].action == LEFT:
        return found, judge.kept(spot, parent, found)
    if done[0].action == REMOVED or old is None:
        return None, None
    return found, old.kept


def undo(
    quarantine: Quarantine | None, path: str, spot: Spot, parent: int, before: Kept | None
) -> Action:
    """Put away what stands at *spot*, whose path is *path*, and back what was there *before*.

    Without a *quarantine* it is gone.
    """
    if before is not None and not before.is_whole:
        why = "it is too large for what was there to have been kept"
        return Action(path, LEFT, spot.what, why=why)
    kept_in = ""
    try:
        with tree.Writable(parent):
            if judge.printed(spot, parent) is not None:
                if quarantine is None:
                    tree.remove(spot.name, parent)
                else:
                    kept_in = quarantine.take(spot.name, parent)
            if before is not None:
                tree.put_back(before, spot.name, parent)
    except OSError as error:
        return Action(path, LEFT, spot.what, kept_in, str(error))
    return Action(path, REMOVED if before is None else RESTORED, spot.what, kept_in)


def _unknown(_: str) -> None:
    return None


def _beneath(root: str, awaited: Iterable[tuple[str, str]]) -> tuple[Spot, ...]:
    """Return the spots of what is *awaited* beneath *root*."""
    prefix = root.rstrip("/") + "/"
    found = []
    for path, what in awaited:
        if path.startswith(prefix):
            *directory, name = path[len(prefix) :].split("/")
            found.append(Spot(tuple(directory), name, spots.AS_IT_WAS, what))
    return tuple(found)


def _see_each(awaited: Iterable[Spot], root: int, see: Callable[[Spot, int], object]) -> None:
    """Call *see* with each spot whose directory is there."""
    for spot in awaited:
        parent = _walk(spot.directory, root, make=False)
        if parent is not None:
            try:
                see(spot, parent)
            finally:
                os.close(parent)


def _opened_up(path: str) -> int:
    above, _, name = path.rpartition("/")
    parent = os.open(above or "/", WAY)
    try:
        return tree.enter(name, parent)
    finally:
        os.close(parent)


def _name_of(directory: Print, parent: int) -> str | None:
    """Return the name that *directory*, as it was printed, has in *parent* now."""
    with os.scandir(parent) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and directory == (stat.S_IFDIR, entry.inode()):
                return entry.name
    return None


def _walk(directory: tuple[str, ...], root: int, *, make: bool) -> int | None:
    """Open a directory beneath *root*, if it's there; the last one of it is made, if so asked."""
    fd = os.dup(root)
    for depth, name in enumerate(directory, start=1):
        try:
            if make and depth == len(directory) and name not in os.listdir(fd):
                with tree.Writable(fd):
                    os.mkdir(name, 0o755, dir_fd=fd)
            below = tree.enter(name, fd)
        except (FileNotFoundError, NotADirectoryError):
            return None
        finally:
            os.close(fd)
        fd = below
    return fd
