"""Where what a worker planted is kept, for the person to look at: outside every grant.

What one look puts away is in one entry of it. It may be the person's own: what was saved while a
call ran. Where no rename leads here it's copied, as far as `copying` has bounds for that, so that
nothing fills the disk that wasn't on it; what isn't copied stays aside (`aside`).

Architecture invariant: nothing in it is ever executed, or handed to a worker, or removed to make
room for something else: what one call makes flushes out nothing of another's. Only entries older
than `AGE_MIN_S` ever go, and of those the first, when there are over `ENTRIES_MAX`.
"""

from __future__ import annotations

import posix as os
import time

from nono_mcp.guard import tree, ways
from nono_sandbox import private, scratch
from nono_sandbox.opath import is_directory
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.guard.action import Action
    from nono_mcp.guard.copying import Room

ENTRIES_MAX = 64
AGE_MIN_S = 7 * 24 * 3600
_RANDOM_BYTES = 4
_TIME_DIGITS = 20


class Taken(Value):
    """Where something is that was put away, and what there is to say of that."""

    path: str
    why: str = ""


class Origin(Value):
    """Where something stands that is put away."""

    top: str
    """The directory that was granted."""
    directory: tuple[str, ...]
    """Where in that."""
    name: str

    @property
    def path(self) -> str:
        """Return the path of what stands there."""
        return "/".join((self.top.rstrip("/"), *self.directory, self.name))


class Quarantine:
    """The quarantine of our state directory, made when it's first needed."""

    def __init__(self, state_dir: str) -> None:
        self._path = f"{state_dir}/quarantine"
        self._records = f"{state_dir}/aside"
        self.entry = ""
        """Of the look that is going on; none, if it hasn't put anything away."""
        self._taken_count = 0
        self._room: Room | None = None

    def begin_look(self) -> None:
        """Put what is taken from here on into an entry of its own."""
        self.entry = ""
        self._room = None

    def finish(self) -> tuple[Action, ...]:
        """Go on with what was being put away by who was killed, and return what was done.

        Raises:
            OSError: It can't be told whether there's anything.
        """
        if not is_directory(self._records):
            return ()
        from nono_mcp.guard import aside

        return aside.finish(self._records)

    def take(self, origin: Origin, parent: int) -> Taken:
        """Move what stands at *origin*, in the open directory *parent*, here, or aside.

        Raises:
            OSError: It is still there.
        """
        try:
            place = self._make_place()
        except OSError as error:
            from nono_mcp.guard import aside

            return aside.leave(origin, parent, error)
        directory = os.open(place, ways.DIRECTORY)
        try:
            tree.put_away(origin.name, parent, directory)
        except FileNotFoundError:
            raise
        except OSError:
            return self._move(origin, parent, place)
        finally:
            os.close(directory)
        return Taken(f"{place}/{origin.name}")

    def _move(self, origin: Origin, parent: int, place: str) -> Taken:
        """Move it where no rename leads: to another file system, or for want of room."""
        from nono_mcp.guard import aside, copying

        if self._room is None:
            self._room = copying.Room()
        return aside.move(origin, parent, self._records, place, self._room)

    def _make_place(self) -> str:
        if not self.entry:
            self._make_entry()
        self._taken_count += 1
        place = f"{self.entry}/{self._taken_count}"
        private.make_directory(place)
        return place

    def _make_entry(self) -> None:
        private.ensure_directories(self._path)
        present = sorted(os.listdir(self._path))
        # Names sort by time, and by what came after what, should the clock have been set back.
        last = present[-1][:_TIME_DIGITS] if present else ""
        now = max(time.time_ns(), int(last) + 1 if last.isdecimal() else 0)
        entry = f"{self._path}/{now:0{_TIME_DIGITS}d}-{os.urandom(_RANDOM_BYTES).hex()}"
        private.make_directory(entry)
        self.entry, self._taken_count = entry, 0
        self._forget(present)

    def _forget(self, present: list[str]) -> None:
        too_young = time.time() - AGE_MIN_S
        for name in present[: -ENTRIES_MAX + 1 or None]:
            path = f"{self._path}/{name}"
            try:
                if os.stat(path, follow_symlinks=False).st_mtime < too_young:
                    scratch.remove(path)
            except OSError:
                continue  # another session forgot it, or it stays
