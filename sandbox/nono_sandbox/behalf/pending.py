"""Calls that were begun on behalf of workers and would block: tried again while others are served.

Architecture invariant: a call is answered once. What was taken of its caller is given back before.
"""

from __future__ import annotations

import errno
import select
import time

from nono_sandbox.behalf import caller_socket, notifications
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_sandbox.behalf._syscalls import Unprivileged
    from nono_sandbox.behalf.connecting import Connecting
    from nono_sandbox.behalf.notifications import Caller, Notice
    from nono_sandbox.behalf.sending import Sending

WAITING_MAX = 128
"""Calls that wait for somebody to take them; more are told to try again."""
FDS_MAX = 512
"""Descriptors that are held for them."""
_AGAIN_S = 0.01
_AGAIN_S_EACH = 0.0005
"""So much longer for each that waits: a try of one that would block takes as long."""
_ERESTARTSYS = 512
"""To the kernel: start the call over, or say EINTR, as the signal's handler wants it."""


class _Waiting(Value):
    """A call that has been begun."""

    notice: Notice
    caller: Caller
    act: Connecting | Sending
    give_up_at: float


class _Line:
    """Those of one lane."""

    def __init__(self) -> None:
        self.all: dict[int, _Waiting] = {}
        self.due: dict[int, None] = {}
        """Those that are to be tried again; the first is next."""
        self.again_at = time.monotonic() + _AGAIN_S

    def held_count(self) -> int:
        return sum(one.caller.held_count for one in self.all.values())


class Queue:
    """The calls that wait.

    Lanes take turns, and none has more of them waiting than there is room for those of others.
    """

    def __init__(self, poll: select.poll, unprivileged: Unprivileged) -> None:
        self._poll = poll
        self._unprivileged = unprivileged
        self._lines: dict[int, _Line] = {}
        self._woken_by: dict[int, Notice] = {}

    def timeout_ms(self) -> float | None:
        """Return how soon `look` wants to be called though nothing has happened."""
        if not self._lines:
            return None
        if any(line.due for line in self._lines.values()):
            return 0.0
        again_at = min(line.again_at for line in self._lines.values())
        return max(0.0, again_at - time.monotonic()) * 1000

    def begin(self, notice: Notice, caller: Caller, act: Connecting | Sending) -> int | None:
        """Try; return the call's result, or None: it waits, and is answered in time."""
        with self._unprivileged:
            result = act.attempt()
        if result is not None:
            return result
        line = self._lines.get(notice.listener) or _Line()
        if not self._has_room(line, caller):
            return act.given_up(errno.EAGAIN)
        self._lines[notice.listener] = line
        line.all[notice.id] = _Waiting(notice, caller, act, time.monotonic() + act.patience_s)
        if act.wake_fd >= 0:
            self._poll.register(act.wake_fd, select.POLLOUT)
            self._woken_by[act.wake_fd] = notice
        return None

    def _has_room(self, line: _Line, caller: Caller) -> bool:
        """Tell whether as much is left for others as *line* has with one more."""
        count, held = len(line.all) + 1, line.held_count() + caller.held_count
        others = [one for one in self._lines.values() if one is not line]
        left = WAITING_MAX - count - sum(len(one.all) for one in others)
        held_left = FDS_MAX - held - sum(one.held_count() for one in others)
        return count <= left and held <= held_left

    def wakes(self, fd: int) -> bool:
        """Tell whether a call waits for *fd*."""
        return fd in self._woken_by

    def look(self, ready: set[int]) -> None:
        """Try one again of each lane that has any that wait for what is *ready*, or long enough."""
        for fd in ready:
            notice = self._woken_by.get(fd)
            if notice is not None:  # else its lane has gone since
                self._lines[notice.listener].due[notice.id] = None
        for listener, line in list(self._lines.items()):
            now = time.monotonic()
            if now >= line.again_at:
                line.due.update(dict.fromkeys(line.all))
                line.again_at = now + _AGAIN_S + _AGAIN_S_EACH * len(line.all)
            if line.due:
                self._take_turn(line, next(iter(line.due)))
            if not line.all:
                del self._lines[listener]

    def _take_turn(self, line: _Line, notice_id: int) -> None:
        one = line.all[notice_id]
        del line.due[notice_id]
        if not notifications.valid(one.notice):
            self._remove(line, one)
            return
        result = self._tried(one)
        if result is not None:
            self._remove(line, one)
            notifications.answer(one.notice, result)

    def _tried(self, one: _Waiting) -> int | None:
        with self._unprivileged:
            result = one.act.attempt()
        if result is not None:
            return result
        if time.monotonic() >= one.give_up_at:
            return one.act.given_up(one.act.on_giving_up)
        if one.caller.interrupted():
            for_ever = one.give_up_at == float("inf")
            return one.act.given_up(_ERESTARTSYS if for_ever else errno.EINTR)
        return None

    def forget(self, listener: int) -> None:
        """Drop the calls of workers who have gone."""
        line = self._lines.pop(listener, _Line())
        for one in list(line.all.values()):
            self._remove(line, one)

    def _remove(self, line: _Line, one: _Waiting) -> None:
        del line.all[one.notice.id]
        line.due.pop(one.notice.id, None)
        if one.act.wake_fd >= 0:
            self._poll.unregister(one.act.wake_fd)
            del self._woken_by[one.act.wake_fd]
        caller_socket.give_back(one.caller)
