"""The directories that are watched, and what events said of them.

A tree of nodes, one a directory, that follows the real one: each event that names a directory
has its node made anew from what is there when the event is dealt with. So no order of events has
to be trusted: the last one of a name is dealt with after all that happened to it.

Architecture invariant: the work that changes can cause between two questions has a bound; and
what can't be watched counts as changed at each question, until it's watched and looked at after.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from nono_mcp.snapshots import folding
from nono_mcp.snapshots.inotify import (
    CHANGES,
    IN_ATTRIB,
    IN_DELETE_SELF,
    IN_IGNORED,
    IN_ISDIR,
    IN_MOVE_SELF,
    IN_MOVED_TO,
    IN_Q_OVERFLOW,
    IN_UNMOUNT,
    Inotify,
)
from nono_mcp.snapshots.values import Dirty
from nono_mcp.snapshots.watched_node import Node
from nono_mcp.snapshots.way import Way

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPTH_MAX = 512
"""Levels of directories; deeper ones aren't watched, and so nothing is."""
NAMES_MAX = 100_000
"""Changed entries that are kept between two questions."""
STEPS_MAX = 200_000
"""Directories looked at between two questions: a large one may be moved to and fro."""
UNWATCHED_MAX = 200
"""Directories that can't be watched; where there are more, nothing is."""
_FOLDS = "names there aren't told apart by case, and events don't say how they are written"
_ENDED = IN_IGNORED | IN_UNMOUNT | IN_DELETE_SELF | IN_MOVE_SELF


class DoubtError(Exception):
    """What changed can't be told any more; the text says why."""


