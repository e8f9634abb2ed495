"""Who watches descriptors: one epoll instance of the proxy's own, or the event loop.

An epoll instance is a descriptor too: it hangs in the event loop, and when something happens to
anything that it watches, the loop makes one turn for all of it. Asyncio's own way costs a callback,
a context and a handle for every piece that comes.

Architecture invariant: nothing is read or written here.
"""

import asyncio
import select
import sys
from typing import Protocol

READ, WRITE = 1, 4
# So often more is looked for before others have their turn in the loop.
_LOOKS_MAX = 4
_EVENTS_MAX = 64
# With fewer than that it isn't likely that there's more already.
_BUSY = 3


class Watched(Protocol):
    """What hears of its descriptor."""

    def ready(self, events: int, /) -> None:
        """Take what can be done with it now; it may turn out that nothing can."""

    def stop(self) -> None:
        """Take that nobody watches any more, and leave."""


class Watch(Protocol):
    """Watches descriptors."""

    def set(self, descriptor: int, watched: Watched, events: int, /) -> None:
        """Watch for *events* from now on, which may be none."""

    def close(self) -> None:
        """Watch nothing any more."""


class LoopWatch:
    """Watches by the event loop itself, where there's no epoll."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: dict[int, Watched] = {}

    def set(self, descriptor: int, watched: Watched, events: int, /) -> None:
        """Watch for *events* from now on, which may be none."""
        if events & READ:
            self._loop.add_reader(descriptor, watched.ready, READ)
        else:
            self._loop.remove_reader(descriptor)
        if events & WRITE:
            self._loop.add_writer(descriptor, watched.ready, WRITE)
        else:
            self._loop.remove_writer(descriptor)
        if events:
            self._watched[descriptor] = watched
        else:
            self._watched.pop(descriptor, None)

    def close(self) -> None:
        """Watch nothing any more."""
        for watched in list(self._watched.values()):
            watched.stop()


if sys.platform == "linux":

    class EpollWatch:
        """Watches by one epoll instance, which hangs in the event loop."""

        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            self._loop = loop
            self._poll = select.epoll()
            self._watched: dict[int, Watched] = {}
            loop.add_reader(self._poll.fileno(), self._turn)

        def set(self, descriptor: int, watched: Watched, events: int, /) -> None:
            """Watch for *events* from now on, which may be none."""
            if not events:
                # Out of the set: of a reset it would tell all the same, and again and again.
                del self._watched[descriptor]
                self._poll.unregister(descriptor)
            elif descriptor in self._watched:
                self._poll.modify(descriptor, events)
            else:
                self._watched[descriptor] = watched
                self._poll.register(descriptor, events)

        def _turn(self) -> None:
            """Tell of everything that has happened."""
            watched, poll = self._watched, self._poll.poll
            for _ in range(_LOOKS_MAX):
                if self._poll.closed:
                    return
                happened = poll(0, _EVENTS_MAX)
                # The last first: what came before may be the end of who was served, which nobody
                # waits for, and who comes next does.
                for descriptor, events in reversed(happened):
                    # One that was closed meanwhile may be another's number by now: that one
                    # finds nothing to do.
                    found = watched.get(descriptor)
                    if found is not None:
                        found.ready(events)
                if len(happened) < _BUSY:
                    return

        def close(self) -> None:
            """Watch nothing any more."""
            for watched in list(self._watched.values()):
                watched.stop()
            self._loop.remove_reader(self._poll.fileno())
            self._poll.close()


def watch(loop: asyncio.AbstractEventLoop) -> Watch:
    """Return what this system watches by."""
    if sys.platform == "linux":
        found: Watch = EpollWatch(loop)
    else:
        found = LoopWatch(loop)
    return found
