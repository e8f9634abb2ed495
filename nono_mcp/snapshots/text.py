"""How one file differs between two snapshots, as text."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Final

from nono_mcp.snapshots import encoding, trees
from nono_mcp.snapshots.values import TextDiff

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nono_mcp.snapshots.encoding import Entry
    from nono_mcp.snapshots.objects import Objects

COMPARED_BYTES_MAX: Final = 1 << 20
_LINES_MAX: Final = 20_000
_BINARY_LOOK_BYTES: Final = 8000


def text_diff(
    objects: Objects, roots: Sequence[bytes], path: bytes, context: int, bytes_max: int
) -> TextDiff:
    """Return how the file at *path* differs between two roots.

    Raises:
        FileNotFoundError: Neither has it.
        DamagedStoreError: It can't be read.
    """
    entries = [entry_at(objects, objects.root(root).entry, path) for root in roots]
    if entries == [None, None]:
        raise FileNotFoundError(f"{_shown(path)!r} is in neither snapshot")
    sizes = [entry.size if entry else 0 for entry in entries]
    contents = [_content(objects, entry) for entry in entries]
    before, after = contents
    if before is None or after is None or _is_binary(before) or _is_binary(after):
        text = f"binary files differ ({sizes[0]} -> {sizes[1]} bytes)\n"
        return TextDiff(text if contents[0] != after or before is None else "", True, False)  # noqa: FBT003 - binary, cut
    lines = [_lines(content) for content in (before, after)]
    cut = any(len(each) > _LINES_MAX for each in lines)
    label = _shown(path)
    labels = [label if entry else "/dev/null" for entry in entries]
    compared = [each[:_LINES_MAX] for each in lines]
    listed: list[str] = []
    used = 0
    for line in difflib.unified_diff(
        compared[0], compared[1], labels[0], labels[1], n=context, lineterm=""
    ):
        used += len(line) + 1
        if used > bytes_max:
            cut = True
            break
        listed.append(line + "\n")
    return TextDiff("".join(listed), False, cut)  # noqa: FBT003 - binary, cut


def entry_at(objects: Objects, root: Entry, path: bytes) -> Entry | None:
    """Return the entry at *path*, if there is one.

    Raises:
        DamagedStoreError: A tree on the way can't be read.
    """
    entry: Entry | None = root
    for name in path.split(b"/"):
        if entry is None or not entry.is_directory:
            return None
        entry = trees.decode_tree(objects.tree(entry.target)).get(name)
    return entry


def _content(objects: Objects, entry: Entry | None) -> bytes | None:
    """Return what is compared of an entry; None if it can't be, as text."""
    if entry is None:
        return b""
    if entry.kind == encoding.SYMLINK:
        return b"symlink to " + entry.target + b"\n"
    if entry.kind != encoding.FILE or entry.size > COMPARED_BYTES_MAX:
        return None
    return objects.blob(entry.target)


def _is_binary(data: bytes) -> bool:
    return b"\0" in data[:_BINARY_LOOK_BYTES]


def _lines(data: bytes) -> list[str]:
    text = data.decode(errors="backslashreplace")
    lines = text.split("\n")
    if lines[-1]:
        lines[-1] += "\n\\ No newline at end of file"
    else:
        lines.pop()
    # A carriage return would hide on a terminal what stands before it.
    return [re.sub(r"\r$", r"\\r", line) for line in lines]


def _shown(path: bytes) -> str:
    return path.decode(errors="backslashreplace")
