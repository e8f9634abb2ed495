"""The Merkle tree of RFC 9162 section 2.1, over the lines of a log.

A `Frontier` is what is needed to append and to know the root: the roots of the perfect subtrees,
largest first. `Tree` adds proofs, also where a frontier is all that is left of the older leaves.

Architecture invariant: this module does no I/O and reads no clock.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

EMPTY_ROOT: Final = sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a leaf (section 2.1.1)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node (section 2.1.1)."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The roots of the perfect subtrees of the leaves so far, largest first."""

    __slots__ = ("peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        if len(peaks) != size.bit_count():
            raise ValueError(f"{size} leaves have {size.bit_count()} peaks, not {len(peaks)}")
        self.size = size
        self.peaks = list(peaks)

    def append(self, leaf: bytes) -> None:
        """Add a leaf hash at the right end."""
        size = self.size
        self.size = size + 1
        while size & 1:
            leaf = sha256(b"\x01" + self.peaks.pop() + leaf).digest()
            size >>= 1
        self.peaks.append(leaf)

    def root(self) -> bytes:
        """Return the root of the whole tree."""
        if not self.peaks:
            return EMPTY_ROOT
        root = self.peaks[-1]
        for peak in self.peaks[-2::-1]:
            root = node_hash(peak, root)
        return root

    def copy(self) -> "Frontier":
        """Return a frontier that goes its own way from here."""
        return Frontier(self.size, self.peaks)


def _split(size: int) -> int:
    """Return the largest power of two smaller than *size*, which is at least 2."""
    return 1 << ((size - 1).bit_length() - 1)


class Tree:
    """All leaves from some point on, and the frontier of those before it."""

    def __init__(self, base: Frontier, leaves: Sequence[bytes]) -> None:
        self.base = base
        self.leaves = leaves
        self.size = base.size + len(leaves)
        self._known: dict[tuple[int, int], bytes] = {}
        start = 0
        for peak in base.peaks:
            width = 1 << ((base.size - start).bit_length() - 1)
            self._known[start, start + width] = peak
            start += width

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the first *size* leaves."""
        size = self.size if size is None else size
        return self._hash(0, size) if size else EMPTY_ROOT

    def _hash(self, start: int, end: int) -> bytes:
        """Return MTH of leaves start to end; recursion is as deep as the tree, at most 53."""
        known = self._known.get((start, end))
        if known is not None:
            return known
        if end - start == 1:
            if start < self.base.size:
                raise LookupError(f"leaf {start} was pruned")
            return self.leaves[start - self.base.size]
        middle = start + _split(end - start)
        value = node_hash(self._hash(start, middle), self._hash(middle, end))
        self._known[start, end] = value
        return value

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """Return the proof that leaf *index* is among the first *size* (section 2.1.3).

        Raises:
            LookupError: The leaf was pruned, or isn't there.
        """
        size = self.size if size is None else size
        if not self.base.size <= index < size <= self.size:
            raise LookupError(f"leaf {index} isn't among {self.base.size} to {size}")
        start, end, proof = 0, size, list[bytes]()
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                proof.append(self._hash(middle, end))
                end = middle
            else:
                proof.append(self._hash(start, middle))
                start = middle
        return proof[::-1]

    def consistency(self, old: int, new: int | None = None) -> list[bytes]:
        """Return the proof that the first *new* leaves begin with the first *old* (2.1.4).

        Raises:
            LookupError: *old* is 0, lies in what was pruned, or more than *new*.
        """
        new = self.size if new is None else new
        if not 0 < old <= new <= self.size:
            raise LookupError(f"no consistency proof from {old} to {new} of {self.size}")
        start, end, whole, proof = 0, new, True, list[bytes]()
        while old < end:
            middle = start + _split(end - start)
            if old <= middle:
                proof.append(self._hash(middle, end))
                end = middle
            else:
                proof.append(self._hash(start, middle))
                start, whole = middle, False
        if not whole:
            proof.append(self._hash(start, end))
        return proof[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """Return the root that *proof* leads to, or None if it can't be one (section 2.1.3.2)."""
    if not 0 <= index < size:
        return None
    node, last, root = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return None
        if node & 1 or node == last:
            root = node_hash(sibling, root)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        node, last = node >> 1, last >> 1
    return root if last == 0 else None


def verify_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Tell whether *proof* shows that the tree of *new* leaves extends that of *old* (2.1.4.2)."""
    if old == new:
        return not proof and old_root == new_root
    if not 0 < old < new or not proof:
        return False
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root
