"""Snapshots that say once more what the last one said, and whose turn it is to use the store.

    again = repeating.again(last, "before-call", call)
    ...
    repeating.later(last, "after-call", call)  # written with the next, or by `write`

Architecture invariant: rows are written in the order in which they were said, and whoever else uses
the store through here finds them all written.
"""

from __future__ import annotations

import functools
import os
import sqlite3
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self

from nono_mcp.snapshots import database
from nono_mcp.snapshots.errors import StoreError
from nono_mcp.snapshots.place import LOCK_WAIT_S

if TYPE_CHECKING:
    from nono_mcp.snapshots.values import Reason, Snapshot
    from nono_mcp.snapshots.workspace import Workspace

    _Row = tuple[str, int, Reason, str | None, str | None, str]
    """What `_WRITE` calls `said`."""

_ID_BYTES: Final = 8
_COLUMNS: Final = 6
_WAITING: Final = f"PRAGMA busy_timeout = {int(LOCK_WAIT_S * 1000)}"
_UNWAITING: Final = "PRAGMA busy_timeout = 0"
_BEGIN: Final = "BEGIN IMMEDIATE"
_ROW: Final = f"({', '.join('?' * _COLUMNS)})"
_IS_THERE: Final = (
    "SELECT 1 FROM snapshots AS last WHERE id = ?"
    " AND NOT EXISTS (SELECT 1 FROM restores WHERE workspace = last.workspace)"
    " AND NOT EXISTS (SELECT 1 FROM links WHERE workspace = last.workspace)"
)
_WRITE: Final = (
    "WITH said (id, time_ns, reason, call, owner, last) AS (VALUES {rows})"
    " INSERT INTO snapshots (workspace, id, time_ns, reason, call, root, files, bytes, unprotected,"
    " listed, rules, generation, owner)"
    " SELECT workspace, said.id, said.time_ns, said.reason, said.call, root, files, bytes,"
    " unprotected, listed, rules, generation, said.owner"
    " FROM said CROSS JOIN snapshots AS last ON last.id = said.last"
)


class Repeating:
    """The turn to use the store of one workspace, and what was said and isn't written yet."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._db = workspace.store.db
        self._db.execute(_UNWAITING)
        self._turn = threading.Lock()
        self._said: list[_Row] = []

    def __enter__(self) -> Self:
        """Take the turn, all that was said being written, if it can be."""
        self._turn.acquire()
        self._commit()
        with suppress(sqlite3.Error):  # of which whoever writes next is told, and so are people
            self._db.execute(_WAITING)
            self._insert()
            self._said.clear()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Let others have their turn.

        Raises:
            StoreError: The index couldn't be read or written.
        """
        with suppress(sqlite3.Error):  # it may have been the turn to close it
            self._db.execute(_UNWAITING)
        self._turn.release()
        if isinstance(error, sqlite3.Error):
            raise StoreError(f"the store's index: {database.told(error)}") from error

    def try_turn(self) -> bool:
        """Take the turn if nobody has it, and tell whether we have; `leave_turn` ends it."""
        is_ours = self._turn.acquire(blocking=False)
        if is_ours:
            self._commit()
        return is_ours

    def leave_turn(self) -> None:
        """Let others have their turn."""
        self._turn.release()

    def again(self, last: Snapshot, reason: Reason, call: str | None) -> Snapshot | None:
        """Say that the workspace is once more as *last* has it, if *last* is still there.

        Not if a restore was interrupted, nor where a file has other names: what is written through
        one of those shows nowhere else. And this waits for nobody. It has to be our turn, and till
        the next turn, or `commit`, which writes it down, others can write nothing: so *last* stays.
        What this returns has the number of *last*.
        """
        row = self._row(last, reason, call)
        try:
            self._db.execute(_BEGIN)
            is_there = self._db.execute(_IS_THERE, row[-1:]).fetchone()
        except sqlite3.Error:
            self._roll_back()
            return None  # whoever looks at the workspace instead is told why
        if not is_there:
            self._commit()
            return None
        self._said.append(row)
        return _said(row, last)

    def commit(self) -> None:
        """Write down what `again` said, and let others write."""
        if self.try_turn():  # else who has it has done so
            self.leave_turn()

    def later(self, last: Snapshot, reason: Reason, call: str | None) -> Snapshot:
        """Say that, soon after `again` was, and write it down with what follows, or in `write`.

        What this returns has the number of *last*. It has to be our turn.
        """
        row = self._row(last, reason, call)
        self._said.append(row)
        return _said(row, last)

    def write(self) -> bool:
        """Write down what was said, waiting for nobody; tell whether all is written."""
        if not self._said:
            return True
        if not self.try_turn():
            return False
        try:
            if self._said:
                self._db.execute(_BEGIN)
                self._commit()
        except sqlite3.Error:
            self._roll_back()
        finally:
            self.leave_turn()
        return not self._said

    def is_interrupted(self) -> bool:
        """Tell whether a restore was interrupted, or goes on elsewhere; no, if that's a wait."""
        if not self.try_turn():
            return False
        try:
            return self._workspace.is_interrupted()
        except sqlite3.OperationalError:
            return False
        finally:
            self.leave_turn()

    def _row(self, last: Snapshot, reason: Reason, call: str | None) -> _Row:
        # By its id, since another's row may have the number of one that couldn't be committed; and
        # while *last* itself isn't, by the one that it says once more.
        base = next((each[-1] for each in self._said if each[0] == last.id), last.id)
        name, owner = os.urandom(_ID_BYTES).hex(), self._workspace.owner
        return name, time.time_ns(), reason, call, owner, base

    def _insert(self) -> None:
        if self._said:
            values = [value for each in self._said for value in each]
            self._db.execute(_statement(len(self._said)), values)

    def _commit(self) -> None:
        """End what was begun with all that was said; what can't be written now is later."""
        try:
            if self._db.in_transaction:
                self._insert()
                self._db.execute("COMMIT")
                self._said.clear()
        except sqlite3.ProgrammingError:
            return  # it's closed, and nothing is left open
        except sqlite3.Error:
            self._roll_back()

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")


@functools.cache
def _statement(rows_count: int) -> str:
    return _WRITE.format(rows=", ".join([_ROW] * rows_count))


def _said(row: _Row, last: Snapshot) -> Snapshot:
    name, time_ns, reason, call, owner, _ = row
    return replace(last, id=name, time_ns=time_ns, reason=reason, name=None, call=call, owner=owner)
