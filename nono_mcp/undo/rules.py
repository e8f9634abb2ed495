"""What a policy says of its workspace's snapshots, and whether events can be relied on under it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from nono_mcp.policy.paths import covers
from nono_sandbox.confinement import NAMESPACES, WRITE

if TYPE_CHECKING:
    from nono_mcp.policy.document import SnapshotsSection
    from nono_mcp.policy.request import Prepared, Request
    from nono_sandbox.confinement import Call


@dataclass(frozen=True, slots=True)
class Rules:
    """What of a policy concerns its workspace's snapshots."""

    workspace: str
    state_dir: str
    may_be_written: bool
    """A call may write in the workspace."""
    watched: bool
    """Whatever a call does to the workspace raises events there."""
    section: SnapshotsSection
    is_broad: bool
    """It holds a home, and so more than one piece of work."""
    broad: bool
    """The person's yes to that."""
    owner: str | None = None
    """Who takes snapshots, and sees their own; None sees everybody's."""

    @classmethod
    def of(cls, request: Request, prepared: Prepared) -> Self:
        """Return those of *prepared*."""
        workspace = os.path.realpath(request.workspace)
        writable = [
            grant.source or grant.path
            for grant in prepared.confinement.grants
            if grant.access & WRITE
        ]
        return cls(
            workspace=workspace,
            state_dir=request.state_dir,
            may_be_written=any(
                covers(workspace, path) or covers(path, workspace) for path in writable
            ),
            watched=not any(
                _may_hold_links(path, workspace, prepared.confinement.tier) for path in writable
            ),
            section=prepared.document.snapshots,
            is_broad=covers(workspace, os.path.realpath(request.home)),
            broad=bool(prepared.document.snapshots.broad),
            owner=request.owner,
        )

    def may_write(self, call: Call) -> bool:
        """Tell whether *call* may change the workspace."""
        return self.may_be_written and call.narrowing.writes != ()

    def closed(self, prepared: Prepared) -> tuple[bytes, ...]:
        """Return what of the workspace is closed to calls: an agent's rollback leaves it.

        What is protected as well: the guard doesn't look at what no call can change.
        """
        there = (one.path for one in prepared.confinement.denials if one.access & WRITE)
        top = f"{self.workspace}/"
        return tuple(
            os.fsencode(path.removeprefix(top))
            for path in (*there, *dict(prepared.awaited))
            if path.startswith(top)
        )


def _may_hold_links(path: str, workspace: str, tier: str | None) -> bool:
    """Tell whether a call may link a file of the workspace into *path*, outside of it.

    What is written through such a link raises no event in the workspace. In the first tier each
    grant is a mount of its own, across which nothing is linked.
    """
    if covers(workspace, path):
        return False
    if tier == NAMESPACES:
        return covers(path, workspace)
    try:
        return Path(path).stat().st_dev == Path(workspace).stat().st_dev
    except OSError:
        return True
