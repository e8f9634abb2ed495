"""One directory that a look at a workspace is in, and what is made of it.

Architecture invariant: nothing is read here but a directory's own attributes.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from nono_mcp.snapshots import encoding, statuses
from nono_mcp.snapshots.encoding import Entry
from nono_mcp.snapshots.reading import read_xattrs

if TYPE_CHECKING:
    import os

    from nono_mcp.snapshots.descent import Descent
    from nono_mcp.snapshots.index import Row
    from nono_mcp.snapshots.marks import Mark
    from nono_mcp.snapshots.patterns import State

RACY_NS: Final = 20_000_000
"""A file that changed this shortly before it was read may change again at the same time."""
RACY_WHOLE_S_NS: Final = 2_000_000_000
"""The same, where the file system counts in seconds."""
_SECOND_NS: Final = 1_000_000_000
KIND_AT: Final = 4
"""Where in an encoded entry its kind stands."""


class Visit:
    """One directory that the walk is in."""

    __slots__ = (
        "changed", "entries", "files", "kept", "linked", "listed", "mark", "name", "named", "old",
        "packed", "pending", "row_id", "rows", "seen", "size", "stale", "started_ns", "state",
        "stats", "statuses", "unprotected",
    )  # fmt: skip

    def __init__(
        self,
        name: bytes,
        row: tuple[int, Row | None],
        mark: Mark,
        state: State,
        started_ns: int,
    ) -> None:
        self.name = name
        self.row_id, self.old = row
        self.mark = mark
        self.state = state
        self.started_ns = started_ns
        self.seen = self.kept = b""
        """Its own status, and what is kept of it to compare the next one with."""
        self.listed = False
        self.pending: list[bytes] = []
        """The directories in it that are still to be visited."""
        self.rows: dict[bytes, Row] | None = None
        """The rows of those, if they were read together."""
        self.entries: dict[bytes, bytes | None] = {}
        """The entries of those that were; None of one that is gone."""
        self.named: dict[bytes, tuple[bytes, bytes] | None] = {}
        """Of files that alone were looked at, the packed status and the entry; None of one gone."""
        self.statuses: dict[bytes, os.stat_result] = {}
        """Of all that is in a directory that was listed, in order."""
        self.packed: dict[bytes, bytes] = {}
        """The same, packed."""
        self.linked: dict[bytes, tuple[int, int]] = {}
        """Inode of what has other names, and how many."""
        self.files = self.size = 0
        """How many files that is, and how many bytes."""
        self.stats = b""
        self.unprotected: list[tuple[bytes, str]] = []
        self.changed = self.old is None
        """Something in it isn't as its row says."""
        self.stale = False
        """It changed under our eyes: the next look doesn't trust this one."""


def packed_name(packed: bytes) -> bytes:
    """Return the name in what `statuses.pack_stat` made."""
    return packed[statuses.STAT_SIZE :]


def racy(status: os.stat_result, now_ns: int) -> bool:
    """Tell whether what is changed after *now_ns* may show no change of status."""
    whole_seconds = status.st_ctime_ns % _SECOND_NS == 0
    return status.st_ctime_ns + (RACY_WHOLE_S_NS if whole_seconds else RACY_NS) >= now_ns


def own_entry(descent: Descent, visit: Visit) -> Entry:
    """Return the directory's own entry, without what it holds."""
    status = descent.status
    return Entry(
        visit.name, encoding.DIRECTORY, stat.S_IMODE(status.st_mode), status.st_uid,
        status.st_gid, status.st_mtime_ns, 0, b"", read_xattrs(descent.fd),
    )  # fmt: skip
