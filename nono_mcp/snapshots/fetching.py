"""Many blobs at once: each frame is read and decompressed once, by a thread ahead of who uses them.

Architecture invariant: what is read is hashed and compared with its name, always. At most
`AHEAD_BYTES` and one frame more are held beside what the caller has.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

import zstandard

from nono_mcp.snapshots import encoding
from nono_mcp.snapshots.values import Damage

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from nono_mcp.snapshots.packs import Packs

    Fetched = tuple[bytes, bytes | Damage]
    """A blob's id, and it, or what is wrong with it."""
    Submit = Callable[..., Future[list[Fetched]]]

AHEAD_BYTES: Final = 2 << 20
FRAME_BYTES_MAX: Final = 1 << 30
"""Objects are at most a block, but for the trees and links of directories that are larger still."""
WRONG: Final = "isn't what its name says"
_ASKED_MAX: Final = 256
_WHERE: Final = (
    "SELECT pack, frames.offset, frames.length, raw, objects.id, objects.offset, objects.length"
    " FROM objects JOIN frames ON frames.id = frame WHERE objects.id IN "
)


class _Part(NamedTuple):
    name: bytes
    offset: int
    length: int


class _Frame(NamedTuple):
    pack: int
    offset: int
    length: int
    raw: int


def fetched(
    db: sqlite3.Connection, packs: Packs, submit: Submit, names: Sequence[bytes]
) -> Iterator[Fetched]:
    """Yield the blobs *names*, each once, as they lie in the packs; *submit* has threads.

    Raises:
        StoreError, OSError: A pack can't be read.
    """
    frames = _frames(db, names)
    known = {part.name for parts in frames.values() for part in parts}
    yield from ((name, Damage(name.hex(), "is missing")) for name in names if name not in known)
    pending: deque[tuple[int, Future[list[Fetched]]]] = deque()
    ahead_bytes = 0
    for frame in sorted(frames):
        try:
            compressed = packs.read(frame.pack, frame.offset, frame.length)
        except FileNotFoundError as error:
            yield from _damaged(frames[frame], f"can't be read: {error}")
            continue
        pending.append((frame.raw, submit(_opened, frame, compressed, frames[frame])))
        ahead_bytes += frame.raw
        while ahead_bytes > AHEAD_BYTES:
            raw, future = pending.popleft()
            ahead_bytes -= raw
            yield from future.result()
    for _, future in pending:
        yield from future.result()


def _frames(db: sqlite3.Connection, names: Sequence[bytes]) -> dict[_Frame, list[_Part]]:
    """Return which of *names* are in which frame."""
    frames: dict[_Frame, list[_Part]] = {}
    for start in range(0, len(names), _ASKED_MAX):
        asked = names[start : start + _ASKED_MAX]
        for row in db.execute(_WHERE + f"({','.join('?' * len(asked))})", asked):
            frames.setdefault(_Frame(*row[:4]), []).append(_Part(*row[4:]))
    return frames


def _opened(frame: _Frame, compressed: bytes, parts: list[_Part]) -> list[Fetched]:
    """Return what is wanted of a frame; what lies behind that isn't decompressed."""
    end = max(part.offset + part.length for part in parts)
    if frame.raw > FRAME_BYTES_MAX or end > frame.raw:
        return _damaged(parts, "is too long")
    decompressor = zstandard.ZstdDecompressor()
    try:
        if end == frame.raw:
            data = decompressor.decompress(compressed, max_output_size=end)
        else:
            data = decompressor.stream_reader(compressed).read(end)
    except zstandard.ZstdError as error:
        return _damaged(parts, f"can't be read: {error}")
    found: list[Fetched] = []
    for part in parts:
        blob = data[part.offset : part.offset + part.length]
        whole = encoding.blob_id(blob) == part.name
        found.append((part.name, blob if whole else Damage(part.name.hex(), WRONG)))
    return found


def _damaged(parts: list[_Part], why: str) -> list[Fetched]:
    return [(part.name, Damage(part.name.hex(), why)) for part in parts]
