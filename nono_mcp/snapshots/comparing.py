"""Which directories of a workspace aren't as they were seen; also a program that helps to tell.

Run as a script by `python -I -S`, so it imports nothing of its own package. What has to be done is
cut into pieces, and whoever is free takes the next: the process that asks, and its helper.

Architecture invariant: nothing is written, and no path is looked up. What can't be compared counts
as different.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Found = tuple[int, bytes]
    """What to do, and the path of what it's to be done to: with NAMED a file, else a directory."""

SEEN = struct.Struct("<QqqIII")
"""Of a directory: inode, mtime, ctime, mode, owner and group."""
LISTED = 1 << 31
"""Beside its mode: its names are those that were there when this was seen."""
STAT = struct.Struct("<QQqqIH")
"""Of an entry: inode, size, mtime, ctime, mode and how long the name is that follows."""
RELIST, RESCAN, DONE, NAMED = range(4)
NAMED_MAX = 4
"""Of a directory with more files that differ all are looked at."""
DEPTH_MAX = 64
"""Levels of directories beneath a piece; each has a descriptor open."""
_HEAD = struct.Struct("<BI")
_NUMBER = struct.Struct("<H")
_PIECE = struct.Struct("<?QI")
_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TYPE = 0o170000
_DIRECTORY = 0o040000
DIFFERING_MAX = 8192
"""Where more directories, or files in them, differ, everything is looked at."""
PIECES_MAX = 1 << 11
"""Their numbers lie in a pipe, in one page of it: whoever reads one gets a whole one."""
_Row = tuple[bytes, int, bytes, bytes]


class Piece:
    """A directory to compare, alone or with all that is beneath it."""

    __slots__ = ("deep", "id", "path")

    def __init__(self, row_id: int, path: bytes, *, deep: bool) -> None:
        self.id = row_id
        self.path = path
        self.deep = deep


class _Level:
    """A directory that is open, and the rows of those in it that weren't compared yet."""

    __slots__ = ("directories", "fd", "path", "rows")

    def __init__(self, fd: int, path: bytes, rows: Iterator[_Row], directories: set[bytes]) -> None:
        self.fd = fd
        self.path = path
        self.rows = rows
        self.directories = directories


