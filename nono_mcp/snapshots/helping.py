"""A second process that compares a part of a workspace (`comparing`), while this one does the rest.

Threads would share one interpreter, and most of the work is system calls too short to be worth
giving it up for.

Architecture invariant: it's never waited for without end, and what it didn't do is known.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import IO, TYPE_CHECKING, Final, Self

from nono_mcp.snapshots import comparing

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from subprocess import Popen
    from types import TracebackType

    from nono_mcp.snapshots.comparing import Found, Piece

FILES_MIN: Final = 20_000
"""From how many files on it's worth the 15 ms that a process takes to start."""
_WAIT_S: Final = 30.0


def is_worth_it(db: sqlite3.Connection, workspace: int) -> bool:
    """Tell whether two get done with a workspace sooner than one."""
    (files_count,) = db.execute(
        "SELECT files FROM workspaces WHERE id = ?", (workspace,)
    ).fetchone()
    return files_count >= FILES_MIN and (os.cpu_count() or 1) > 1 and bool(sys.executable)


class Helper:
    """Hands out pieces, to itself and to a process that was started for that."""

    def __init__(
        self, db: sqlite3.Connection, workspace: int, root_fd: int, pieces: list[Piece]
    ) -> None:
        self._db = db
        self._workspace = workspace
        self._root_fd = root_fd
        self._pieces = pieces
        self._numbers_fd = -1
        self._process: Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._numbers_fd, fill_fd = os.pipe()
        os.write(fill_fd, comparing.encode_numbers(len(self._pieces)))
        os.close(fill_fd)
        if len(self._pieces) > 1:
            # Where no more files or processes may be made, all of it is done here.
            with contextlib.suppress(OSError):
                self._process = self._started()
        return self

    def _started(self) -> Popen[bytes]:
        # It takes long to import, and small workspaces do without.
        import subprocess  # noqa: PLC0415

        (path,) = [row[2] for row in self._db.execute("PRAGMA database_list") if row[1] == "main"]
        descriptors = self._root_fd, self._numbers_fd
        words = path, self._workspace, *descriptors
        with _file(comparing.encode_pieces(self._pieces)) as pieces:
            return subprocess.Popen(  # noqa: S603 - this interpreter and a file of ours
                [sys.executable, "-I", "-S", comparing.__file__, *map(str, words)],
                stdin=pieces,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=descriptors,
                cwd="/",
                env={},
            )

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of the pieces that are left for this process."""
        return comparing.taken(self._numbers_fd)

    def found(self) -> list[Found]:
        """Return what the other process found and which pieces it did, once all are taken."""
        if self._process is None:
            return []
        from subprocess import TimeoutExpired  # noqa: PLC0415 - see above

        try:
            return list(comparing.decode(self._process.communicate(timeout=_WAIT_S)[0]))
        except TimeoutExpired:
            return []

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._numbers_fd)
        if self._process is not None:
            with self._process:
                self._process.kill()


def _file(data: bytes) -> IO[bytes]:
    """Return a file in memory that holds *data*.

    Raises:
        OSError: There's none to be had.
    """
    if sys.platform != "linux":
        raise OSError("files in memory are Linux's")
    file = os.fdopen(os.memfd_create("pieces"), "w+b")
    file.write(data)
    file.seek(0)
    return file
