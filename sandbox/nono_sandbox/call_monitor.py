"""One call as its lane sees it, from the waiting worker to the last reaped process.

Architecture invariant: ends processes of its own call and no others; what it names as the limit
that ended a call has been exceeded.
"""

from __future__ import annotations

import marshal
import posix as os
import time

from nono_sandbox import _uapi, disk_growth, disk_reserve, resource_usage, wire
from nono_sandbox.call_end import limit_of
from nono_sandbox.confinement import GRANT_MOVED, NAMESPACES, Places
from nono_sandbox.readable import is_readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Iterator

    from nono_sandbox.confinement import Limits
    from nono_sandbox.spawning import WorkerProcess
    from nono_sandbox.ways import Ways

OWN_PLACES = ("/tmp", "/dev/shm")  # noqa: S108 - the session's own, in the first tier
NOWHERE = Places()
SWEEP_S_MAX = 5.0
"""How long a lane waits for killed processes to be gone before it says that some aren't."""
BEGIN_S_MAX = 10.0
"""How long after its worker's end a call's beginning may be heard of, on however busy a machine."""
_LOOKS_MIN = 20
"""And how often it looks again before that, after it has killed them."""
_SWEEP_PAUSE_S = 0.05
_LOOK_S = 0.025
_LOOK_S_LATER = 0.1
_SIGXCPU, _SIGXFSZ = 24, 25