class Tree:
    """What is watched beneath an open directory."""

    def __init__(self, inotify: Inotify, root_fd: int, watches_max: int) -> None:
        self._inotify = inotify
        self._root_fd = root_fd
        self._device = os.fstat(root_fd).st_dev
        self._watches_max = watches_max
        self._root = Node(b"", None)
        self._by_watch: dict[int, Node] = {}
        self._changed: set[Node] = set()
        self._names_count = 0
        self._steps_count = 0
        self._named: dict[tuple[Node, bytes], bool] = {}
        """Directories to look at anew, and whether one was moved there."""
        self._ended: set[int] = set()
        self._dropped: dict[int, set[bytes]] = {}
        self._replaced: set[Node] = set()
        self._unwatched: set[Node] = set()
        """Closed to us, or on another file system: what changes in them raises nothing."""
        self._events_count = 0

    def begin(self) -> None:
        """Watch everything.

        Raises:
            DoubtError, OSError: It can't be watched.
        """
        if folding.is_by_nature(self._root_fd):
            raise DoubtError(_FOLDS)
        self._add(self._root, moved=False)
        self._steps_count = 0

    def take_in(self, events: list[tuple[int, int, bytes]]) -> None:
        """Note what *events* say.

        Raises:
            DoubtError, OSError: What changed can't be told any more.
        """
        self._events_count += len(events)
        for watch, mask, name in events:
            if mask & IN_Q_OVERFLOW:
                raise DoubtError("more changed at once than the kernel keeps events of")
            node = self._by_watch.get(watch)
            if node is None:
                continue  # dropped; what it held counts as changed where it is now
            if mask & _ENDED:
                self._ended.add(watch)
            else:
                self._note(node, mask, name)
        for (node, name), moved in self._named.items():
            if not node.gone:
                self._look_anew(node, name, moved=moved)
        self._named.clear()
        for watch in self._dropped:
            self._inotify.forget(watch)
        self._dropped.clear()

    def still(self) -> int | None:
        """Return how many events there were, or None if not all that changes would raise one."""
        doubtful = self._unwatched or self._ended or self._replaced
        return None if doubtful else self._events_count

    def taken(self) -> Dirty:
        """Return what changed, and begin anew.

        Raises:
            DoubtError: It can't be told.
        """
        self._watch_again()
        # Both are told of by the directory that it was in, in the same system call.
        if self._ended:
            raise DoubtError("a directory is watched no more")
        if any(not node.gone for node in self._replaced):
            raise DoubtError("a directory was met in two places")
        self._replaced.clear()
        relist: set[bytes] = set()
        rescan: set[bytes] = set()
        rehash = self.rehash()
        for node in self._changed:
            if node.gone or any(above.whole for above in node.ancestors()):
                continue
            if node.whole:
                rescan.add(node.path())
            elif node.listing:
                relist.add(node.path())
        for node in self._changed:
            node.names.clear()
            node.whole = node.listing = False
        self._changed.clear()
        self._names_count = self._steps_count = 0
        return Dirty(frozenset(relist), rehash, frozenset(rescan))

    def _watch_again(self) -> None:
        """Count what isn't watched as changed, and watch what can be by now.

        Which mode it was that closed it, its own or one above, needn't be known, nor who opened
        it. It's watched here and looked at by the caller, in this order.
        """
        for node in list(self._unwatched):
            if node.parent is not None:
                self._look_anew(node.parent, node.name, moved=True)

    def rehash(self) -> frozenset[bytes]:
        """Return the entries that events named and that may still be there."""
        found: set[bytes] = set()
        for node in self._changed:
            if not node.gone and node.names:
                path = node.path()
                lead = path + b"/" if path else b""
                found.update(lead + name for name in node.names)
        return frozenset(found)

    def _note(self, node: Node, mask: int, name: bytes) -> None:
        self._changed.add(node)
        if name and not mask & IN_ISDIR:
            self._add_name(node, name)
            return
        node.listing = True
        child = node.children.get(name)
        if name and (not mask & IN_ATTRIB or child is None or child.watch < 0):
            key = node, name
            self._named[key] = self._named.get(key, False) or bool(mask & IN_MOVED_TO)

    def _add_name(self, node: Node, name: bytes) -> None:
        if name not in node.names:
            node.names.add(name)
            self._names_count += 1
            if self._names_count > NAMES_MAX:
                raise DoubtError(f"more than {NAMES_MAX} entries changed")

    def _look_anew(self, parent: Node, name: bytes, *, moved: bool) -> None:
        known = parent.children.pop(name, None)
        if known is not None:
            self._drop(known)
        node = Node(name, parent)
        node.whole = True
        parent.children[name] = node
        self._changed.add(node)
        self._add(node, moved=moved)

    def _drop(self, top: Node) -> None:
        for node in top.subtree():
            node.gone = True
            self._unwatched.discard(node)
            if node.watch >= 0:
                del self._by_watch[node.watch]
                self._dropped[node.watch] = node.names
                self._ended.discard(node.watch)

    def _add(self, top: Node, *, moved: bool) -> None:
        """Watch and list *top* and all beneath it; what was *moved* there is to be read again."""
        way = Way(self._root_fd)
        pending = [top]
        try:
            while pending:
                node = pending.pop()
                self._steps_count += 1
                if self._steps_count > STEPS_MAX:
                    raise DoubtError("directories were moved about too much")
                fd = way.into(node)
                if fd is None:
                    self._detach(node)
                elif fd >= 0 and os.fstat(fd).st_dev == self._device:
                    self._watch(node, fd)
                    pending += self._list(node, fd, moved=moved)
                else:
                    self._leave_unwatched(node)
        finally:
            way.close()

    def _leave_unwatched(self, node: Node) -> None:
        self._unwatched.add(node)
        if len(self._unwatched) > UNWATCHED_MAX:
            raise DoubtError(f"more than {UNWATCHED_MAX} directories can't be read")

    def _detach(self, node: Node) -> None:
        # Gone since it was listed or named, of which its parent tells.
        node.gone = True
        if node.parent is not None:
            del node.parent.children[node.name]

    def _watch(self, node: Node, fd: int) -> None:
        if node.depth > DEPTH_MAX:
            raise DoubtError(f"directories are more than {DEPTH_MAX} deep")
        if folding.is_told_to(fd):
            raise DoubtError(_FOLDS)
        if len(self._by_watch) >= self._watches_max:
            raise DoubtError(
                f"it has more than {self._watches_max} directories, half of what may be watched "
                "(fs.inotify.max_user_watches)"
            )
        mask = CHANGES if node.parent is not None else CHANGES | IN_DELETE_SELF | IN_MOVE_SELF
        try:
            node.watch = self._inotify.watch(fd, mask)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise DoubtError("no more may be watched (fs.inotify.max_user_watches)") from error
        before = self._by_watch.get(node.watch)
        if before is not None:
            # It was moved, and its old place isn't dealt with yet.
            before.watch = -1
            self._replaced.add(before)
        for name in self._dropped.pop(node.watch, before.names if before else ()):
            self._add_name(node, name)
            self._changed.add(node)
        self._by_watch[node.watch] = node

    def _list(self, node: Node, fd: int, *, moved: bool) -> Iterator[Node]:
        with os.scandir(fd) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    child = node.children[name] = Node(name, node)
                    yield child
                elif moved:
                    self._add_name(node, name)
                    self._changed.add(node)
