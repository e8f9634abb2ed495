"""What changed beneath a directory since that was asked last: inotify, or "look at everything".

    watcher = Watcher("/home/ann/project")
    with watcher.changes() as dirty:  # None is everything
        snapshots.take("auto", dirty=dirty)

Events are taken in by a thread, since the kernel's queue is short. A directory is watched before
it is listed, so that what comes into being in it is in the list, raises an event, or both.

Architecture invariant: every doubt ends in a full scan: an overflow, a limit, a root that isn't
the one that was watched, a mount, a look that failed. Nothing is left out to be quick.

Not seen, and found by the next full scan: a file of one name that got another one outside of the
directory and was written through that.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nono_mcp.snapshots import mounts
from nono_mcp.snapshots.inotify import Inotify
from nono_mcp.snapshots.values import Dirty
from nono_mcp.snapshots.watched import DoubtError, Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Lock = AbstractContextManager[bool]

Stillness = tuple[int, int]
"""The time of watching, and how many events it has seen."""

RETRY_S = 60.0
"""How long after it wasn't possible to watch that is tried again."""
LOST_MAX = 100_000
"""How many entries that a failed look was about are read again by the next."""
_PAUSE_MS = 2
_EVERYTHING = frozenset({b""})
_LIMIT = Path("/proc/sys/fs/inotify/max_user_watches")


