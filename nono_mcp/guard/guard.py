"""The guard of a session: what is looked at before each call, and put right after it.

    guard.settle(roots, closed)
    guard.begin()
    ...  # the call
    for action in guard.end(): ...

Where somebody watches (`still`), what nothing was made, removed or moved in is not looked through
again; of the files that are guarded there the status is compared, since a file that is mapped
changes unseen by who watches.

Architecture invariant: what a call made is judged when that call has ended, before it is answered.
What changed while none ran, of any session's that guards the same directory, is the person's own
edit, and is what later calls are compared with.
"""

from __future__ import annotations

import posix as os

from nono_mcp.guard import joining, spots, times
from nono_mcp.guard.action import LEFT, MOVED, Action
from nono_mcp.guard.announcement import REGISTERS_MAX, Announcement
from nono_mcp.guard.closed_paths import ClosedPaths
from nono_mcp.guard.quarantine import Quarantine
from nono_mcp.guard.register import ALONE, OTHERS, Register
from nono_mcp.guard.root import Root
from nono_mcp.guard.spots import Spot
from nono_mcp.guard.unchanged import is_as_seen, is_unchanged
from nono_sandbox.errors import ConfinementError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nono_mcp.guard.write_through import WriteThrough

KIND = "top"
HOLDING_MAX = 2
"""Announcements whose directories are held open."""


