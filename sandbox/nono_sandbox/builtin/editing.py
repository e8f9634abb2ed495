"""Exact replacements in a file: all of them or none, and what they come to as a diff."""

from __future__ import annotations

import codecs
import difflib

from nono_sandbox.builtin.failures import FailedError
from nono_sandbox.builtin.opening import real, whole
from nono_sandbox.builtin.writing import put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

FILE_BYTES_MAX = 64 * 1024 * 1024
COMPARED_LINES_MAX = 2000
COMPARED_BYTES_MAX = 1 << 20
"""How much of each side is compared; a larger change is told as one block, and cut."""
SHOWN_BYTES_MAX = 64 * 1024
"""Of each side of such a block."""
_CHUNK_BYTES = 1 << 16
_CONTEXT = 3
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LISTED_MAX = 5


def edit_file(request: Mapping[str, Any]) -> tuple[dict[str, object], bytes]:
    """Replace each `old` in the file `path` by its `new`, in order; with `dry_run` only tell.

    Texts are looked for as bytes, so that what isn't UTF-8 stays as it is.
    """
    path = real(request["path"])
    data, seen = whole(path, FILE_BYTES_MAX)
    changed, count = data, 0
    for number, edit in enumerate(request["edits"], 1):
        changed, replaced = _replaced(changed, edit, f"edit {number}", path)
        count += replaced
    if changed == data:
        raise FailedError("the edits change nothing", path)
    # First, since it may take more memory than there is, and then nothing is to be changed.
    diff = unified(data, changed)
    done = {} if request["dry_run"] else put(path, changed, seen)
    return {"path": path, "count": count} | done, diff


def _replaced(data: bytes, edit: Mapping[str, Any], which: str, path: str) -> tuple[bytes, int]:
    old, new = edit["old"].encode("utf-8"), edit["new"].encode("utf-8")
    count = data.count(old)
    if b"\r\n" in data and b"\r" not in old + new:
        # Lines are shown with plain ends, so that is how they come back.
        is_throughout = data.count(b"\r\n") == data.count(b"\n")
        if not count or is_throughout:
            old, new = old.replace(b"\n", b"\r\n"), new.replace(b"\n", b"\r\n")
            count = data.count(old)
    if not count:
        if data.startswith(_UTF16):
            raise FailedError("it is UTF-16, which isn't edited here: use run_sandboxed", path)
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
        return f"; it is at line {line} but for spaces or line ends"
    return f"; its first line is at line {line}, and then it goes on otherwise"


def unified(old: bytes, new: bytes) -> bytes:
    """Return a unified diff without its two lines of names.

    A file may have more lines than there is memory for, so what is the same is never cut into any.
    """
    start = old.rfind(b"\n", 0, _same_at_start(old, new)) + 1
    end = _same_lines_at_end(old[start:], new[start:])
    for _ in range(_CONTEXT):
        start = old.rfind(b"\n", 0, max(0, start - 1)) + 1
    kept = len(old) - end
    for _ in range(_CONTEXT):
        kept = old.find(b"\n", kept) + 1 or len(old)
    shown = old[start:kept], new[start : len(new) - (len(old) - kept)]
    first = old.count(b"\n", 0, start)
    if any(_is_large(part) for part in shown):
        return b"".join(_block(*shown, first))
    before, after = map(_lines, shown)
    hunks = list(difflib.unified_diff(before, after, n=_CONTEXT))[2:]
    lines = [_moved(line, first) if line.startswith("@@") else _whole(line) for line in hunks]
    return "".join(lines).encode("utf-8", "surrogateescape")


def _is_large(part: bytes) -> bool:
    return len(part) > COMPARED_BYTES_MAX or part.count(b"\n") > COMPARED_LINES_MAX


def _same_at_start(one: bytes, other: bytes) -> int:
    """Return how many bytes at their beginning are the same."""
    most = min(len(one), len(other))
    at = 0
    while at < most and one[at : at + _CHUNK_BYTES] == other[at : at + _CHUNK_BYTES]:
        at += _CHUNK_BYTES
    while at < most and one[at] == other[at]:
        at += 1
    return min(at, most)


def _same_lines_at_end(one: bytes, other: bytes) -> int:
    """Return how many bytes at their end are the same lines."""
    most = min(len(one), len(other))
    size = 0
    while size < most:
        wider = min(size + _CHUNK_BYTES, most)
        if one[len(one) - wider : len(one) - size] != other[len(other) - wider : len(other) - size]:
            break
        size = wider
    while size < most and one[-1 - size] == other[-1 - size]:
        size += 1
    at_lines = (
        len(whole) == size or whole[-1 - size : len(whole) - size] == b"\n"
        for whole in (one, other)
    )
    if size and all(at_lines):
        return size
    first = one.find(b"\n", len(one) - size)
    return 0 if first < 0 else len(one) - first - 1


def _lines(data: bytes) -> list[str]:
    text = data.decode("utf-8", "surrogateescape")
    lines = [f"{line}\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _whole(line: str) -> str:
    return line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _block(before: bytes, after: bytes, first: int) -> Iterator[bytes]:
    counts = [part.count(b"\n") + (not part.endswith(b"\n")) for part in (before, after)]
    yield b"@@ -%d,%d +%d,%d @@\n" % (first + 1, counts[0], first + 1, counts[1])
    for sign, part in (("-", before), ("+", after)):
        whole_lines = part.rfind(b"\n", 0, SHOWN_BYTES_MAX) + 1
        cut = len(part) > SHOWN_BYTES_MAX
        lines = _lines(part[: whole_lines or SHOWN_BYTES_MAX] if cut else part)
        text = "".join(_whole(f"{sign}{line}") for line in lines)
        yield text.encode("utf-8", "surrogateescape")


def _moved(head: str, lines: int) -> str:
    """Return the head of a hunk, whose line numbers are *lines* more."""
    mark, old, new, _ = head.split(" ", 3)
    return f"{mark} {_later(old, lines)} {_later(new, lines)} @@\n"


def _later(span: str, lines: int) -> str:
    start, comma, count = span[1:].partition(",")
    return f"{span[0]}{int(start) + lines}{comma}{count}"
