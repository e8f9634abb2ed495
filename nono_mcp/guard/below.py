"""The guard beneath a workspace's top directory: told what changed, it looks there alone.

    below.settle("/home/ann/project", closed)
    below.learn(None)  # None is everything
    ...  # a call
    for action in below.put_right(Changed(names, trees)): ...

What `Guard` guards in the top directory is guarded in every directory here: the names of `names`,
and repositories, bare ones and those of submodules and linked worktrees too. Removing one of them
runs nothing, and so isn't undone.

Architecture invariant: the work is bounded by what changed, and by what is known. Who has both
guards begins with this one and ends with it, since what is in the top directory may be copied.
Not thread-safe.
"""

from __future__ import annotations

import posix as os
import time

from nono_mcp.guard import looking, place, times
from nono_mcp.guard.action import LEFT, MOVED, UNKNOWN, Action, by_others
from nono_mcp.guard.attendance import Attendance
from nono_mcp.guard.book import ALONE, OTHER, OTHERS, Book
from nono_mcp.guard.judging import Judging
from nono_mcp.guard.known import Known
from nono_mcp.guard.place import identity
from nono_mcp.guard.quarantine import Quarantine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nono_mcp.guard.finding import Found
    from nono_mcp.guard.lasting import Lasting
    from nono_mcp.guard.looking import Changed

KIND = "below"
WAIT_S = 120.0
"""For another server's look at everything."""
_FORMAT = "below 1"


