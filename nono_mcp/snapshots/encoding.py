"""Entries, file maps, links and roots as bytes (FORMAT.md sections 2 and 3).

Architecture invariant: this module does no I/O and reads no clock, and two encodings of the same
thing are the same bytes.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

ID_BYTES: Final = 32
NO_ID: Final = bytes(ID_BYTES)

FILE: Final = ord("f")
MAPPED: Final = ord("m")
DIRECTORY: Final = ord("d")
SYMLINK: Final = ord("l")
FIFO: Final = ord("p")
KINDS: Final = frozenset({FILE, MAPPED, DIRECTORY, SYMLINK, FIFO})

FIXED: Final = struct.Struct("<IBHIIqQHII")
_SEGMENT = struct.Struct("<QQ32s")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class EncodingError(ValueError):
    """Bytes that are no encoding of what they should be."""


class Entry(NamedTuple):
    """One name in a directory, with all that is kept of it."""

    name: bytes
    kind: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    """Bytes of a file or of a symlink's target, else 0."""
    target: bytes
    """The object's id; a symlink's target; of a FIFO nothing."""
    xattrs: bytes
    """As `encode_xattrs` has them."""

    @property
    def is_directory(self) -> bool:
        """Tell whether it's a directory."""
        return self.kind == DIRECTORY


class Root(NamedTuple):
    """All that a snapshot holds."""

    entry: Entry
    """The workspace's own directory, without a name."""
    links: bytes
    """The id of the hard-link groups."""
    exclusions: tuple[str, ...]


def _naming(kind: str) -> Callable[[bytes], bytes]:
    """Return what names an object of *kind*: no two kinds' objects have one name."""
    begun = hashlib.sha256(f"nono-{kind}/1\n".encode())

    def name(data: bytes) -> bytes:
        hasher = begun.copy()
        hasher.update(data)
        return hasher.digest()

    return name


blob_id: Final = _naming("blob")
"""Names a file's content, or a block of it."""
tree_id: Final = _naming("tree")
"""Names a directory."""
map_id: Final = _naming("map")
"""Names a file map."""
links_id: Final = _naming("links")
"""Names the hard-link groups."""
root_id: Final = _naming("root")
"""Names a root."""
HASHES: Final = (blob_id, tree_id, map_id, links_id, root_id)
"""What may have given an object its name."""


def encode_entry(entry: Entry) -> bytes:
    """Return *entry* as it stands in a tree."""
    name, kind, mode, uid, gid, mtime_ns, size, target, xattrs = entry
    length = FIXED.size + len(name) + len(target) + len(xattrs)
    fixed = FIXED.pack(
        length, kind, mode, uid, gid, mtime_ns, size, len(name), len(target), len(xattrs)
    )
    return b"".join((fixed, name, target, xattrs))


def decode_entry(data: bytes, start: int = 0) -> Entry:
    """Return the entry that begins at *start*.

    Raises:
        EncodingError: There's none.
    """
    try:
        fixed = FIXED.unpack_from(data, start)
    except struct.error as error:
        raise EncodingError("an entry is cut short") from error
    length, kind, mode, uid, gid, mtime_ns, size, name_len, target_len, xattrs_len = fixed
    at = start + FIXED.size
    name = data[at : at + name_len]
    at += name_len
    target = data[at : at + target_len]
    at += target_len
    if kind not in KINDS or at + xattrs_len - start != length or start + length > len(data):
        raise EncodingError("an entry's lengths don't fit")
    if b"/" in name or name in {b".", b".."}:
        raise EncodingError("an entry's name is none")
    return Entry(name, kind, mode, uid, gid, mtime_ns, size, target, data[at : at + xattrs_len])


def encode_xattrs(xattrs: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return extended attributes as they stand in an entry."""
    return b"".join(
        _U32.pack(len(name)) + name + _U32.pack(len(value)) + value
        for name, value in sorted(xattrs)
    )


def decode_xattrs(data: bytes) -> dict[bytes, bytes]:
    """Return extended attributes by name."""
    fields = list(_fields(data))
    return dict(zip(fields[::2], fields[1::2], strict=True))


def _fields(data: bytes, at: int = 0) -> Iterator[bytes]:
    while at < len(data):
        if at + 4 > len(data):
            raise EncodingError("a length is cut short")
        (length,) = _U32.unpack_from(data, at)
        at += 4
        if at + length > len(data):
            raise EncodingError("a field is cut short")
        yield data[at : at + length]
        at += length


class Segment(NamedTuple):
    """A run of a file's bytes; between two of them is a hole."""

    offset: int
    length: int
    id: bytes


def encode_map(size: int, segments: Iterable[Segment]) -> bytes:
    """Return the encoding of a file that is kept in pieces."""
    return _U64.pack(size) + b"".join(_SEGMENT.pack(*segment) for segment in segments)


def decode_map(data: bytes) -> tuple[int, list[Segment]]:
    """Return a file's size and its segments.

    Raises:
        EncodingError: It isn't the encoding of a file map.
    """
    if len(data) < _U64.size or (len(data) - _U64.size) % _SEGMENT.size:
        raise EncodingError("a file map is cut short")
    (size,) = _U64.unpack_from(data)
    segments = [Segment(*fields) for fields in _SEGMENT.iter_unpack(data[_U64.size :])]
    end = 0
    for segment in segments:
        if segment.offset < end or segment.offset + segment.length > size:
            raise EncodingError("a file map's segments don't fit")
        end = segment.offset + segment.length
    return size, segments


def encode_links(groups: Iterable[Iterable[bytes]]) -> bytes:
    """Return the encoding of hard-link groups: each a set of two paths or more."""
    encoded = []
    for paths in sorted(sorted(group) for group in groups):
        fields = b"".join(_U32.pack(len(path)) + path for path in paths)
        encoded.append(_U32.pack(len(fields)) + fields)
    return b"".join(encoded)


def decode_links(data: bytes) -> list[tuple[bytes, ...]]:
    """Return the hard-link groups."""
    return [tuple(_fields(group)) for group in _fields(data)]


def encode_root(root: Root) -> bytes:
    """Return the encoding of a root."""
    fields = [
        encode_entry(root.entry),
        root.links,
        *(text.encode(errors="surrogateescape") for text in root.exclusions),
    ]
    return b"".join(_U32.pack(len(field)) + field for field in fields)


def decode_root(data: bytes) -> Root:
    """Return a root.

    Raises:
        EncodingError: It isn't the encoding of one.
    """
    fields = list(_fields(data))
    if len(fields) < 2 or len(fields[1]) != ID_BYTES:  # noqa: PLR2004 - entry, links
        raise EncodingError("a root lacks something")
    exclusions = tuple(field.decode(errors="surrogateescape") for field in fields[2:])
    return Root(decode_entry(fields[0]), fields[1], exclusions)