class Guard:
    """What is guarded in the grants of one session."""

    def __init__(self, state_dir: str, write_through: WriteThrough | None = None) -> None:
        self._state_dir = state_dir
        self._write_through = write_through
        self._quarantine = Quarantine(state_dir)
        self._roots: dict[str, Root] = {}
        self._announcements: list[Announcement] = []
        self._leaving: list[Root] = []
        """What calls that run may write, and later ones may not."""
        self._closed = ClosedPaths()
        self._given_up = ClosedPaths()
        self._closed_next = ClosedPaths()
        self._awaited_next: tuple[tuple[str, str], ...] | None = None
        """What is awaited once none runs any more, where that is less."""
        self._running_count = 0
        self.began = times.Began()
        """When the last call did."""
        self._is_finished = False
        """What somebody who was killed was putting away is there."""
        self.still: Callable[[str], object] = _unknown
        """Says of a directory what stays the same while no name in it changes, or None."""

    def settle(
        self,
        roots: Iterable[tuple[str, tuple[int, int] | None]],
        closed: Iterable[str],
        awaited: Iterable[tuple[str, str]] = (),
        home: str = "",
        given_up: Iterable[str] = (),
    ) -> None:
        """Guard the directories *roots*, each with its identity.

        *closed* are paths that a worker can't have changed, and *given_up* those that each may;
        *awaited* are others that it may not make, and what they are. The *home* has those, and no
        others.
        """
        awaited = tuple(awaited)
        self._closed_next = ClosedPaths(closed)
        self._given_up = ClosedPaths(given_up)
        # To the calls that run already something else was closed.
        self._closed = (
            self._closed_next & self._closed if self._running_count else self._closed_next
        )
        self._awaited_next = awaited if self._running_count else None
        old, self._roots = self._roots, {}
        for path, identity in roots:
            root = old.get(path)
            if root is None or root.identity != identity:
                register = Register(self._state_dir, KIND, path, self._announcement())
                root = Root(path, identity, register, self._quarantine)
            else:
                del old[path]
            # What a call that runs has made by now is awaited no more, and still its doing.
            known = root.awaited if self._running_count else ()
            spots_awaited = tuple(dict.fromkeys((*_beneath(path, awaited), *known)))
            root.settle(spots_awaited, self._given_up, is_home=path == home)
            root.close(self._closed)
            self._roots[path] = root
        self._roots = dict(sorted(self._roots.items()))
        self._leaving += old.values()
        if not self._running_count:
            self._leave()

    def _announcement(self) -> Announcement:
        """Return one that has room for one more directory, of which others have to be told anew."""
        for one in self._announcements:
            if one.registers_count < REGISTERS_MAX:
                one.is_alone(None)
                return one
        self._announcements.append(Announcement(self._state_dir, self._write_through))
        return self._announcements[-1]

    def close(self) -> None:
        """Take part no longer in what is known of the directories."""
        self._leaving += self._roots.values()
        self._roots = {}
        self._leave()
        while self._announcements:
            self._announcements.pop().close()

    def _leave(self) -> None:
        while self._leaving:
            root = self._leaving.pop()
            root.held.close()
            root.register.close()

    def is_left(self) -> bool:
        """Tell whether calls were running whose server was killed.

        Raises:
            OSError: It can't be told.
        """
        return any(root.register.has_left() for root in self._roots.values())

    def begin(self) -> tuple[Action, ...]:
        """Take in what is there now, before a call, and return what was put right of others'.

        While calls run, ours or others', what differs is theirs.

        Raises:
            ConfinementError: It can't be looked at. Run nothing.
        """
        actions = self._finished()
        self._quarantine.begin_look()
        if not self._running_count:
            self._closed = self._closed_next
            self._await_no_more()
        for one in self._announcements:
            roots = [
                root
                for root in self._roots.values()
                if root.register.announcement is one and not (self._running_count and root.is_taken)
            ]
            try:
                self._begin_with(one, roots, actions)
            except OSError as error:
                self._rest()
                where = roots[0].path if len(roots) == 1 else f"{len(roots)} directories"
                raise ConfinementError(
                    f"can't look at what is guarded in {where}: {error}"
                ) from error
        self._running_count += 1
        self.began = times.Began()
        return tuple(actions)

    def _await_no_more(self) -> None:
        """Look no longer at what was awaited for the sake of calls that have ended."""
        if self._awaited_next is None:
            return
        for root in self._roots.values():
            known = _beneath(root.path, self._awaited_next)
            root.settle(known, self._given_up, is_home=root.is_home)
        self._awaited_next = None

    def _finished(self) -> list[Action]:
        if self._is_finished:
            return []
        self._is_finished = True
        try:
            return list(self._quarantine.finish())
        except OSError as error:
            raise ConfinementError(f"can't look at what was being put away: {error}") from error

    def _begin_with(self, one: Announcement, roots: list[Root], actions: list[Action]) -> None:
        for root in roots:
            root.close(self._closed)
        if not roots or self._begin_quietly(one, roots):
            return
        taken: list[Register] = []
        try:
            # In the order of their paths, as everybody does it: nobody waits for who waits for it.
            for root in roots:
                root.register.await_turn()
                taken.append(root.register)
            self._begin_in_turn(one, roots, actions)
        finally:
            while taken:
                taken.pop().leave_turn()

    def _begin_in_turn(self, one: Announcement, roots: list[Root], actions: list[Action]) -> None:
        arrived = one.arrived()
        for root in roots:
            self._begin_in(root, actions)
        for root in roots:
            root.register.join()
        one.run()
        alone = not self._running_count and all(root.register.is_deserted for root in roots)
        one.is_alone(arrived if alone else None)

    def _begin_quietly(self, one: Announcement, roots: list[Root]) -> bool:
        """Begin without a turn, if nobody else is there, and all is as others were told."""
        if self._running_count or not one.is_quiet:
            return False
        for root in roots:
            root.be_alone()
            known = root.is_taken and root.is_told and not root.is_stale
            if not known or not is_unchanged(root, self._watched(root)):
                return False
        return one.run_quietly()

    def _begin_in(self, root: Root, actions: list[Action]) -> None:
        fd = root.open()
        try:
            root.register.about(
                fd, hold=root.register.announcement in self._announcements[:HOLDING_MAX]
            )
        finally:
            if fd is not None:
                os.close(fd)
        company = root.register.company()
        if company != ALONE:
            joining.join(root, actions)
        if company != OTHERS:
            root.register.settle()
            self._begin_alone(root)
        joining.publish(root)

    def _begin_alone(self, root: Root) -> None:
        root.be_alone()
        still = self._watched(root)
        if root.is_taken and is_as_seen(root, still):
            return
        root.still = None
        fd = root.open()
        try:
            root.take_in(fd)
        finally:
            if fd is not None:
                os.close(fd)
        root.still = still

    def _watched(self, root: Root) -> object:
        # What runs may have a file mapped, or have yet to close one.
        return None if self._running_count else self.still(root.path)

    def end(self) -> tuple[Action, ...]:
        """Put right what is otherwise than before, after a call, and return what was done."""
        self._running_count -= 1
        actions = self.put_right()
        self._rest()
        return actions

    def _rest(self) -> None:
        if self._running_count:
            return
        for one in self._announcements:
            one.own.rest()
        self._leave()

    def put_right(self) -> tuple[Action, ...]:
        """Put right what is otherwise than before the calls that run, and return what was done."""
        actions: list[Action] = []
        self._quarantine.begin_look()
        for root in (*self._roots.values(), *self._leaving):
            still = self._watched(root)
            if not root.is_taken or is_unchanged(root, still):
                continue
            root.still = None
            try:
                with root.register:
                    _put_right_in(root, actions)
            except OSError as error:
                actions.append(Action(root.path, LEFT, "what is guarded in it", why=str(error)))
            else:
                root.still = still
        return tuple(actions)


def _put_right_in(root: Root, actions: list[Action]) -> None:
    fd = root.open()
    if fd is not None:
        try:
            root.put_right(fd, actions)
        finally:
            os.close(fd)
    elif root.was_there:
        actions.append(Action(root.path, LEFT, "what is guarded in it", why=MOVED))


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
