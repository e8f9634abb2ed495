"""The control groups of a session: one for each lane of its fork server, where there can be any.

Importable everywhere: on macOS there are none, and the answer says so.

Architecture invariant: where there can't be any, nothing is changed, and it's said why.
"""

from __future__ import annotations

import os

from nono_sandbox import system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_sandbox.cgroups.groups import Group, Groups


class SessionGroups:
    """The groups of one fork server's lanes; without *top*, none, and the *reason* for that."""

    def __init__(self, top: str = "", server: int = 0, reason: str = "") -> None:
        self._groups: Groups | None = None
        if top:
            from nono_sandbox.cgroups import groups

            self._groups = groups.Groups(top, server)
        self.reason = reason
        """Why there are no groups, if there are none."""

    def group(self) -> Group | None:
        """Return a new lane's group, if there are any.

        Raises:
            LaneLostError: It can't be made.
        """
        return None if self._groups is None else self._groups.group()

    def close(self) -> None:
        """Remove the groups; the fork server has ended."""
        if self._groups is not None:
            self._groups.close()
            self._groups = None


def make_top() -> tuple[str, str]:
    """Return the directory to make groups in, or nothing and why there is none.

    This process moves there, if it has to.
    """
    if system.BACKEND is not system.LINUX:
        return "", "this isn't Linux"
    from nono_sandbox.cgroups import hierarchy

    own = os.getpid()
    try:
        return hierarchy.make(hierarchy.directory_of(), own), ""
    except hierarchy.UnavailableError as error:
        return "", str(error)


def why_none() -> str:
    """Return why there can't be any groups, or nothing; changes nothing."""
    if system.BACKEND is not system.LINUX:
        return "this isn't Linux"
    from nono_sandbox.cgroups import hierarchy

    try:
        hierarchy.see(hierarchy.directory_of(), os.getpid())
    except hierarchy.UnavailableError as error:
        return str(error)
    return ""
