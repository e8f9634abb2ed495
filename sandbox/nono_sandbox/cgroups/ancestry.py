"""Which processes are of one family, and when one began.

Specified by proc(5), /proc/PID/stat.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_PARENT, _START_TIME = 1, 19
"""Columns after the name: the 4th and 22nd of all."""


def family(pids: Iterable[str], pid: int, child: int) -> list[str]:
    """Return who of *pids* is *pid* or, if there is one, *child* or a descendant of that."""
    own = {str(pid), str(child)} - {"0"}
    return [one for one in pids if one in own or (child and _descends(one, str(child)))]


def began(pid: str) -> str:
    """Return when a process began, in ticks since the machine did; nothing if there is none."""
    return _told(pid, _START_TIME)


def _descends(pid: str, ancestor: str) -> bool:
    while pid not in ("", "0", ancestor):
        pid = _told(pid, _PARENT)
    return pid == ancestor


def _told(pid: str, column: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read().rpartition(")")[2].split()[column]
    except OSError:
        return ""
