"""The store's index: one SQLite file that says what is where (FORMAT.md section 4).

Architecture invariant: whoever writes has begun with `writing`, and what it wrote is there as a
whole or not at all, whenever it's killed.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nono_mcp.snapshots.errors import StoreError
from nono_mcp.snapshots.place import DIRECTORY, LOCK_WAIT_S
from nono_sandbox import private

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME: Final = "index.db"
VERSION: Final = 2
_UNOWNED: Final = 1
"""The version in which a snapshot is nobody's in particular."""
_TICK_S: Final = 0.005
_CACHE_KIB: Final = 8192
_CHECKPOINT_PAGES: Final = 4096
"""How many changed pages are gathered before they're written to the index itself, and synced."""

_SCHEMA: Final = """
CREATE TABLE packs (id INTEGER PRIMARY KEY AUTOINCREMENT);
CREATE TABLE frames (
    id INTEGER PRIMARY KEY,
    pack INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL, raw INTEGER NOT NULL
);
CREATE INDEX frames_by_pack ON frames (pack, offset, length);
CREATE TABLE objects (
    id BLOB PRIMARY KEY,
    frame INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE workspaces (
    id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE,
    dev INTEGER NOT NULL, ino INTEGER NOT NULL,
    generation INTEGER NOT NULL, whole INTEGER NOT NULL,
    files INTEGER NOT NULL, bytes INTEGER NOT NULL, links BLOB, rules TEXT NOT NULL
);
CREATE TABLE dirs (
    id INTEGER PRIMARY KEY, workspace INTEGER NOT NULL, parent INTEGER NOT NULL, name BLOB NOT NULL,
    seen BLOB NOT NULL, entry BLOB NOT NULL, files INTEGER NOT NULL, bytes INTEGER NOT NULL,
    stats BLOB NOT NULL, tree BLOB NOT NULL
);
CREATE UNIQUE INDEX dirs_by_name ON dirs (workspace, parent, name);
CREATE TABLE links (
    workspace INTEGER NOT NULL, dir INTEGER NOT NULL, name BLOB NOT NULL, ino INTEGER NOT NULL,
    PRIMARY KEY (workspace, dir, name)
) WITHOUT ROWID;
CREATE TABLE unprotected (
    workspace INTEGER NOT NULL, dir INTEGER NOT NULL, name BLOB NOT NULL, why TEXT NOT NULL,
    PRIMARY KEY (workspace, dir, name)
) WITHOUT ROWID;
CREATE TABLE snapshots (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, workspace INTEGER NOT NULL,
    time_ns INTEGER NOT NULL, reason TEXT NOT NULL, name TEXT, call TEXT, root BLOB NOT NULL,
    files INTEGER NOT NULL, bytes INTEGER NOT NULL, unprotected INTEGER NOT NULL,
    listed TEXT NOT NULL, rules TEXT NOT NULL, generation INTEGER NOT NULL, owner TEXT
);
CREATE INDEX snapshots_by_workspace ON snapshots (workspace, seq);
CREATE TABLE restores (
    workspace INTEGER PRIMARY KEY, current BLOB NOT NULL, target BLOB NOT NULL,
    safety TEXT NOT NULL, staging TEXT NOT NULL, phase TEXT NOT NULL
);
"""


def connect(state_dir: str) -> sqlite3.Connection:
    """Return a connection to the index, made if there is none.

    Raises:
        StoreError: It's damaged, or of another version.
    """
    path = Path(state_dir) / DIRECTORY / NAME
    with contextlib.suppress(FileExistsError):
        os.close(private.open_file(str(path), private.NEW))
    db = sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        _write_ahead(db)
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        _prepare(db)
    except sqlite3.DatabaseError as error:
        db.close()
        raise StoreError(f"{path}: {told(error)}") from error
    except StoreError:
        db.close()
        raise
    return db


def told(error: sqlite3.Error) -> str:
    """Return what went wrong, and what to do about it: a full disk isn't the index's fault."""
    if type(error) is sqlite3.DatabaseError:
        return f"{error}; move it and its packs aside to begin anew"
    return f"{error}; nothing is lost: see whether its disk has room, and may be written"


def _write_ahead(db: sqlite3.Connection) -> None:
    """Have what is written go to a log first: who comes first says so, in the index itself.

    Of two who say so at once SQLite lets one fail without waiting.
    """
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise
            time.sleep(_TICK_S)
        else:
            return


def _prepare(db: sqlite3.Connection) -> None:
    if _version(db) == VERSION:
        return
    with writing(db):
        version = _version(db)
        if version == 0:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
        elif version == _UNOWNED:
            db.execute("ALTER TABLE snapshots ADD COLUMN owner TEXT")
        elif version != VERSION:
            raise StoreError(f"the store has version {version}; this program knows {VERSION}")
        db.execute(f"PRAGMA user_version = {VERSION}")


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


@contextlib.contextmanager
def writing(db: sqlite3.Connection) -> Iterator[None]:
    """Do all that is written inside, or nothing of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


@contextlib.contextmanager
def reading(db: sqlite3.Connection) -> Iterator[None]:
    """Read inside what was there when it began; each query by itself would take locks for that."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        if db.in_transaction:
            db.execute("COMMIT")


@contextlib.contextmanager
def durable(db: sqlite3.Connection) -> Iterator[None]:
    """Do as `writing`, and survive a loss of power from then on."""
    db.execute("PRAGMA synchronous = FULL")
    try:
        with writing(db):
            yield
    finally:
        db.execute("PRAGMA synchronous = NORMAL")