class Below:
    """What is guarded beneath the top directory of one workspace."""

    def __init__(self, state_dir: str, lasting: Lasting | None = None) -> None:
        self._state_dir = state_dir
        self._lasting = lasting
        self._quarantine = Quarantine(state_dir)
        self._root = ""
        self._book: Book | None = None
        self._closed: frozenset[str] = frozenset()
        self._given_up: frozenset[str] = frozenset()
        self._identity: tuple[int, int] | None = None
        self._known = Known("")
        self._published = -1
        """Which version of what is known others know."""
        self._began_ns = 0
        self._told_moved = False
        self._again: list[Found] = []
        """What couldn't be looked at, since a call that still ran was changing it."""

    def settle(self, root: str, closed: Iterable[str], given_up: Iterable[str] = ()) -> None:
        """Guard the directory *root*; nothing, if *root* is empty.

        *closed* are paths that no call of ours can change, and *given_up* those that each may.
        """
        if root != self._root:
            self.close()
            self._root = root
            if root:
                own = Attendance(self._state_dir, self._lasting)
                self._book = Book(self._state_dir, KIND, root, own, WAIT_S)
        self._closed, self._given_up = frozenset(closed), frozenset(given_up)
        self._known.closed, self._known.given_up = self._closed, self._given_up

    def close(self) -> None:
        """Take part no longer in what is known of the directory."""
        if self._book is not None:
            self._book.close()
            self._book.attendance.close()
            self._book = None

    def is_left(self) -> bool:
        """Tell whether calls were running whose server was killed.

        Raises:
            OSError: It can't be told.
        """
        return self._book is not None and self._book.has_left()

    def begin(self, changed: Changed | None) -> tuple[Action, ...]:
        """Do as `learn` does, for calls that begin."""
        return self.learn(changed, beginning=True)

    def run(self) -> None:
        """Say that calls run that may write.

        Raises:
            OSError: It isn't said. Run nothing.
        """
        if self._book is not None and not self._book.attendance.own.runs:
            with self._book as book:
                book.begin(None)

    def rest(self) -> None:
        """Say that no call runs, and all that they did was put right."""
        if self._book is not None:
            self._book.attendance.own.rest()

    def end(self) -> tuple[Action, ...]:
        """Put right what calls did, wherever it is, and say that none runs."""
        actions = self.put_right(None)
        self.rest()
        return actions

    def learn(self, changed: Changed | None, *, beginning: bool = False) -> tuple[Action, ...]:
        """Take in what is there, while no call of ours runs that may write; None is everything.

        While others' do, what differs is theirs: it is put right, and what was done is returned.

        Raises:
            OSError: It can't be looked at, or others aren't told. Run nothing.
        """
        self._told_moved = False
        root = place.opened(self._root)
        if root is None or self._book is None:
            self._identity = None
            return ()
        try:
            with self._book as book:
                arrived = book.attendance.arrived()
                actions = self._learn_in_turn(book, root, changed)
                self._publish(book)
                if beginning:
                    book.begin(arrived)
        finally:
            os.close(root)
        return actions

    def _learn_in_turn(self, book: Book, root: int, changed: Changed | None) -> tuple[Action, ...]:
        book.about(root)
        company = book.company()
        if company == ALONE:
            self._learn_alone(root, changed)
            return ()
        actions = self._join(book, root, changed)
        if company != OTHERS:
            book.settle()
            self._known.trust()
        return actions

    def _learn_alone(self, root: int, changed: Changed | None) -> None:
        if self._identity != identity(root):
            self._take(Known(self._root, times.telling_device(root)), root)
            changed = None
        self._known.trust()
        for found in looking.to_look_at(self._known, root, changed, learning=True):
            looking.learn(self._known, found, root)
        self._began_ns = time.time_ns()

    def _join(self, book: Book, root: int, changed: Changed | None) -> tuple[Action, ...]:
        """Go by what others know, and put right what differs."""
        if self._identity != identity(root) or not book.is_current():
            known = self._read(book, root)
            other = book.is_old or (book.is_uncertain and known and not known.is_any_there(root))
            if known is None or other:
                self._identity = None
                self._learn_alone(root, None)
                why = UNKNOWN if known is None else OTHER
                return (Action(self._root, LEFT, "what is guarded beneath it", why=why),)
            self._take(known, root)
            changed = None
        self._known.is_shared = True
        found = self._put_right(root, changed, absent=book.is_left and changed is None)
        return tuple(map(by_others, found))

    def _take(self, known: Known, root: int) -> None:
        self._identity = identity(root)
        self._known = known
        known.closed, known.given_up = self._closed, self._given_up
        self._published = -1

    def _read(self, book: Book, root: int) -> Known | None:
        value = book.read()
        if not isinstance(value, tuple) or value[:1] != (_FORMAT,):
            return None
        self._began_ns = value[1]
        return Known.of_written(value[2], self._root, times.telling_device(root))

    def _publish(self, book: Book) -> None:
        if self._published == self._known.version and book.is_current():
            return
        if book.is_current() or not self._is_told(book):
            book.publish((_FORMAT, self._began_ns, self._known.written()))
            self._published = self._known.version

    def _is_told(self, book: Book) -> bool:
        """Tell whether somebody else has published what is known here."""
        value = book.read()
        told = isinstance(value, tuple) and value[::2] == (_FORMAT, self._known.written())
        self._published = self._known.version if told else -1
        return told

    def is_still(self, *, learning: bool) -> bool:
        """Tell whether what is known is as it is known, where nothing else changed.

        It is by what was done with a file that others have mapped, and by other names of one. If
        nothing differs and it's for *learning*, that is done as `begin` does it. This waits for
        nobody.
        """
        status = place.standing(self._root)
        if status is None or self._book is None:
            return self._identity is None
        if not self._book.place.is_at(status) or self._book.place.identity != self._identity:
            return False
        return self._learn_nothing(self._book) if learning else self._is_same(self._book.place.fd)

    def _learn_nothing(self, book: Book) -> bool:
        if book.attendance.own.runs or self._published != self._known.version:
            return False
        if book.attendance.is_quiet and not self._takes_nothing(book.place.fd):
            return False
        if book.attendance.run_quietly():
            return True
        if not book.take_turn():
            return False
        try:
            arrived = book.attendance.arrived()
            told = book.is_current() or self._is_told(book)
            if not told or book.company() != ALONE or not self._takes_nothing(book.place.fd):
                return False
            book.begin(arrived)
            return True
        finally:
            book.leave_turn()

    def _takes_nothing(self, root: int) -> bool:
        """Tell whether `learn` would find nothing otherwise than it is known, while we're alone."""
        self._known.trust()
        self._began_ns = time.time_ns()
        return self._is_same(root)

    def put_right(self, changed: Changed | None) -> tuple[Action, ...]:
        """Put right what changed since `learn`, and return what was done; None is everything."""
        root = place.opened(self._root)
        if self._root and self._identity not in (None, identity(root)):
            if root is not None:
                os.close(root)
            return self._moved()
        if root is None or self._book is None:
            return ()
        try:
            if changed == looking.NOTHING and self._is_same(root):
                return ()
            with self._book:
                return self._put_right(root, changed)
        finally:
            os.close(root)

    def _put_right(
        self, root: int, changed: Changed | None, *, absent: bool = False
    ) -> tuple[Action, ...]:
        since_ns = self._began_ns if changed is None else 0
        self._quarantine.begin_look()
        judging = Judging(self._known, self._quarantine, root, since_ns)
        found = looking.to_look_at(self._known, root, changed, learning=False)
        candidates = [*self._again, *found]
        self._again = []
        failed = [one for each in candidates for one in self._judge(each, root, judging)]
        if absent:
            judging.bring_back()
        return (*judging.done(), *failed)

    def _is_same(self, root: int) -> bool:
        return not (self._again or self._known.is_doubted() or self._known.differing(root))

    def _moved(self) -> tuple[Action, ...]:
        """Tell, once, that the workspace is another directory, or none."""
        if self._told_moved:
            return ()
        self._told_moved = True
        return (Action(self._root, LEFT, "what is guarded beneath it", why=MOVED),)

    def _judge(self, found: Found, root: int, judging: Judging) -> list[Action]:
        """Have what was *found* judged; return why it couldn't be."""
        if found.kind in looking.NOT_ENTERED:
            judging.left(found)
            return []
        try:
            looking.visit(self._known, found, root, judging.see, judging.see_bare)
        except FileNotFoundError:
            self._again.append(found)
        except OSError as error:
            self._again.append(found)
            path = "/".join((self._root.rstrip("/"), *found.directory))
            return [Action(path, LEFT, "what is guarded in it", why=str(error))]
        return []