class CallMonitor:
    """The state of one call; its limits, once it has begun."""

    def __init__(
        self,
        process: WorkerProcess,
        signals: int,
        tier: str,
        places: Places = NOWHERE,
        stops: _socket.socket | None = None,
    ) -> None:
        self._process = process
        self.ways: Ways | None = None
        """Those that its grants in the private home are found by, if there are any."""
        self._places = places
        self._growth: disk_growth.Growth | None = None
        self._reserve: disk_reserve.Reserve | None = None
        # Who is told that the program was stopped: with a terminal, that's a person's doing.
        self._stops = stops
        self._signals = signals
        self._own_pids = tier == NAMESPACES
        self._own_places = OWN_PLACES if self._own_pids else ()
        self._limits: Limits | None = None
        self._began_at = 0.0
        self._look_at = float("inf")
        self._cpu_s = (0.0, 0.0)
        self._memory_kib_max = 0
        self._is_alone = False
        """All children have ended."""
        self.status: int | None = None
        self.limit = ""

    @property
    def begun(self) -> bool:
        """Tell whether the worker has been given its program."""
        return self._limits is not None

    @property
    def over(self) -> bool:
        """Tell whether there is nothing more to wait for."""
        if self.limit:
            return True
        return self.status is not None and (self.begun or time.monotonic() >= self._look_at)

    def begin(self, limits: Limits) -> None:
        """Start the clocks of the call."""
        self._limits = limits
        self._began_at = time.monotonic()
        if limits.disk_bytes_max is not None:
            self._growth = disk_growth.Growth(self._places.paths, self._own_places)
        self._look_at = self._next_look(self._began_at)
        self._name_limit()

    def _next_look(self, now: float) -> float:
        limits = self._limits
        if limits is None:
            return float("inf")
        end = float("inf") if limits.wall_s is None else self._began_at + limits.wall_s
        if not resource_usage.needed(limits):
            return end
        return min(end, now + (_LOOK_S if now - self._began_at < 1 else _LOOK_S_LATER))

    def timeout_ms(self) -> float | None:
        """Return how long only an event needs attention; None is for ever."""
        if self._look_at == float("inf"):
            return None
        return max(0.0, self._look_at - time.monotonic()) * 1000

    def look(self) -> None:
        """Name the limit that the call is over by now, if it is time to look and it is."""
        now, limits = time.monotonic(), self._limits
        # Once the program has ended, what ended it is known.
        if limits is None or self.status is not None or self.limit or now < self._look_at:
            return
        if limits.wall_s is not None and now - self._began_at >= limits.wall_s:
            self.limit = "wall"
        elif resource_usage.needed(limits):
            self.limit = self._over(limits)
        self._look_at = self._next_look(now)

    def _over(self, limits: Limits) -> str:
        if self.ways is not None and self.ways.lost():
            return GRANT_MOVED
        most = limits.processes_max
        if most is not None and resource_usage.crowded(most, own_pids=self._own_pids):
            return "processes"
        most = limits.disk_bytes_max
        if most is not None and self._growth and self._growth.over(most, self._processes):
            return "disk"
        if limits.disk_free_bytes_min is not None and self._fills(limits.disk_free_bytes_min):
            return "disk-free"
        if self._killed_for_memory(limits):
            return "memory"
        return self._over_by_sum(limits)

    def _over_by_sum(self, limits: Limits) -> str:
        if self._process.membership is not None:
            limits = limits.replace(memory_bytes_max=None)
        if limits.memory_bytes_max is None and limits.cpu_s is None:
            return ""
        usage = resource_usage.usage(own_pids=self._own_pids)
        over = resource_usage.exceeded(limits, usage, sum(self._cpu_s))
        if over == "memory":
            usage = resource_usage.usage(own_pids=self._own_pids, proportional=True)
            over = resource_usage.exceeded(limits, usage, sum(self._cpu_s))
        return over

    def _killed_for_memory(self, limits: Limits) -> bool:
        membership = self._process.membership
        if membership is None or limits.memory_bytes_max is None:
            return False
        return membership.killed()

    def _fills(self, free_bytes_min: int) -> bool:
        if self._reserve is None:
            # Not before the first look: a call that is over by then pays nothing for it.
            ago_ns = int((time.monotonic() - self._began_at) * 1e9)
            began_ns = time.time_ns() - ago_ns
            own = self._own_places
            self._reserve = disk_reserve.Reserve(self._places, own, free_bytes_min, began_ns)
        return self._reserve.crossed(self._processes)

    def _processes(self) -> Iterator[str]:
        return resource_usage.processes(own_pids=self._own_pids)

    def reap(self) -> bool:
        """Collect every process that has ended; tell whether there are others."""
        options = os.WNOHANG if self._stops is None else os.WNOHANG | os.WUNTRACED
        while not self._is_alone:
            found = _uapi.wait4(options)
            if found is None:
                # From here on nobody is there who could fork.
                self._is_alone = True
                return False
            pid, status, cpu_s, memory_kib = found
            if pid == 0:
                return True
            if os.WIFSTOPPED(status):
                if pid == self._process.pid:
                    self._say_stopped(os.WSTOPSIG(status))
                continue
            user, system = self._cpu_s
            self._cpu_s = (user + cpu_s[0], system + cpu_s[1])
            self._memory_kib_max = max(self._memory_kib_max, memory_kib)
            if pid == self._process.pid:
                self.status = status
                self._name_limit()
                if not self.begun:
                    self._look_at = time.monotonic() + BEGIN_S_MAX
        return False

    def _name_limit(self) -> None:
        """Name the limit whose signal ended the program, once both are known, in either order."""
        if self.status is not None and self._limits is not None:
            named = limit_of(self.status, self._limits, _SIGXCPU, _SIGXFSZ)
            self.limit = self.limit or named

    def _say_stopped(self, number: int) -> None:
        if self._stops is None:
            return
        try:
            wire.send(self._stops, "stopped", number)
        except wire.ClosedError:
            return  # the control channel's end says it too, and there it is heeded

    def sweep(self) -> bool:
        """Kill what is left of the call; tell whether all of it is gone."""
        deadline = time.monotonic() + SWEEP_S_MAX
        looks_left = _LOOKS_MIN
        while self.reap():
            _kill_all()
            # Both: this process may have been held up itself, with the clock going on.
            if looks_left <= 0 and time.monotonic() >= deadline:
                return False
            looks_left -= 1
            is_readable(self._signals, _SWEEP_PAUSE_S)
            drain(self._signals)
        if self._own_pids and _uapi.may_have_segments():
            for number, _, _ in list(resource_usage.segments()):
                _uapi.remove_segment(number)
        return True

    def report(self, *, gone: bool) -> tuple[object, ...]:
        """Close the books: how the call ended, or why its worker died before there was one."""
        failure = _failure(self._process.report_fd)
        if self._limits is None:
            moved = self.limit == GRANT_MOVED
            why = "a grant was moved away" if moved else "a worker died"
            return ("broken", failure[1] if failure else f"{why} before its call")
        # Whatever else ended it: the next call isn't to be taken for what this one came to.
        if self._killed_for_memory(self._limits) and not self.limit:
            self.limit = "memory"
        if self.ways is not None and self.ways.lost():
            # Its own status isn't to be taken for its work's.
            self.limit, self.status = GRANT_MOVED, _uapi.SIGKILL
        peak = self._memory_kib_max
        return ("ended", self.status, self.limit, failure, self._cpu_s, peak, not gone)


def _kill_all() -> None:
    """Kill every process that this one's signals reach: those of its call."""
    send_signal(-1, _uapi.SIGKILL)


def send_signal(target: int, number: int) -> bool:
    """Send a signal as kill(2) does; tell whether there was anybody to get it."""
    try:
        os.kill(target, number)
    except ProcessLookupError:
        return False  # only ended ones, not collected yet
    return True


def drain(signals: int) -> None:
    """Read away what a signalfd holds."""
    try:
        os.read(signals, 128 * 64)
    except BlockingIOError:
        return


def _failure(report_fd: int) -> tuple[int, str] | None:
    """Return why nothing was executed, if that is so."""
    if report_fd < 0:
        return None
    try:
        message = os.read(report_fd, 65536)
    except BlockingIOError:
        message = b""
    finally:
        os.close(report_fd)
    if not message:
        return None
    status, text = marshal.loads(message)  # noqa: S302 - written before exec, by our own code
    return int(status), str(text)
