"""What the person is told of how a call ended, and the exit status that says it.

Exit statuses are a shell's: the program's own, or 128+n for the signal n that ended it; 127 for
no such program; 126 for one that can't be executed. A limit that ended the call has a status of
its own, whether the kernel saw to it or the lane: `OVER`.

Whatever came of the program, a signal that ended our look at what it left is told by 128+n too.

Architecture invariant: output of the program is looked at only for paths to judge; what is said
of one comes from the policy.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.cli.attend import Outcome
    from nono_mcp.policy.request import Prepared
    from nono_sandbox.confinement import Limits
    from nono_sandbox.single_run.launching import Launch

DIED = 125
NOT_FOUND = 127
SIGNALLED = 128
SIGNALS_MAX = 64
KILLED = SIGNALLED + 9
OVER = {
    # As timeout(1) has it; then SIGKILL, SIGXCPU and SIGXFSZ.
    "wall": 124,
    "memory": KILLED,
    "disk": KILLED,
    "disk-free": KILLED,
    "processes": KILLED,
    "cpu": SIGNALLED + 24,
    "file-size": SIGNALLED + 25,
    "grant-moved": DIED,
}


class End:
    """How one call ended."""

    def __init__(
        self, outcome: Outcome, prepared: Prepared, argv: tuple[str, ...], launch: Launch
    ) -> None:
        self._launch = launch
        self._outcome = outcome
        self._prepared = prepared
        self._argv = argv
        self.status = status_of(outcome)

    def texts(self) -> list[str]:
        """Return what to tell the person, a line each."""
        texts = []
        if self._outcome.failure is not None:
            texts.append(self._outcome.failure[1])
        if self._outcome.limit == "grant-moved":
            from nono_mcp.policy.home import astray

            texts.append(f"ended: {astray(self._prepared)}")
        elif self._outcome.limit:
            texts.append(over(self._outcome.limit, self._prepared.confinement.limits))
        if self._outcome.leftovers:
            texts.append("a process is stuck in the kernel; it ends when it returns from there")
        return texts + [f"likely cause: {hint}" for hint in self._hints()]

    def _hints(self) -> list[str]:
        ended_by_signal = SIGNALLED < self.status <= SIGNALLED + SIGNALS_MAX
        if not self.status or ended_by_signal or self._outcome.limit:
            return []
        from nono_mcp.cli import denial_hints

        not_found = self._outcome.failure is not None and self.status == NOT_FOUND
        seen = denial_hints.Seen(
            self._argv, self._outcome.tail, self.status, self._launch.led_out(), not_found
        )
        return denial_hints.causes(self._prepared, seen)

    def fields(self, name: str, tier: str) -> dict[str, object]:
        """Return the same for a program to read."""
        outcome = self._outcome
        failure = outcome.failure
        return {
            "id": name,
            "ok": self.status == 0,
            "error": None if failure is None else {"code": "start", "message": failure[1]},
            "status": self.status,
            "limit": outcome.limit or None,
            "tier": tier,
            "cpu_s": round(sum(outcome.cpu_s), 6),
            "memory_bytes_max": outcome.memory_kib_max * 1024,
            "leftovers": outcome.leftovers,
            "likely_causes": self._hints(),
        }


def status_of(outcome: Outcome) -> int:
    """Return the exit status that tells how *outcome* came about."""
    if outcome.cut_short_by:
        return SIGNALLED + outcome.cut_short_by
    if outcome.failure is not None:
        return outcome.failure[0]
    if outcome.limit:
        return OVER[outcome.limit]
    if outcome.wait_status is None:
        return KILLED
    code = os.waitstatus_to_exitcode(outcome.wait_status)
    return code if code >= 0 else 128 - code


def over(limit: str, limits: Limits) -> str:
    """Return a sentence about the *limit* that the call went over."""
    if limit == "disk-free":
        return "ended: it all but filled the disk it writes to (--max-disk says what it may add)"
    bound, unit, option = {
        "wall": (limits.wall_s, "s", "--timeout"),
        "cpu": (limits.cpu_s, "s of CPU time", "--cpu"),
        "memory": (limits.memory_bytes_max, "bytes of memory", "--memory"),
        "processes": (limits.processes_max, "processes", "--max-processes"),
        "file-size": (limits.file_size_bytes_max, "bytes a file", "--max-file-size"),
        "disk": (limits.disk_bytes_max, "bytes added to disks", "--max-disk"),
    }[limit]
    if bound is None:
        return f"ended: over the {limit} limit that nono itself was started with (ulimit)"
    return f"ended: over its limit of {bound:.15g} {unit} ({option})"