class Watcher:
    """Watches a directory; safe to use from several threads."""

    def __init__(self, root: str, *, watches_max: int | None = None) -> None:
        self._root = root
        self._watches_max = watches_max
        self._mutex = threading.RLock()
        self._watching: _Watching | None = None
        self._lost: frozenset[bytes] = frozenset()
        self._retry_at_s = 0.0
        self._times_count = 0
        self.since: Stillness | None = None
        """What `still` returns for as long as nothing changes after the last `take`."""
        self._closed = False
        self.reason = "nothing was watched yet"
        """Why the next answer will be, or the last one was, everything; or nothing."""

    @contextmanager
    def changes(self) -> Iterator[Dirty | None]:
        """Yield what changed since the last time that the body ended well; None is everything.

        What changes while the body runs is the next one's to tell. If the body raises, the next
        is told to look at everything.
        """
        dirty = self.take()
        try:
            yield dirty
        except BaseException:
            with self._mutex:
                self._stop("the last look at it failed")
                self._lost |= frozenset() if dirty is None else dirty.rehash
            raise

    def take(self) -> Dirty | None:
        """Return what changed since the last time; what isn't looked at now is lost."""
        with self._mutex:
            dirty = self._known()
            if dirty is not None:
                self.reason = ""
                self.since = self._stillness()
                return dirty
            lost, self._lost = self._lost, frozenset()
            # Before the caller looks: what changes then raises events.
            self._begin()
            self.since = self._stillness()
            return Dirty(rescan=_EVERYTHING, rehash=lost) if 0 < len(lost) <= LOST_MAX else None

    def still(self) -> Stillness | None:
        """Return what stays the same while nothing changes; None if that can't be told at once.

        This takes no events in, of which there may be many, and waits for nobody. A file that is
        mapped, or written by way of io_submit(2), may change and raise an event only when the
        last who has it open closes it.
        """
        if not self._mutex.acquire(blocking=False):
            return None
        try:
            if self._watching is None:
                return None
            return None if self._watching.check(self._root) else self._stillness()
        except (DoubtError, OSError) as error:
            self._stop(str(error))
            return None
        finally:
            self._mutex.release()

    def _stillness(self) -> Stillness | None:
        events_count = None if self._watching is None else self._watching.tree.still()
        return None if events_count is None else (self._times_count, events_count)

    def close(self) -> None:
        """Watch no more."""
        with self._mutex:
            self._closed = True
            self._stop("it isn't watched any more")

    def _known(self) -> Dirty | None:
        if self._watching is None:
            return None
        try:
            self._watching.check(self._root)
            self._watching.take_in()
            return self._watching.tree.taken()
        except (DoubtError, OSError) as error:
            self._stop(str(error))
            return None

    def _begin(self) -> None:
        if self._closed or time.monotonic() < self._retry_at_s:
            return
        watching = None
        try:
            watching = _Watching(self._root)
            watching.begin(self._watches_max or max(1, int(_LIMIT.read_bytes()) // 2))
        except (DoubtError, OSError) as error:
            self.reason = str(error)
            self._retry_at_s = time.monotonic() + RETRY_S
            if watching is not None:
                watching.close()
            return
        self._watching = watching
        self._times_count += 1
        watching.start(self._mutex, self._stop_at)

    def _stop_at(self, watching: _Watching, reason: str) -> None:
        if watching is self._watching:
            self._stop(reason)

    def _stop(self, reason: str) -> None:
        self.reason = reason
        if self._watching is not None:
            self._lost |= self._watching.tree.rehash()
            self._watching.close()
            self._watching = None


class _Watching:
    """One time of watching, from its beginning to the first doubt."""

    def __init__(self, root: str) -> None:
        with ExitStack() as opened:
            self._wake_fd = _event()
            opened.callback(os.close, self._wake_fd)
            self._root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, self._root_fd)
            status = os.fstat(self._root_fd)
            self._identity = (status.st_dev, status.st_ino)
            self._mounts_fd = mounts.opened()
            opened.callback(os.close, self._mounts_fd)
            self._inotify = Inotify()
            opened.callback(self._inotify.close)
            # In one: they are asked several times for each call.
            self._poll = select.poll()
            self._poll.register(self._mounts_fd, select.POLLPRI)
            self._poll.register(self._inotify, select.POLLIN)
            self._poll.poll(0)
            self._closing = opened.pop_all()
        self._mounted: frozenset[bytes] = frozenset()
        self._ended = False
        self._thread: threading.Thread | None = None
        self.tree: Tree

    def begin(self, watches_max: int) -> None:
        """Watch everything, on the calling thread.

        Raises:
            DoubtError, OSError: It can't be relied on here.
        """
        reason, self._mounted = mounts.beneath(self._root_fd)
        if reason:
            raise DoubtError(reason)
        self.tree = Tree(self._inotify, self._root_fd, watches_max)
        self.tree.begin()

    def check(self, root: str) -> bool:
        """See that it's still the directory, on the mount, that was watched.

        Returns whether there are events that weren't taken in.

        Raises:
            DoubtError, OSError: It isn't.
        """
        found = os.stat(root)
        if (found.st_dev, found.st_ino) != self._identity:
            raise DoubtError("another directory took its place")
        happened = dict(self._poll.poll(0))
        if self._mounts_fd in happened:
            reason, mounted = mounts.beneath(self._root_fd)
            if reason or mounted != self._mounted:
                raise DoubtError(reason or "something was mounted in it, or unmounted")
        return self._inotify.fileno() in happened

    def take_in(self) -> None:
        """Take in the events there are.

        Raises:
            DoubtError, OSError: What changed can't be told any more.
        """
        while events := self._inotify.events():
            self.tree.take_in(events)

    def start(self, mutex: Lock, on_doubt: Callable[[_Watching, str], None]) -> None:
        """Take in events as they come, in a thread; after this, all is to be done under *mutex*."""
        self._thread = threading.Thread(
            target=self._attend, args=(mutex, on_doubt), daemon=True, name="watcher"
        )
        self._thread.start()

    def close(self) -> None:
        """Watch no more."""
        self._ended = True
        if self._thread is None:
            self._closing.close()
        else:
            # What it may be waiting on is its own to close.
            self._wake()

    def _wake(self) -> None:
        if sys.platform == "linux":
            os.eventfd_write(self._wake_fd, 1)

    def _attend(self, mutex: Lock, on_doubt: Callable[[_Watching, str], None]) -> None:
        with self._closing:
            pause, poll = select.poll(), select.poll()
            pause.register(self._wake_fd, select.POLLIN)
            poll.register(self._wake_fd, select.POLLIN)
            poll.register(self._inotify, select.POLLIN)
            while True:
                poll.poll()
                with mutex:
                    if self._ended:
                        return
                    try:
                        self.tree.take_in(self._inotify.events())
                    except (DoubtError, OSError) as error:
                        on_doubt(self, str(error))
                        return
                # Where there is one event, more are on their way.
                pause.poll(_PAUSE_MS)


def _event() -> int:
    """Return a descriptor that becomes readable when it is written to.

    Raises:
        DoubtError: This isn't Linux.
    """
    if sys.platform == "linux":
        return os.eventfd(0, os.EFD_CLOEXEC)
    raise DoubtError("on macOS nothing listens to what changes: all of it is looked at")
