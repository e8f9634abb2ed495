"""Statuses as they're kept in the index, to be compared with later ones (FORMAT.md section 5).

Architecture invariant: nothing is looked at here, and no clock is read.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from nono_mcp.snapshots.comparing import LISTED, SEEN, STAT

if TYPE_CHECKING:
    import os

pack_fields: Final = STAT.pack
"""Packs inode, size, mtime, ctime, mode and how long the name is that follows."""
STAT_SIZE: Final = STAT.size
_DIRECTORY_STAT: Final = (0, 0, 0, 0o040000)
_DIRECTORY_FIELDS: Final = STAT.pack(0, *_DIRECTORY_STAT, 0)[8:-2]
_DIRECTORY_END: Final = 8 + len(_DIRECTORY_FIELDS)
_NAME_LENGTH: Final = struct.Struct("<H")
_TYPE: Final = 0o170000
_REGULAR: Final = 0o100000


def pack_seen(status: os.stat_result, *, racy: bool = False) -> bytes:
    """Return what tells whether a directory's own mode, owner and attributes changed.

    With *racy* a later change may have left no trace, so that this equals nothing.
    """
    ctime_ns = 0 if racy else status.st_ctime_ns
    return SEEN.pack(
        status.st_ino,
        status.st_mtime_ns,
        ctime_ns,
        status.st_mode | LISTED,
        status.st_uid,
        status.st_gid,
    )


def doubted(seen: bytes) -> bytes:
    """Return what was packed, but equal to nothing: names may have come and gone since."""
    ino, mtime_ns, _, *rest = SEEN.unpack(seen)
    return SEEN.pack(ino, mtime_ns, 0, *rest)


def seen_ino(seen: bytes) -> int:
    """Return the inode that was seen."""
    ino: int = SEEN.unpack(seen)[0]
    return ino


def pack_stat(name: bytes, status: os.stat_result, *, racy: bool = False) -> bytes:
    """Return what tells whether the entry *name* changed.

    With *racy* a later change may have left no trace, so that this equals nothing.
    """
    return (
        STAT.pack(
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            0 if racy else status.st_ctime_ns,
            status.st_mode,
            len(name),
        )
        + name
    )


def unsure(packed: bytes) -> bytes:
    """Return what marks an entry of that status as read while it might be changed unseen."""
    *fields, ctime_ns, mode, length = STAT.unpack_from(packed)
    return STAT.pack(*fields, ~ctime_ns, mode, length) + packed[STAT_SIZE:]


def pack_directory(name: bytes, ino: int) -> bytes:
    """Return the same for a directory, whose own row says the rest."""
    return STAT.pack(ino, *_DIRECTORY_STAT, len(name)) + name


def is_directory(packed: bytes) -> bool:
    """Tell whether it's a directory's."""
    return packed[8:_DIRECTORY_END] == _DIRECTORY_FIELDS


def unpack_stats(stats: bytes) -> dict[bytes, bytes]:
    """Return the packed status of each name."""
    found = {}
    unpack, at, last = _NAME_LENGTH.unpack_from, 0, len(stats)
    while at < last:
        start = at + STAT_SIZE
        end = start + unpack(stats, start - _NAME_LENGTH.size)[0]
        found[stats[start:end]] = stats[at:end]
        at = end
    return found


def matches(packed: bytes, status: os.stat_result, *, ctime: bool = True) -> bool:
    """Tell whether *status* is what was packed, as far as it can be told."""
    ino, size, mtime_ns, ctime_ns, mode, _ = STAT.unpack_from(packed)
    return bool(
        (ino, size, mtime_ns, mode)
        == (status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode)
        and (not ctime or ctime_ns in {0, status.st_ctime_ns, ~status.st_ctime_ns})
    )


def counted(packed: bytes | None) -> tuple[int, int]:
    """Return how many files are packed there, one or none, and how many bytes."""
    if packed is None:
        return 0, 0
    _, size, _, _, mode, _ = STAT.unpack_from(packed)
    kind = mode & _TYPE
    return int(kind != _DIRECTORY_STAT[3]), size if kind == _REGULAR else 0


def pack_excluded(name: bytes) -> bytes:
    """Return the same for what isn't looked at."""
    return STAT.pack(0, 0, 0, 0, 0, len(name)) + name
