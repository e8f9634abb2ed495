"""Packs: files of compressed frames, only ever appended to (FORMAT.md section 4).

Architecture invariant: bytes that the index names are never written over. Who appends to a pack
holds its lock; a tail that the index doesn't name is nobody's, and the next writer's to reuse.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Final

from nono_mcp.snapshots import place
from nono_mcp.snapshots.errors import QuotaError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

PACK_BYTES_MAX: Final = 64 << 20
"""A pack that is longer takes no more frames."""
_OPEN_MAX: Final = 16
_INDEX_BYTES: Final = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
_COUNT_BYTES: Final = 4 << 20
"""After how much is appended the packs of others are counted again."""


def pack_name(number: int) -> str:
    """Return the file name of a pack."""
    return f"{number:08d}.pack"


class Packs:
    """The packs of one store."""

    def __init__(self, store_fd: int, db: sqlite3.Connection) -> None:
        self._fd = place.open_beneath(store_fd, "packs")
        self._db = db
        self._own: tuple[int, int] | None = None
        self._end = 0
        self._readers: dict[int, int] = {}
        self._last = 0
        self.quota_bytes = sys.maxsize
        """How long packs and index may be together; no frame is written that would exceed it."""
        self._total = 0
        self._uncounted = _COUNT_BYTES

    def close(self) -> None:
        """Let go of all descriptors."""
        self.release()
        self.forget()
        os.close(self._fd)

    @contextlib.contextmanager
    def unbounded(self) -> Iterator[None]:
        """Go on whatever the quota is: what has begun isn't to stop in the middle."""
        quota_bytes, self.quota_bytes = self.quota_bytes, sys.maxsize
        try:
            yield
        finally:
            self.quota_bytes = quota_bytes

    def append(self, frame: bytes) -> tuple[int, int]:
        """Write a frame, and return its pack and its offset there.

        Raises:
            QuotaError: The packs would be longer than they may be. Nothing was written.
            OSError: There's no space, or it can't be written.
        """
        self._count(len(frame))
        if self._own is not None and self._end >= PACK_BYTES_MAX:
            self.release()
        if self._own is None:
            self._claim()
        if self._own is None:
            raise RuntimeError("no pack was claimed")
        number, fd = self._own
        place.write_whole(fd, frame, self._end)
        offset = self._end
        self._end += len(frame)
        return number, offset

    def _count(self, length: int) -> None:
        if self._uncounted >= _COUNT_BYTES or self._total + length > self.quota_bytes:
            # What others appended meanwhile is in it, and what was removed isn't.
            (index_bytes,) = self._db.execute(_INDEX_BYTES).fetchone()
            self._total = index_bytes + sum(self.sizes().values())
            self._uncounted = 0
        if self._total + length > self.quota_bytes:
            raise QuotaError(
                "what changed in the workspace is more than the store has room for: it holds "
                f"{self._total} bytes, its quota is {self.quota_bytes}; raise that (quota under "
                "[snapshots]), leave something out (exclude), or nono snapshot delete named ones"
            )
        self._total += length
        self._uncounted += length

    def release(self) -> None:
        """Let others append to the pack we appended to."""
        if self._own is not None:
            os.close(self._own[1])
            self._own = None

    def sync(self) -> None:
        """Wait until what was appended since `release` survives a loss of power."""
        if self._own is not None:
            os.fsync(self._own[1])

    def _claim(self) -> None:
        # Frames don't overlap, so that the last one's end is the pack's.
        query = (
            "SELECT packs.id, COALESCE((SELECT offset + length FROM frames WHERE pack = packs.id"
            " ORDER BY offset DESC LIMIT 1), 0) FROM packs WHERE packs.id = ?"
        )
        candidates = [self._last] if self._last else []
        newest = self._db.execute("SELECT id FROM packs ORDER BY id DESC LIMIT 4")
        candidates += [number for (number,) in newest if number != self._last]
        for number in candidates:
            row = self._db.execute(query, (number,)).fetchone()
            if row is not None and row[1] < PACK_BYTES_MAX and self._take(number, row[1], 0):
                return
        number = self._db.execute("INSERT INTO packs DEFAULT VALUES").lastrowid or 0
        self._take(number, 0, os.O_CREAT)

    def _take(self, number: int, size: int, flags: int) -> bool:
        try:
            fd = place.open_private(self._fd, pack_name(number), os.O_RDWR | flags)
        except FileNotFoundError:
            return False
        if not place.try_own(fd):
            os.close(fd)
            return False
        os.ftruncate(fd, size)
        self._own, self._end, self._last = (number, fd), size, number
        return True

    def read(self, number: int, offset: int, length: int) -> bytes:
        """Return a frame, or as much of it as there is.

        Raises:
            FileNotFoundError: The pack is gone.
        """
        fd = self._readers.get(number)
        if fd is None:
            while len(self._readers) >= _OPEN_MAX:
                os.close(self._readers.pop(next(iter(self._readers))))
            fd = place.open_private(self._fd, pack_name(number), os.O_RDONLY)
            self._readers[number] = fd
        return os.pread(fd, length, offset)

    def forget(self) -> None:
        """Close the packs that were read: others may have removed them."""
        for fd in self._readers.values():
            os.close(fd)
        self._readers.clear()

    def remove(self, number: int) -> None:
        """Remove a pack that the index no longer names."""
        os.unlink(pack_name(number), dir_fd=self._fd)

    def sizes(self) -> dict[str, int]:
        """Return every pack's size by its file name."""
        return {
            name: os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_size
            for name in os.listdir(self._fd)
        }

    def remove_strays(self, known: Callable[[str], bool]) -> None:
        """Remove files that aren't *known*: a crash left them."""
        for name in self.sizes():
            if not known(name):
                os.unlink(name, dir_fd=self._fd)
