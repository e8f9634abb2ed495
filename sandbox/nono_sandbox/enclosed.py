"""The control group of a single run: made for its limits, and gone when it has ended.

Where there can be none its limits are counted, as ever, and nothing is changed. Who is killed
before it has removed it leaves it empty: the next that is started in the same place does it.

Architecture invariant: what this process is in at the end is what it was in before.
"""

from __future__ import annotations

import posix as os

from nono_sandbox import groups, hierarchy
from nono_sandbox.errors import LaneLostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nono_sandbox.confinement import Limits


class Enclosed:
    """A group for the one lane of this process, which is to enter it."""

    def __init__(self, directory: str, lane_pid: int, limits: Limits) -> None:
        self._directory = directory
        self._groups = groups.Groups(hierarchy.make(directory, os.getpid(), lane_pid), lane_pid)
        try:
            self._group = self._groups.group()
            self._group.limit(limits)
        except LaneLostError:
            self.leave()
            raise

    @property
    def joining(self) -> Sequence[int]:
        """Return what `watch.join` takes."""
        return self._group.joining

    def kill(self) -> bool:
        """Kill whatever is in it; tell whether the kernel had done so before, for its memory."""
        self._group.kill()
        return self._group.lost_to_memory()

    def leave(self) -> None:
        """Remove the group, and with it what is left in it; be where we were before."""
        self._groups.close()
        hierarchy.leave(self._directory, os.getpid())


def around(lane_pid: int, limits: Limits) -> Enclosed | None:
    """Return a group for the lane *lane_pid*, if there can be any, which holds it to *limits*.

    Raises:
        LaneLostError: What holds them couldn't be made. Run nothing.
    """
    try:
        return Enclosed(hierarchy.directory_of(), lane_pid, limits)
    except hierarchy.UnavailableError:
        return None
