"""Objects: bytes by the hash of their content, many to a compressed frame (FORMAT.md section 2).

Architecture invariant: what is read is hashed and compared with its name, always.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import zstandard

from nono_mcp.snapshots import database, encoding, fetching
from nono_mcp.snapshots.errors import DamagedStoreError
from nono_mcp.snapshots.values import Damage

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from nono_mcp.snapshots.fetching import Fetched
    from nono_mcp.snapshots.packs import Packs

FRAME_BYTES: Final = 256 << 10
"""Small objects are compressed together, up to this many bytes."""
BLOCK_BYTES: Final = 8 << 20
"""A file that is larger is kept in blocks of this size."""
LEVEL: Final = 1
_INLINE_BYTES: Final = 32 << 10
_BATCH_BYTES: Final = 64 << 20
_PENDING_MAX: Final = 8
_CACHED_BYTES: Final = 8 << 20

_Frame = tuple[int, list[bytes]]


class Objects:
    """The objects of one store."""

    def __init__(self, packs: Packs, db: sqlite3.Connection) -> None:
        self._packs = packs
        self._db = db
        self._open: dict[bool, _Frame] = {}
        self._filled: dict[bool, int] = {}
        self._pending: deque[tuple[int, int, Future[bytes]]] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self._compressors: list[zstandard.ZstdCompressor] = []
        self._decompressor = zstandard.ZstdDecompressor()
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._cached_bytes = 0
        self._batch_bytes = 0

    def close(self) -> None:
        """End the threads that compress and decompress."""
        if self._pool is not None:
            self._pool.shutdown()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Keep what is put inside; an exception loses what wasn't committed on the way."""
        self._batch_bytes = 0
        try:
            with database.writing(self._db):
                yield
                self.flush()
        finally:
            self._drop()
            self._packs.release()

    def put_blob(self, data: bytes) -> bytes:
        """Keep a file's content, or a block of it, and return its id."""
        return self._put(encoding.blob_id(data), data, meta=False)

    def put_tree(self, data: bytes) -> bytes:
        """Keep a directory, and return its id."""
        return self._put(encoding.tree_id(data), data, meta=True)

    def put_map(self, data: bytes) -> bytes:
        """Keep a file map, and return its id."""
        return self._put(encoding.map_id(data), data, meta=True)

    def put_links(self, data: bytes) -> bytes:
        """Keep hard-link groups, and return their id."""
        return self._put(encoding.links_id(data), data, meta=True)

    def put_root(self, data: bytes) -> bytes:
        """Keep a root, and return its id."""
        return self._put(encoding.root_id(data), data, meta=True)

    def _put(self, name: bytes, data: bytes, *, meta: bool) -> bytes:
        filled = self._filled.get(meta, 0)
        if filled and filled + len(data) > FRAME_BYTES:
            self._seal(meta=meta)
        frame = self._open.get(meta)
        if frame is None:
            cursor = self._db.execute(
                "INSERT INTO frames (pack, offset, length, raw) VALUES (0, 0, 0, 0)"
            )
            frame = self._open[meta] = (cursor.lastrowid or 0, [])
            self._filled[meta] = 0
        added = self._db.execute(
            "INSERT OR IGNORE INTO objects (id, frame, offset, length) VALUES (?, ?, ?, ?)",
            (name, frame[0], self._filled[meta], len(data)),
        )
        if added.rowcount:
            frame[1].append(data)
            self._filled[meta] += len(data)
        return name

    def _seal(self, *, meta: bool, alone: bool = False) -> None:
        """Have what was put compressed: here if it's *alone*, else by a thread."""
        number, parts = self._open.pop(meta)
        raw = self._filled.pop(meta)
        if not parts:
            self._db.execute("DELETE FROM frames WHERE id = ?", (number,))
            return
        self._batch_bytes += raw
        if alone or raw <= _INLINE_BYTES:
            future: Future[bytes] = Future()
            future.set_result(self._compress(parts))
        else:
            future = self._threads().submit(self._compress, parts)
        self._pending.append((number, raw, future))
        while len(self._pending) > _PENDING_MAX:
            self._write_first()

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(2, "compress")
        return self._pool

    def _compress(self, parts: list[bytes]) -> bytes:
        # Appending to and taking from a list needs no lock; a compressor has one user at a time.
        try:
            compressor = self._compressors.pop()
        except IndexError:
            compressor = zstandard.ZstdCompressor(LEVEL)
        compressed = compressor.compress(b"".join(parts))
        self._compressors.append(compressor)
        return compressed

    def _write_first(self) -> None:
        number, raw, future = self._pending.popleft()
        compressed = future.result()
        pack, offset = self._packs.append(compressed)
        self._db.execute(
            "UPDATE frames SET pack = ?, offset = ?, length = ?, raw = ? WHERE id = ?",
            (pack, offset, len(compressed), raw, number),
        )

    def flush(self) -> None:
        """Write all that was put."""
        # To wait for a thread at once takes longer than to do the last of it here.
        alone = not self._pending
        for meta in list(self._open):
            self._seal(meta=meta, alone=alone)
        while self._pending:
            self._write_first()

    def commit_batch(self, prepare: Callable[[], None]) -> None:
        """Commit what was put so far, if it's much, after *prepare*, and go on."""
        if self._batch_bytes < _BATCH_BYTES:
            return
        self.flush()
        prepare()
        self._db.execute("COMMIT")
        self._db.execute("BEGIN IMMEDIATE")
        self._batch_bytes = 0

    def sync(self) -> None:
        """Wait until what was put survives a loss of power."""
        self.flush()
        self._packs.sync()

    def _drop(self) -> None:
        """Forget what an exception kept from being written."""
        self._open.clear()
        self._filled.clear()
        for *_, future in self._pending:
            future.cancel()
        self._pending.clear()

    def has(self, name: bytes) -> bool:
        """Tell whether the index knows the object *name*."""
        found = self._db.execute("SELECT 1 FROM objects WHERE id = ?", (name,))
        return found.fetchone() is not None

    def blob(self, name: bytes) -> bytes:
        """Return a file's content, or a block of it.

        Raises:
            DamagedStoreError: It's missing or damaged; so for all that follow.
        """
        return self._get(name, encoding.blob_id)

    def blobs(self, names: Sequence[bytes]) -> Iterator[Fetched]:
        """Yield many blobs, as they lie in the store, and of what is damaged how."""
        return fetching.fetched(self._db, self._packs, self._threads().submit, names)

    def tree(self, name: bytes) -> bytes:
        """Return an encoded directory."""
        return self._get(name, encoding.tree_id)

    def map(self, name: bytes) -> bytes:
        """Return an encoded file map."""
        return self._get(name, encoding.map_id)

    def links(self, name: bytes) -> bytes:
        """Return encoded hard-link groups; `NO_ID` stands for none."""
        return b"" if name == encoding.NO_ID else self._get(name, encoding.links_id)

    def root(self, name: bytes) -> encoding.Root:
        """Return a root."""
        return encoding.decode_root(self._get(name, encoding.root_id))

    def why_damaged(self, name: bytes) -> str | None:
        """Return why an object that the index knows isn't whole, of whatever kind it is."""
        try:
            data = self._read(name)
        except DamagedStoreError as error:
            return error.damage[0].why
        if any(hashed(data) == name for hashed in encoding.HASHES):
            return None
        return fetching.WRONG

    def frame(self, number: int) -> bytes:
        """Return a whole frame.

        Raises:
            DamagedStoreError: It can't be read.
        """
        where = self._db.execute(
            "SELECT pack, offset, length, raw FROM frames WHERE id = ?", (number,)
        ).fetchone()
        return self._frame(b"", number, list(where))

    def _get(self, name: bytes, hashed: Callable[[bytes], bytes]) -> bytes:
        data = self._read(name)
        if hashed(data) != name:
            raise DamagedStoreError((Damage(name.hex(), fetching.WRONG),))
        return data

    def _read(self, name: bytes) -> bytes:
        row = self._db.execute(
            "SELECT frame, objects.offset, objects.length, pack, frames.offset, frames.length, raw"
            " FROM objects JOIN frames ON frames.id = frame WHERE objects.id = ?",
            (name,),
        ).fetchone()
        if row is None:
            raise DamagedStoreError((Damage(name.hex(), "is missing"),))
        frame, offset, length, *where = row
        return self._frame(name, frame, where)[offset : offset + length]

    def _frame(self, name: bytes, number: int, where: list[int]) -> bytes:
        cached = self._cache.get(number)
        if cached is not None:
            self._cache.move_to_end(number)
            return cached
        pack, offset, length, raw = where
        try:
            if raw > fetching.FRAME_BYTES_MAX:
                raise DamagedStoreError((Damage(name.hex(), "is too long"),))
            data = self._decompressor.decompress(
                self._packs.read(pack, offset, length), max_output_size=raw
            )
        except (FileNotFoundError, zstandard.ZstdError) as error:
            raise DamagedStoreError((Damage(name.hex(), f"can't be read: {error}"),)) from error
        if len(data) <= FRAME_BYTES:
            self._cache[number] = data
            self._cached_bytes += len(data)
            while self._cached_bytes > _CACHED_BYTES:
                self._cached_bytes -= len(self._cache.popitem(last=False)[1])
        return data

    def forget(self) -> None:
        """Drop what was read: others may have moved it."""
        self._cache.clear()
        self._cached_bytes = 0
        self._packs.forget()
