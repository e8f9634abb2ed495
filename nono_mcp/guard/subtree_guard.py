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
"""

from __future__ import annotations

import posix as os
import time

from nono_mcp.guard import looking, open_directory, times
from nono_mcp.guard.action import LEFT, MOVED, UNKNOWN, Action, by_others
from nono_mcp.guard.announcement import Announcement
from nono_mcp.guard.baseline import Baseline
from nono_mcp.guard.judging_subtree import SubtreeJudging
from nono_mcp.guard.open_directory import identity
from nono_mcp.guard.quarantine import Quarantine
from nono_mcp.guard.register import ALONE, OTHER, OTHERS, Register

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nono_mcp.guard.finding import Found
    from nono_mcp.guard.looking import Changed
    from nono_mcp.guard.write_through import WriteThrough

    Actions = tuple[Action, ...]

KIND = "below"
WAIT_S = 120.0
"""For another server's look at everything."""
_FORMAT = "below 1"


class SubtreeGuard:
    """What is guarded beneath the top directory of one workspace; not thread-safe."""

    def __init__(self, state_dir: str, write_through: WriteThrough | None = None) -> None:
        self._state_dir = state_dir
        self._write_through = write_through
        self._quarantine = Quarantine(state_dir)
        self._root = ""
        self._register: Register | None = None
        self._closed: frozenset[str] = frozenset()
        self._given_up: frozenset[str] = frozenset()
        self._identity: tuple[int, int] | None = None
        self._known = Baseline("")
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
                own = Announcement(self._state_dir, self._write_through)
                self._register = Register(self._state_dir, KIND, root, own, WAIT_S)
        self._closed, self._given_up = frozenset(closed), frozenset(given_up)
        self._known.closed, self._known.given_up = self._closed, self._given_up

    def close(self) -> None:
        """Take part no longer in what is known of the directory."""
        if self._register is not None:
            self._register.close()
            self._register.announcement.close()
            self._register = None

    def is_left(self) -> bool:
        """Tell whether calls were running whose server was killed.

        Raises:
            OSError: It can't be told.
        """
        return self._register is not None and self._register.has_left()

    def begin(self, changed: Changed | None) -> Actions:
        """Do as `learn` does, for calls that begin."""
        return self.learn(changed, beginning=True)

    def run(self) -> None:
        """Say that calls run that may write.

        Raises:
            OSError: It isn't said. Run nothing.
        """
        if self._register is not None and not self._register.announcement.own.runs:
            with self._register as register:
                register.begin(None)

    def rest(self) -> None:
        """Say that no call runs, and all that they did was put right."""
        if self._register is not None:
            self._register.announcement.own.rest()

    def end(self) -> Actions:
        """Put right what calls did, wherever it is, and say that none runs."""
        actions = self.put_right(None)
        self.rest()
        return actions

    def learn(self, changed: Changed | None, *, beginning: bool = False) -> Actions:
        """Take in what is there, while no call of ours runs that may write; None is everything.

        While others' do, what differs is theirs: it is put right, and what was done is returned.

        Raises:
            OSError: It can't be looked at, or others aren't told. Run nothing.
        """
        self._told_moved = False
        root = open_directory.opened(self._root)
        if root is None or self._register is None:
            self._identity = None
            return ()
        try:
            with self._register as register:
                arrived = register.announcement.arrived()
                actions = self._learn_in_turn(register, root, changed)
                self._publish(register)
                if beginning:
                    register.begin(arrived)
        finally:
            os.close(root)
        return actions

    def _learn_in_turn(self, register: Register, root: int, changed: Changed | None) -> Actions:
        register.about(root)
        company = register.company()
        if company == ALONE:
            self._learn_alone(root, changed)
            return ()
        actions = self._join(register, root, changed)
        if company != OTHERS:
            register.settle()
            self._known.trust()
        return actions

    def _learn_alone(self, root: int, changed: Changed | None) -> None:
        if self._identity != identity(root):
            self._take(Baseline(self._root, times.telling_device(root)), root)
            changed = None
        self._known.trust()
        for found in looking.to_look_at(self._known, root, changed, learning=True):
            looking.learn(self._known, found, root)
        self._began_ns = time.time_ns()

    def _join(self, register: Register, root: int, changed: Changed | None) -> Actions:
        """Go by what others know, and put right what differs."""
        if self._identity != identity(root) or not register.is_current():
            known = self._read(register, root)
            other = register.is_uncertain and known and not known.is_any_there(root)
            if known is None or register.is_old or other:
                self._identity = None
                self._learn_alone(root, None)
                why = UNKNOWN if known is None else OTHER
                return (Action(self._root, LEFT, "what is guarded beneath it", why=why),)
            self._take(known, root)
            changed = None
        self._known.is_shared = True
        found = self._put_right(root, changed, absent=register.is_left and changed is None)
        return tuple(map(by_others, found))

    def _take(self, known: Baseline, root: int) -> None:
        self._identity = identity(root)
        self._known = known
        known.closed, known.given_up = self._closed, self._given_up
        self._published = -1

    def _read(self, register: Register, root: int) -> Baseline | None:
        value = register.read()
        if not isinstance(value, tuple) or value[:1] != (_FORMAT,):
            return None
        self._began_ns = value[1]
        return Baseline.of_written(value[2], self._root, times.telling_device(root))

    def _publish(self, register: Register) -> None:
        if self._published == self._known.version and register.is_current():
            return
        if register.is_current() or not self._is_told(register):
            register.publish((_FORMAT, self._began_ns, self._known.written()))
            self._published = self._known.version

    def _is_told(self, register: Register) -> bool:
        """Tell whether somebody else has published what is known here."""
        value = register.read()
        told = isinstance(value, tuple) and value[::2] == (_FORMAT, self._known.written())
        self._published = self._known.version if told else -1
        return told

    def is_still(self, *, learning: bool) -> bool:
        """Tell whether all is as it's known, by statuses, where nobody was told of a change.

        A file may have been changed by a map, or another name. If nothing differs and it's for
        *learning*, that is done as `begin` does it. This waits for nobody.
        """
        status = open_directory.standing(self._root)
        if status is None or self._register is None:
            return self._identity is None
        top = self._register.place
        if not top.is_at(status) or top.identity != self._identity:
            return False
        return self._learn_nothing(self._register) if learning else self._is_same(top.fd)

    def _learn_nothing(self, register: Register) -> bool:
        if register.announcement.own.runs or self._published != self._known.version:
            return False
        if register.announcement.is_quiet and not self._takes_nothing(register.place.fd):
            return False
        if register.announcement.run_quietly():
            return True
        if not register.take_turn():
            return False
        try:
            arrived = register.announcement.arrived()
            told = register.is_current() or self._is_told(register)
            alone = told and register.company() == ALONE
            if not alone or not self._takes_nothing(register.place.fd):
                return False
            register.begin(arrived)
            return True
        finally:
            register.leave_turn()

    def _takes_nothing(self, root: int) -> bool:
        """Tell whether `learn` would find nothing otherwise than it is known, while we're alone."""
        self._known.trust()
        self._began_ns = time.time_ns()
        return self._is_same(root)

    def put_right(self, changed: Changed | None) -> Actions:
        """Put right what changed since `learn`, and return what was done; None is everything."""
        root = open_directory.opened(self._root)
        if self._root and self._identity not in (None, identity(root)):
            if root is not None:
                os.close(root)
            return self._moved()
        if root is None or self._register is None:
            return ()
        try:
            if changed == looking.NOTHING and self._is_same(root):
                return ()
            with self._register:
                return self._put_right(root, changed)
        finally:
            os.close(root)

    def _put_right(self, root: int, changed: Changed | None, *, absent: bool = False) -> Actions:
        since_ns = self._began_ns if changed is None else 0
        self._quarantine.begin_look()
        judging = SubtreeJudging(self._known, self._quarantine, root, since_ns)
        found = looking.to_look_at(self._known, root, changed, learning=False)
        candidates = [*self._again, *found]
        self._again = []
        failed = [one for each in candidates for one in self._judge(each, root, judging)]
        if absent:
            judging.bring_back()
        return (*judging.done(), *failed)

    def _is_same(self, root: int) -> bool:
        return not (self._again or self._known.is_doubted() or self._known.differing(root))

    def _moved(self) -> Actions:
        """Tell, once, that the workspace is another directory, or none."""
        if self._told_moved:
            return ()
        self._told_moved = True
        return (Action(self._root, LEFT, "what is guarded beneath it", why=MOVED),)

    def _judge(self, found: Found, root: int, judging: SubtreeJudging) -> list[Action]:
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
