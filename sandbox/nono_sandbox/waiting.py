"""Calls that were begun on behalf of workers and would block: tried again while others are served.

Architecture invariant: a call is answered once. What was taken of its caller is given back before.
"""

from __future__ import annotations

import errno
import select
import time

from nono_sandbox import borrowed, notices
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_sandbox._stead import Unprivileged
    from nono_sandbox.connecting import Connecting
    from nono_sandbox.notices import Caller, Notice
    from nono_sandbox.sending import Sending

WAITING_MAX = 64
"""Calls that wait for somebody to take them; more are told to try again."""
FDS_MAX = 512
"""Descriptors that are held for them."""
_AGAIN_S = 0.01
_ERESTARTSYS = 512
"""To the kernel: start the call over, or say EINTR, as the signal's handler wants it."""


class _Waiting(Value):
    """A call that has been begun."""

    notice: Notice
    caller: Caller
    act: Connecting | Sending
    give_up_at: float


class Queue:
    """The calls that wait."""

    def __init__(self, poll: select.poll, unprivileged: Unprivileged) -> None:
        self._poll = poll
        self._unprivileged = unprivileged
        self._all: list[_Waiting] = []
        self._woken_by: set[int] = set()
        self._again_at = 0.0

    def timeout_ms(self) -> float | None:
        """Return how soon `look` wants to be called though nothing has happened."""
        if not self._all:
            return None
        return max(0.0, self._again_at - time.monotonic()) * 1000

    def begin(self, notice: Notice, caller: Caller, act: Connecting | Sending) -> int | None:
        """Try; return the call's result, or None: it waits, and is answered in time."""
        with self._unprivileged:
            result = act.attempt()
        if result is not None:
            return result
        held = sum(one.caller.held_count for one in self._all) + caller.held_count
        if len(self._all) >= WAITING_MAX or held > FDS_MAX:
            return act.given_up(errno.EAGAIN)
        self._all.append(_Waiting(notice, caller, act, time.monotonic() + act.patience_s))
        if act.wake_fd >= 0:
            self._poll.register(act.wake_fd, select.POLLOUT)
            self._woken_by.add(act.wake_fd)
        return None

    def wakes(self, fd: int) -> bool:
        """Tell whether a call waits for *fd*."""
        return fd in self._woken_by

    def look(self, ready: set[int]) -> None:
        """Try again those that wait for what is *ready* and, if it's time, all others."""
        is_time = time.monotonic() >= self._again_at
        for one in list(self._all) if self._all and (is_time or ready) else ():
            if not is_time and one.act.wake_fd not in ready:
                continue
            if not notices.valid(one.notice):
                self._remove(one)
                continue
            result = self._tried(one)
            if result is not None:
                self._remove(one)
                notices.answer(one.notice, result)
        if is_time:
            self._again_at = time.monotonic() + _AGAIN_S

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
        for one in [one for one in self._all if one.notice.listener == listener]:
            self._remove(one)

    def _remove(self, one: _Waiting) -> None:
        self._all.remove(one)
        if one.act.wake_fd >= 0:
            self._poll.unregister(one.act.wake_fd)
            self._woken_by.discard(one.act.wake_fd)
        borrowed.give_back(one.caller)
