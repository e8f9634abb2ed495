"""The control group of a single run: made for its limits, and gone when it has ended.

Where there can be none its limits are counted (`resource_usage`), and nothing is changed. If this
process is killed first, an empty group stays behind: the next run in the same place removes it.

Architecture invariant: at the end this process is in the group that it was in before.
"""

from __future__ import annotations

import posix as os

from nono_sandbox.cgroups import groups, hierarchy
from nono_sandbox.errors import LaneLostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nono_sandbox.confinement import Limits


class RunGroup:
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
        """Return what `membership.join` takes."""
        return self._group.joining

    def kill(self) -> bool:
        """Kill whatever is in it; tell whether the kernel had done so before, for its memory."""
        self._group.kill()
        return self._group.lost_to_memory()

    def leave(self) -> None:
        """Remove the group, and with it what is left in it; be where we were before."""
        self._groups.close()
        hierarchy.leave(self._directory, os.getpid())


def make(lane_pid: int, limits: Limits) -> RunGroup | None:
    """Return a group for the lane *lane_pid*, if there can be any, which holds it to *limits*.

    Raises:
        LaneLostError: What holds them couldn't be made. Run nothing.
    """
    try:
        return RunGroup(hierarchy.directory_of(), lane_pid, limits)
    except hierarchy.UnavailableError:
        return None
