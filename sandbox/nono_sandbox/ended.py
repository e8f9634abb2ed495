"""Which limit the end of a program tells of.

Architecture invariant: no I/O. A limit that is named has been exceeded.
"""

from __future__ import annotations

import posix as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_sandbox.confinement import Limits


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
