"""A lane in a control group: how it gets there, and what it hears of it.

When the group's memory is at its limit the kernel kills the process whose end gives most, and it
takes a higher oom_score_adj for more (proc(5)). A lane has the lowest it can have, and its programs
are started with the highest. It sees that one was killed, ends the rest, and says why.

Architecture invariant: sets no limit, and can't: what it has of its group is one file to read.
"""

from __future__ import annotations

import os

from nono_sandbox import _uapi, resource_usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nono_sandbox.sealing import Plan

RESERVED_TASKS = resource_usage.THREADS_SPARE + 1
"""A lane's own, and the threads that a call may have on top of its processes."""
_HIGHEST = b"1000"
_EVENTS_BYTES_MAX = 4096


class Membership:
    """A lane's view of the group that it and its calls are in."""

    def __init__(self, events_fd: int, score_fd: int) -> None:
        self.fds = events_fd, score_fd
        self._events_fd = events_fd
        self._score_fd = score_fd
        # Who isn't to be killed for memory has calls that are.
        self._own = str(max(0, int(os.pread(score_fd, 16, 0)))).encode()
        os.pwrite(score_fd, self._own, 0)
        self._seen = self._kills()

    def _kills(self) -> bytes:
        _, _, rest = os.pread(self._events_fd, _EVENTS_BYTES_MAX, 0).partition(b"\noom_kill ")
        return rest.partition(b"\n")[0]

    def killed(self) -> bool:
        """Tell whether processes were killed for their memory since this was last asked."""
        kills = self._kills()
        if kills == self._seen:
            return False
        self._seen = kills
        return True

    def expose(self) -> None:
        """Give what is started from here on the highest score: it's killed before its lane is."""
        os.pwrite(self._score_fd, _HIGHEST, 0)

    def spare(self) -> None:
        """Give this process its own score again; what it started keeps the highest."""
        os.pwrite(self._score_fd, self._own, 0)


def join(plan: Plan, group: Sequence[int]) -> tuple[Plan, tuple[int, ...]]:
    """Move this process, which is to be a lane, into a control group.

    *group* is its cgroup.procs to write, its memory.events to read, and a /proc to write to.
    Returns the plan the lane has there, and descriptors to keep.

    Raises:
        OSError: The kernel refused. Exit.
    """
    procs_fd, events_fd, proc_fd = group
    os.write(procs_fd, b"0")
    # Of a process that isn't dumpable they are root's.
    _uapi.prctl(_uapi.PR_SET_DUMPABLE, 1)
    try:
        score = os.open("self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC, dir_fd=proc_fd)
    finally:
        _uapi.prctl(_uapi.PR_SET_DUMPABLE, 0)
    found = Membership(events_fd, score)
    return plan.replace(membership=found, spawns=plan.spawns_in_group), found.fds