class Comparer:
    """Compares one workspace with the rows of an index."""

    def __init__(self, db: sqlite3.Connection, workspace: int, root_fd: int) -> None:
        self._db = db
        self._workspace = workspace
        self._root_fd = root_fd
        self._device = os.fstat(root_fd).st_dev
        self.looked_count = 0

    def differing(self, piece: Piece) -> list[Found]:
        """Return what differs in *piece*."""
        found: list[Found] = []
        row = self._db.execute(
            "SELECT name, id, seen, stats FROM dirs WHERE id = ? AND workspace = ?",
            (piece.id, self._workspace),
        ).fetchone()
        if row is None:
            return [(RESCAN, piece.path)]
        try:
            above_fd, name = self._above(piece.path)
        except OSError:
            return [(RESCAN, piece.path)]
        try:
            level = self._enter(above_fd, (name, *row[1:]), piece.path, found)
        finally:
            os.close(above_fd)
        levels = [] if level is None else [level]
        try:
            while levels:
                self._step(levels, found, deep=piece.deep)
        finally:
            for level in levels:
                os.close(level.fd)
        return found

    def _above(self, path: bytes) -> tuple[int, bytes]:
        """Return the directory that *path* is in, open, and the name there."""
        *above, name = path.split(b"/")
        fd = os.open(".", _ENTER, dir_fd=self._root_fd)
        for each in above:
            try:
                inner = os.open(each, _ENTER, dir_fd=fd)
            finally:
                os.close(fd)
            fd = inner
        return fd, name or b"."

    def _step(self, levels: list[_Level], found: list[Found], *, deep: bool) -> None:
        """Compare the next directory in the last of *levels*, or leave that."""
        level = levels[-1]
        row = next(level.rows, None)
        lead = level.path + b"/" if level.path else b""
        if row is None:
            # Unreadable, or on another file system: whether it still is, a look tells.
            found += [(RESCAN, lead + name) for name in level.directories]
            os.close(levels.pop().fd)
        elif row[0] not in level.directories:
            found.append((RELIST, level.path))
        else:
            level.directories.remove(row[0])
            if not deep:
                return
            inner = None
            if len(levels) < DEPTH_MAX:
                inner = self._enter(level.fd, row, lead + row[0], found)
            else:
                found.append((RESCAN, lead + row[0]))
            if inner is not None:
                levels.append(inner)

    def _enter(self, above_fd: int, row: _Row, path: bytes, found: list[Found]) -> _Level | None:
        """Compare a directory; return it if there are others in it."""
        name, row_id, seen, stats = row
        try:
            fd = os.open(name, _ENTER, dir_fd=above_fd)
        except OSError:
            found.append((RESCAN, path))
            return None
        directories: set[bytes] = set()
        files: list[bytes] = []
        try:
            status = os.fstat(fd)
            if status.st_dev != self._device:
                found.append((RESCAN, path))
                return None
            same = seen == SEEN.pack(
                status.st_ino, status.st_mtime_ns, status.st_ctime_ns,
                status.st_mode | LISTED,                status.st_uid, status.st_gid,
            )  # fmt: skip
            if not self._same(fd, stats, directories, files, same=same):
                # Of one that wasn't listed as a whole it isn't known which directories it has.
                found.append((RELIST if stats else RESCAN, path))
            else:
                lead = path + b"/" if path else b""
                found += [(NAMED, lead + each) for each in files]
        finally:
            if not directories:
                os.close(fd)
        return _Level(fd, path, self._rows(row_id), directories) if directories else None

    def _same(
        self, fd: int, stats: bytes, directories: set[bytes], files: list[bytes], *, same: bool
    ) -> bool:
        """Tell whether it's the *same* but for few files; note those, and directories in it."""
        unpack, size, look = STAT.unpack_from, STAT.size, os.stat
        at, end = 0, len(stats)
        while at < end:
            ino, length, mtime_ns, ctime_ns, mode, name_length = unpack(stats, at)
            start = at + size
            at = start + name_length
            if mode & _TYPE == _DIRECTORY:
                directories.add(stats[start:at])
                continue
            # What is left out has no mode.
            if not same or not mode:
                continue
            self.looked_count += 1
            try:
                found = look(stats[start:at], dir_fd=fd, follow_symlinks=False)
            except OSError:
                same = False
                continue
            if not (
                found.st_ino == ino
                and found.st_size == length
                and found.st_mtime_ns == mtime_ns
                and found.st_ctime_ns == ctime_ns
                and found.st_mode == mode
            ):
                files.append(stats[start:at])
                # Whether one that is marked as unsure is to be read, it takes more to tell.
                same = len(files) <= NAMED_MAX and ctime_ns >= 0
        return same

    def _rows(self, row_id: int) -> Iterator[_Row]:
        return self._db.execute(
            "SELECT name, id, seen, stats FROM dirs WHERE workspace = ? AND parent = ?",
            (self._workspace, row_id),
        )


def encode(found: Iterable[Found]) -> bytes:
    """Return what was found as it's told from one process to another."""
    return b"".join(_HEAD.pack(what, len(path)) + path for what, path in found)


def decode(data: bytes) -> Iterator[Found]:
    """Yield what `encode` was given; what is cut short isn't in it."""
    at, end = 0, len(data)
    while at + _HEAD.size <= end:
        what, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size + length
        if at <= end:
            yield what, data[at - length : at]


def encode_pieces(pieces: Iterable[Piece]) -> bytes:
    """Return pieces as they're told to the helper."""
    return b"".join(
        _PIECE.pack(piece.deep, piece.id, len(piece.path)) + piece.path for piece in pieces
    )


def _decode_pieces(data: bytes) -> list[Piece]:
    pieces, at = [], 0
    while at < len(data):
        deep, row_id, length = _PIECE.unpack_from(data, at)
        at += _PIECE.size + length
        pieces.append(Piece(row_id, data[at - length : at], deep=deep))
    return pieces


def encode_numbers(count: int) -> bytes:
    """Return what is put into the pipe from which the numbers of pieces are taken."""
    return b"".join(map(_NUMBER.pack, range(count)))


def taken(numbers_fd: int) -> Iterator[int]:
    """Yield the numbers of pieces that are left, each to nobody else."""
    while data := os.read(numbers_fd, _NUMBER.size):
        yield _NUMBER.unpack(data)[0]


def _main() -> None:
    path, workspace, root_fd, numbers_fd = sys.argv[1:]
    pieces = _decode_pieces(sys.stdin.buffer.read())
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA query_only = 1")
    comparer = Comparer(db, int(workspace), int(root_fd))
    found_count = 0
    for number in taken(int(numbers_fd)):
        found = comparer.differing(pieces[number])
        found_count += len(found)
        if found_count > DIFFERING_MAX:
            # Everything is looked at then, and nothing more needs to be found.
            found = [(RESCAN, b"")]
        sys.stdout.buffer.write(encode([*found, (DONE, b"%d" % number)]))
        if found_count > DIFFERING_MAX:
            break


if __name__ == "__main__":
    _main()
