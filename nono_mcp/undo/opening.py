"""Opening the store for a workspace; what it refuses becomes what the rest of us says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nono_mcp.policy.errors import PolicyError, RefusedError, quoted
from nono_mcp.snapshots.errors import BroadWorkspaceError
from nono_mcp.snapshots.patterns import PatternError
from nono_mcp.snapshots.snapshots import Snapshots
from nono_mcp.snapshots.values import Retention

if TYPE_CHECKING:
    from nono_mcp.policy.document import SnapshotsSection


def open_store(
    state_dir: str, workspace: str, section: SnapshotsSection, *, broad: bool, remedy: str
) -> Snapshots:
    """Open the snapshots of *workspace*; *remedy* is how a person says that a home is meant.

    *section* says what is left out, and how much all of the store may take.

    Raises:
        PolicyError, RefusedError, SnapshotError, OSError: They can't be had.
    """
    try:
        return Snapshots.open(
            state_dir,
            workspace,
            exclusions=section.exclude,
            broad=broad,
            keep=retention(section),
        )
    except BroadWorkspaceError as error:
        raise broad_error(workspace, remedy) from error
    except PatternError as error:
        raise PolicyError(f"snapshots.exclude: {error}") from error


def retention(section: SnapshotsSection) -> Retention:
    """Return which snapshots stay by a policy."""
    return Retention() if section.quota is None else Retention(quota_bytes=section.quota)


def broad_error(workspace: str, remedy: str) -> RefusedError:
    """Return the refusal of a workspace that is more than one piece of work."""
    return RefusedError(
        f"{quoted(workspace)} is a whole home or file system, to be kept at every call",
        code="snapshots.broad",
        path=workspace,
        remedy=remedy,
    )
