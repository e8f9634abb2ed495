"""The control groups of a fork server: one for each lane, which its calls run in after each other.

The kernel holds what is set here exactly: memory, a memfd's, shared memory's and a tmpfs's pages
included, and tasks. What files take in the page cache is given up before anything is ended for it.
A lane is in the group of its calls: to move each program there would cost more than a call. So
what is set is what the call may have, and `LANE_BYTES`.

Architecture invariant: a limit is set before its call is sent. Nothing in a group can reach these
files: its root hasn't got them or, in the second tier, no rule allows that they be written.
"""

from __future__ import annotations

import contextlib
import os

from nono_sandbox import kernel_file
from nono_sandbox.cgroups import hierarchy
from nono_sandbox.cgroups.membership import RESERVED_TASKS
from nono_sandbox.errors import LaneLostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_sandbox.confinement import Limits

UNLIMITED = "max"
LANE_BYTES = 8 << 20
"""What a lane takes, and some more: what calls may leave there, as files in memory, until another
lane takes its place."""
_DRIFT_BYTES = 256 << 10
"""How much there may be more, or less, before it's looked at what that is."""
_READ_BYTES_MAX = 1 << 16


class Groups:
    """The groups of one fork server, in a directory that `hierarchy.make` made."""

    def __init__(self, top: str, server: int) -> None:
        self._top = top
        self._server = server
        self._made_count = 0
        self._open: list[Group] = []
        self._proc_fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def group(self) -> Group:
        """Make one for a lane.

        Raises:
            LaneLostError: The kernel refused: without it nothing would be held.
        """
        self._tidy()
        self._made_count += 1
        path = f"{self._top}/{self._server}-{self._made_count}"
        try:
            os.mkdir(path)
            group = Group(path, self._proc_fd)
        except OSError as error:
            text = f"no control group can be made in {self._top}: {error.strerror}"
            raise LaneLostError(text) from error
        self._open.append(group)
        return group

    def _tidy(self) -> None:
        self._open = [one for one in self._open if not (one.is_closed and one.removed())]

    def close(self) -> None:
        """Kill what is in the groups, once the fork server has ended, and remove them."""
        for group in self._open:
            group.close()
            hierarchy.remove(group.path)
        self._open.clear()
        os.close(self._proc_fd)
        # Another fork server may have groups in it, and its keeper who stays.
        if not hierarchy.is_kept(self._top):
            hierarchy.discard(self._top)


class Group:
    """The group of one lane and of its calls, which run in it one after the other."""

    def __init__(self, path: str, proc_fd: int) -> None:
        self.path = path
        self.is_closed = False
        self._fds: list[int] = []
        try:
            self._procs = self._opened("cgroup.procs", os.O_WRONLY)
            self._events = self._opened("memory.events", os.O_RDONLY)
            self._current = self._opened("memory.current", os.O_RDONLY)
            self._maxima = {
                name: self._opened(name, os.O_WRONLY)
                for name in ("memory.max", "memory.swap.max", "pids.max")
            }
        except OSError:
            self.close()
            hierarchy.discard(path)
            raise
        self._told = dict.fromkeys(self._maxima, UNLIMITED)
        self._rest_bytes = self._seen_bytes = 0
        self.joining = self._procs, self._events, proc_fd
        """What `membership.join` takes."""

    def _opened(self, name: str, flags: int) -> int:
        fd = os.open(f"{self.path}/{name}", flags | os.O_CLOEXEC)
        self._fds.append(fd)
        return fd

    def limit(self, limits: Limits) -> None:
        """Hold the next call to *limits*.

        Raises:
            LaneLostError: The kernel refused.
        """
        memory, processes = limits.memory_bytes_max, limits.processes_max
        try:
            most = UNLIMITED if memory is None else str(memory + LANE_BYTES)
            self._tell("memory.max", most)
            self._tell("memory.swap.max", UNLIMITED if memory is None else "0")
            tasks = UNLIMITED if processes is None else str(processes + RESERVED_TASKS)
            self._tell("pids.max", tasks)
        except OSError as error:
            raise LaneLostError(f"{self.path}: {error.strerror}") from error

    def _tell(self, name: str, text: str) -> None:
        if self._told[name] != text:
            os.pwrite(self._maxima[name], text.encode(), 0)
            self._told[name] = text

    def is_spent(self) -> bool:
        """Tell whether calls left more in memory than the next one is to have less.

        Files in memory count where they were written, as long as they are there. What they take
        isn't given to the next call on top, which could remove them and have it for something else.
        """
        current = int(os.pread(self._current, 64, 0))
        if current > LANE_BYTES and abs(current - self._seen_bytes) >= _DRIFT_BYTES:
            self._seen_bytes = current
            self._rest_bytes = resting_bytes(current, self._read("memory.stat"))
        return current > LANE_BYTES and self._rest_bytes > LANE_BYTES

    def _read(self, name: str) -> bytes:
        fd = os.open(f"{self.path}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, _READ_BYTES_MAX)
        finally:
            os.close(fd)

    def lost_to_memory(self) -> bool:
        """Tell whether the kernel has killed a process in it for its memory."""
        with contextlib.suppress(OSError):
            return b"\noom_kill 0\n" not in os.pread(self._events, 4096, 0)
        return False

    def kill(self) -> None:
        """Kill whatever is in it, its lane too."""
        with contextlib.suppress(OSError):
            kernel_file.write(f"{self.path}/cgroup.kill", "1")

    def close(self) -> None:
        """Be of no more use; the group stays until its last process has gone."""
        self.is_closed = True
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def removed(self) -> bool:
        """Remove it, if nobody is left in it; tell whether it's gone."""
        return hierarchy.discard(self.path)


def resting_bytes(current: int, stat: bytes) -> int:
    """Return how much of *current*, by what memory.stat says, the kernel can't simply give up."""
    fields = dict(line.split() for line in stat.splitlines())
    cached = int(fields[b"file"]) - int(fields[b"shmem"])
    return max(0, current - cached - int(fields[b"slab_reclaimable"]))
