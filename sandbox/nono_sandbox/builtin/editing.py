"""Exact replacements in a file: all of them or none, and what they come to as a diff."""

from __future__ import annotations

import difflib
import os

from nono_sandbox.builtin.failures import FailedError
from nono_sandbox.builtin.opening import whole
from nono_sandbox.builtin.writing import put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

FILE_BYTES_MAX = 64 * 1024 * 1024
COMPARED_LINES_MAX = 2000
"""How many lines of each side are compared; a larger change is shown as one block."""
_CONTEXT = 3
_LISTED_MAX = 5


def edit_file(request: Mapping[str, Any]) -> tuple[dict[str, object], bytes]:
    """Replace each `old` in the file `path` by its `new`, in order; with `dry_run` only tell.

    Texts are looked for as bytes, so that what isn't UTF-8 stays as it is.
    """
    path = os.path.realpath(request["path"])
    data, seen = whole(path, FILE_BYTES_MAX)
    changed, count = data, 0
    for number, edit in enumerate(request["edits"], 1):
        changed, replaced = _replaced(changed, edit, f"edit {number}", path)
        count += replaced
    if changed == data:
        raise FailedError("the edits change nothing", path)
    # First, since it may take more memory than there is, and then nothing is to be changed.
    diff = _diff(data, changed)
    done = {} if request["dry_run"] else put(path, changed, seen)
    return {"path": path, "count": count} | done, diff


def _replaced(data: bytes, edit: Mapping[str, Any], which: str, path: str) -> tuple[bytes, int]:
    old, new = edit["old"].encode("utf-8"), edit["new"].encode("utf-8")
    count = data.count(old)
    if not count and b"\r\n" in data and b"\r" not in old:
        # Lines are shown with plain ends, so that is how they come back.
        old, new = old.replace(b"\n", b"\r\n"), new.replace(b"\n", b"\r\n")
        count = data.count(old)
    if not count:
        raise FailedError(f"{which}: old isn't in the file{_near(data, old)}", path)
    if count > 1 and not edit["all"]:
        lines = ", ".join(str(line) for line in _lines_of(data, old))
        more = ", ..." if count > _LISTED_MAX else ""
        raise FailedError(
            f"{which}: old is there {count} times (lines {lines}{more}): take in more of what is "
            "around it, or set all",
            path,
        )
    return data.replace(old, new), count


def _lines_of(data: bytes, text: bytes) -> list[int]:
    lines: list[int] = []
    start = data.find(text)
    while start >= 0 and len(lines) < _LISTED_MAX:
        lines.append(data.count(b"\n", 0, start) + 1)
        start = data.find(text, start + len(text))
    return lines


def _near(data: bytes, old: bytes) -> str:
    """Return where something like *old* stands, for who copied it badly."""
    wanted = [line.strip() for line in old.split(b"\n") if line.strip()]
    if not wanted:
        return ""
    at = data.find(wanted[0])
    if at < 0:
        return ""
    line = data.count(b"\n", 0, at) + 1
    found = b"\n".join(part.strip() for part in data[at : at + 4 * len(old)].split(b"\n"))
    if found.startswith(b"\n".join(wanted)):
        return f"; it is at line {line} but for spaces"
    return f"; its first line is at line {line}, and then it goes on otherwise"


def _diff(old: bytes, new: bytes) -> bytes:
    """Return a unified diff without its two lines of names."""
    before, after = _lines(old), _lines(new)
    start = 0
    while start < min(len(before), len(after)) and before[start] == after[start]:
        start += 1
    rest = min(len(before), len(after)) - start
    end = 0
    while end < rest and before[-1 - end] == after[-1 - end]:
        end += 1
    first = max(0, start - _CONTEXT)
    kept = max(0, end - _CONTEXT)
    shown = before[first : len(before) - kept], after[first : len(after) - kept]
    if max(map(len, shown)) > COMPARED_LINES_MAX:
        return "".join(_block(*shown, first)).encode("utf-8", "surrogateescape")
    hunks = list(difflib.unified_diff(*shown, n=_CONTEXT))[2:]
    lines = [_moved(line, first) if line.startswith("@@") else _whole(line) for line in hunks]
    return "".join(lines).encode("utf-8", "surrogateescape")


def _lines(data: bytes) -> list[str]:
    text = data.decode("utf-8", "surrogateescape")
    lines = [f"{line}\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _whole(line: str) -> str:
    return line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _block(before: Sequence[str], after: Sequence[str], first: int) -> list[str]:
    head = f"@@ -{first + 1},{len(before)} +{first + 1},{len(after)} @@\n"
    gone = [_whole(f"-{line}") for line in before]
    return [head, *gone, *(_whole(f"+{line}") for line in after)]


def _moved(head: str, lines: int) -> str:
    """Return the head of a hunk, whose line numbers are *lines* more."""
    mark, old, new, _ = head.split(" ", 3)
    return f"{mark} {_later(old, lines)} {_later(new, lines)} @@\n"


def _later(span: str, lines: int) -> str:
    start, comma, count = span[1:].partition(",")
    return f"{span[0]}{int(start) + lines}{comma}{count}"
