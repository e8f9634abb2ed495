"""Snapshots as rows of the store's index."""

from __future__ import annotations

import json
import os
import re
import time
from typing import TYPE_CHECKING, Any, Final

from nono_mcp.snapshots.errors import AmbiguousIdError, NoSuchSnapshotError
from nono_mcp.snapshots.values import Snapshot, Unprotected

if TYPE_CHECKING:
    import sqlite3

    from nono_mcp.snapshots.values import Reason
    from nono_mcp.snapshots.workspace import Looked, Workspace

Why = tuple["Reason", str | None, str | None]
"""A snapshot's reason, its name and its call."""
_ID_BYTES: Final = 8
_INTEGER_MAX: Final = (1 << 63) - 1
"""What SQLite takes: more than that are all there are."""
_PREFIX = re.compile(r"[0-9a-f]{4,16}")
_COLUMNS: Final = (
    "seq, id, time_ns, reason, name, call, root, files, bytes, unprotected, listed, rules,"
    " generation, owner"
)
_OWN = "(?{0} IS NULL OR (owner = ?{0} AND owner <> ''))"


def insert(
    db: sqlite3.Connection,
    workspace: Workspace,
    looked: Looked,
    why: Why,
) -> Snapshot:
    """Write down that a snapshot was taken, and return it."""
    reason, name, call = why
    values = (
        os.urandom(_ID_BYTES).hex(), time.time_ns(), reason, name, call, looked.root_hash,
        looked.files_count, looked.bytes_total, looked.unprotected_count,
        _encode_listed(looked.unprotected), json.dumps(workspace.exclusions), looked.generation,
        workspace.owner,
    )  # fmt: skip
    row = db.execute(
        "INSERT INTO snapshots (workspace, id, time_ns, reason, name, call, root, files, bytes,"  # noqa: S608 - columns of ours
        " unprotected, listed, rules, generation, owner)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        f" RETURNING {_COLUMNS}",
        (workspace.id, *values),
    ).fetchall()[0]
    return _snapshot(row)


def insert_if_new(workspace: Workspace, looked: Looked, why: Why, known: bytes) -> None:
    """Do so unless the workspace is as it is to be."""
    if looked.root_hash != known:
        insert(workspace.store.db, workspace, looked, why)


def newest(workspace: Workspace, limit: int | None) -> tuple[Snapshot, ...]:
    """Return a workspace's snapshots that are its owner's, the newest first."""
    found = workspace.store.db.execute(
        f"SELECT {_COLUMNS} FROM snapshots WHERE workspace = ?1 AND {_OWN.format(2)}"  # noqa: S608 - columns of ours
        " ORDER BY seq DESC LIMIT ?3",
        (workspace.id, workspace.owner, -1 if limit is None else min(limit, _INTEGER_MAX)),
    )
    return tuple(map(_snapshot, found))


def since(db: sqlite3.Connection, workspace: int, seq: int) -> tuple[Snapshot, ...]:
    """Return a workspace's snapshots from *seq* on, the oldest first."""
    found = db.execute(
        f"SELECT {_COLUMNS} FROM snapshots WHERE workspace = ? AND seq >= ? ORDER BY seq",  # noqa: S608 - columns of ours
        (workspace, seq),
    )
    return tuple(map(_snapshot, found))


def find(workspace: Workspace, prefix: str) -> Snapshot:
    """Return the one snapshot that *prefix* means: of others' than the owner, by all of its id.

    Raises:
        NoSuchSnapshotError, AmbiguousIdError: There's none, or more than one.
    """
    if not is_text(prefix):
        raise NoSuchSnapshotError(f"no snapshot {prefix!r} of this workspace")
    own = _OWN.format(3)
    where, value = f"name = ?1 AND {own}", prefix
    if prefix == "latest":
        where = f"?1 IS NOT NULL AND {own}"
    elif _PREFIX.fullmatch(prefix):
        name = "substr(?1, 1, length(?1) - 1)"
        where, value = f"(id = {name} OR ((id GLOB ?1 OR name = {name}) AND {own}))", f"{prefix}*"
    found = workspace.store.db.execute(
        f"SELECT {_COLUMNS} FROM snapshots WHERE workspace = ?2 AND {where}"  # noqa: S608 - of ours
        " ORDER BY seq DESC LIMIT 2",
        (value, workspace.id, workspace.owner),
    ).fetchall()
    if not found:
        raise NoSuchSnapshotError(f"no snapshot {prefix!r} of this workspace")
    # The newest of a name is meant; an id's beginning has to be of one only.
    if len(found) > 1 and where.startswith("(id"):
        raise AmbiguousIdError(f"more than one snapshot begins with {prefix!r}")
    return _snapshot(found[0])


def is_text(name: str) -> bool:
    """Tell whether *name* is Unicode: what an argument is that isn't UTF-8 has surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _snapshot(row: tuple[Any, ...]) -> Snapshot:
    (
        seq, name, time_ns, reason, label, call, root, files, size, count, listed, rules,
        generation, owner,
    ) = row  # fmt: skip
    return Snapshot(
        id=name, seq=seq, time_ns=time_ns, reason=reason, name=label, call=call,
        root=bytes(root).hex(), files_count=files, bytes_total=size,
        exclusions=tuple(json.loads(rules)), unprotected=_decode_listed(listed),
        unprotected_count=count, generation=generation, owner=owner,
    )  # fmt: skip


def _encode_listed(unprotected: tuple[Unprotected, ...]) -> str:
    return json.dumps([[os.fsdecode(each.path), each.why] for each in unprotected])


def _decode_listed(text: str) -> tuple[Unprotected, ...]:
    return tuple(Unprotected(os.fsencode(path), why) for path, why in json.loads(text))
