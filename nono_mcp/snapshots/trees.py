"""Directories as bytes: their entries one after the other, by name (FORMAT.md sections 2 and 3).

Architecture invariant: this module does no I/O and reads no clock, and two encodings of the same
thing are the same bytes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from nono_mcp.snapshots import encoding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nono_mcp.snapshots.encoding import Entry

_HEAD = struct.Struct("<I27xH")
"""How long an entry and how long its name is."""
_LENGTH = struct.Struct("<I")
_NAME_AT: Final = encoding.FIXED.size


def split_tree(tree: bytes) -> dict[bytes, bytes]:
    """Return a directory's encoded entries by name, in their order.

    Raises:
        EncodingError: It isn't the encoding of a directory.
    """
    entries = {}
    last, at, end = b"", 0, len(tree)
    while at < end:
        length, name = _head(tree, at)
        if name <= last:
            raise encoding.EncodingError("a tree's names aren't in order")
        last = name
        entries[name] = tree[at : at + length]
        at += length
    return entries


def differing(
    before: bytes, after: bytes, *, every: bool = False
) -> list[tuple[bytes, bytes | None, bytes | None]]:
    """Return (name, entry before, entry after) of what differs between directories, encoded.

    With *every*, also of what doesn't.

    Raises:
        EncodingError: One of them isn't the encoding of a directory.
    """
    found: list[tuple[bytes, bytes | None, bytes | None]] = []
    at, ends = [0, 0], (len(before), len(after))
    while at[0] < ends[0] and at[1] < ends[1]:
        length, name = _head(before, at[0])
        one = before[at[0] : at[0] + length]
        # An entry begins with how long it is: one that begins like another is the same.
        if after.startswith(one, at[1]):
            if every:
                found.append((name, one, one))
            at[0] += length
            at[1] += length
            continue
        other_length, other_name = _head(after, at[1])
        first, second = name <= other_name, other_name <= name
        other = after[at[1] : at[1] + other_length]
        found.append((min(name, other_name), one if first else None, other if second else None))
        at = [at[0] + length * first, at[1] + other_length * second]
    found += [(name, one, None) for name, one in split_tree(before[at[0] :]).items()]
    found += [(name, None, one) for name, one in split_tree(after[at[1] :]).items()]
    return found


def _head(tree: bytes, at: int) -> tuple[int, bytes]:
    """Return how long the entry is that begins there, and its name."""
    try:
        length, size = _HEAD.unpack_from(tree, at)
    except struct.error as error:
        raise encoding.EncodingError("a tree is cut short") from error
    if length < _NAME_AT + size or at + length > len(tree):
        raise encoding.EncodingError("an entry's length doesn't fit")
    return length, tree[at + _NAME_AT : at + _NAME_AT + size]


def decode_tree(tree: bytes) -> dict[bytes, Entry]:
    """Return a directory's entries by name, in their order.

    Raises:
        EncodingError: It isn't the encoding of a directory.
    """
    return {name: encoding.decode_entry(encoded) for name, encoded in split_tree(tree).items()}


def encode_tree(entries: Iterable[Entry]) -> bytes:
    """Return the encoding of a directory; a name may stand there once."""
    return b"".join(encoding.encode_entry(entry) for entry in sorted(entries))


def patched(tree: bytes, entries: Mapping[bytes, bytes | None]) -> bytes:
    """Return a directory with these encoded *entries*, in the place of those that it had; or none.

    Raises:
        EncodingError: It isn't the encoding of a directory.
    """
    parts, start, at = [], 0, 0
    for name in sorted(entries):
        at = _place(tree, name, at)
        if at < 0:
            # One that it didn't have.
            whole = {**split_tree(tree), **entries}
            return b"".join([each for _, each in sorted(whole.items()) if each is not None])
        length, _ = _head(tree, at)
        parts += [tree[start:at], entries[name] or b""]
        start = at = at + length
    return b"".join([*parts, tree[start:]])


def _place(tree: bytes, name: bytes, at: int) -> int:
    """Return where the entry *name* begins, from the one at *at* on; -1 if there's none."""
    # The same bytes may stand anywhere: only where an entry begins are they its name.
    found = tree.find(name, at + _NAME_AT)
    while found >= 0:
        while at < found - _NAME_AT:
            (length,) = _LENGTH.unpack_from(tree, at)
            if length < _NAME_AT:
                raise encoding.EncodingError("an entry's length doesn't fit")
            at += length
        if at == found - _NAME_AT and _head(tree, at)[1] == name:
            return at
        found = tree.find(name, found + 1)
    return -1
