"""What the lane of a single run leaves behind when it is killed, ended by who asked for the run.

That process is a child subreaper (prctl(2)): whoever loses its parent and the lane becomes its
child. So all that is left of a call is its children, and what is below them, whose turn comes when
those have ended. In the first tier the kernel ends a call with its lane, and this waits for that.

It has other children too: who acts on behalf, commands that tell a credential, what a shell had
started before it became this process. None of them is younger than the lane and has a seccomp
filter more than this process, as has each that the lane started, and can't lose.

Architecture invariant: ends nothing that isn't a child with that mark, or of a group in a session
that such a child is in and this process isn't: only who is of the call can be in one.
"""

from __future__ import annotations

import posix as os
import time

from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal  # as in `forking`

END_S_MAX = 10.0
"""How long to wait for what was killed to be gone before it's said that some isn't."""
_PAUSE_S = 0.002
_CLEAN_LOOKS = 2
"""So often there must be none to see: a list of children that changes meanwhile may lack one."""
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_FILTERS = b"\nSeccomp_filters:"


class _Child(Value):
    """What /proc/PID/stat says of one (proc_pid_stat(5))."""

    pid: int
    parent: int
    group: int
    session: int
    started_ticks: int


def end(lane_pid: int, since_s: float) -> bool:
    """Kill and collect the child that is the lane, and all that is left of its call.

    *since_s* is when the lane was started, by CLOCK_BOOTTIME. Tells whether all of it is gone.
    """
    # The kernel is to collect what ends: who forks and ends as fast as it can would leave more
    # behind than can be looked through meanwhile.
    before = _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)
    try:
        return _Hunt(lane_pid, int(since_s * _TICKS_PER_S)).over()
    finally:
        _signal.signal(_signal.SIGCHLD, before)


class _Hunt:
    def __init__(self, lane_pid: int, since_ticks: int) -> None:
        self._lane_pid = lane_pid
        self._since_ticks = since_ticks
        self._filters_count = _filters_count("self")
        self._own_session = os.getsid(0)

    def over(self) -> bool:
        deadline = time.monotonic() + END_S_MAX
        clean, previous = 0, [0]
        while clean < _CLEAN_LOOKS:
            # The youngest first: of those that follow each other it's the one that goes on.
            pids = _children()[::-1]
            found = [pid for pid in pids if self._is_left(pid)]
            clean = 0 if found else clean + 1
            if found and time.monotonic() > deadline:
                return False
            if found == previous:
                time.sleep(_PAUSE_S)
            previous = found
        return True

    def _is_left(self, pid: int) -> bool:
        """Kill a child if it's of the call; tell whether it is, or has ended since it was seen."""
        try:
            child = self._looked_up(pid)
            if child.parent != os.getpid():
                return True  # another's, by a number that has been given away
            if pid != self._lane_pid and not self._is_marked(child):
                return False
            if child.session != self._own_session and child.group > 1:
                # All at once, so that nobody is forked out of reach meanwhile.
                os.kill(-child.group, _signal.SIGKILL)
            os.kill(pid, _signal.SIGKILL)
            # If it had ended before.
            os.waitpid(pid, os.WNOHANG)
        except (FileNotFoundError, ProcessLookupError, ChildProcessError):
            return True
        return True

    def _looked_up(self, pid: int) -> _Child:
        try:
            return _looked_up(pid)
        except FileNotFoundError:
            if pid != self._lane_pid:
                raise
            # A /proc with hidepid= hides who isn't dumpable, as the lane isn't, ended or not.
            return _Child(pid, os.getpid(), os.getpgid(pid), os.getsid(pid), 0)

    def _is_marked(self, child: _Child) -> bool:
        if child.started_ticks < self._since_ticks:
            return False
        return _filters_count(child.pid) > self._filters_count


def _children() -> list[int]:
    """Return the children of every thread of this process: each adopts for all."""
    found: list[int] = []
    for thread in os.listdir("/proc/self/task"):
        try:
            found += map(int, _read(f"/proc/self/task/{thread}/children").split())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended, and left its children to another
    return found


def _looked_up(pid: int) -> _Child:
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    parent, group, session = map(int, fields[1:4])
    return _Child(pid, parent, group, session, int(fields[19]))


def _filters_count(process: int | str) -> int:
    """Return how many seccomp filters *process* has, be it but waiting to be collected."""
    # What a process calls itself is in the first line, and has no line of its own.
    _, told, rest = _read(f"/proc/{process}/status").partition(_FILTERS)
    return int(rest.split(None, 1)[0]) if told else 0


def _read(path: str) -> bytes:
    data = b""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while more := os.read(fd, 65536):
            data += more
        return data
    finally:
        os.close(fd)
