"""How a call ended, and which limit the end of a program tells of.

Architecture invariant: no I/O. A limit that is named has been exceeded.
"""

from __future__ import annotations

import posix as os

from nono_sandbox.confinement import GRANT_MOVED
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_sandbox.confinement import Limits


class CallEnd(Value):
    """How a call ended, all its processes gone (unless `leftovers`)."""

    wait_status: int | None
    """As wait(2) has it; None if the program outlived SIGKILL for now."""
    limit: str
    """The limit that ended the call (wall, cpu, memory, processes, file-size, ...), or nothing.

    Or GRANT_MOVED: whatever the program came to, it counts as killed.
    """
    failure: tuple[int, str] | None
    """Status and reason if nothing was executed."""
    user_s: float
    system_s: float
    memory_bytes_max: int
    """Resident high-water mark of the largest process."""
    leftovers: bool
    """Some process is stuck in the kernel and will end when it returns from there."""

    @property
    def is_lanes_last(self) -> bool:
        """Tell whether its lane runs no other."""
        return self.leftovers or self.limit == GRANT_MOVED

    @property
    def status(self) -> int:
        """Return the exit status as a shell reports it: 128+n for signal n."""
        if self.failure is not None:
            return self.failure[0]
        if self.wait_status is None:
            return 128 + 9
        code = os.waitstatus_to_exitcode(self.wait_status)
        return code if code >= 0 else 128 - code


def limit_of(status: int, limits: Limits | None, cpu: int, file_size: int) -> str:
    """Return the limit whose signal, *cpu* or *file_size*, ended a program, or nothing.

    *status* is wait(2)'s, of the program or of a shell that ran it.
    """
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status) - 128
    if number == file_size:
        return "file-size"
    if number == cpu and limits is not None and limits.cpu_s is not None:
        return "cpu"
    return ""
