"""What a command printed, as text for a model: readable, harmless, bounded.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

HEAD_BYTES_MAX = 3600
TAIL_BYTES_MAX = 5800
"""Together with the status line and the note between the two: at most 10,000 characters."""
_LINE_BYTES = 200
"""How far a cut may move to stand at the end of a line."""

# ECMA-48: control sequences (colours, cursor movement), then control strings (titles, links),
# which show nothing on a terminal either. An unfinished one ends with its line.
_SEQUENCES = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]?"
    "|(?:\x1b[P\\]X^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x9c|\x1b\\\\)?"
    "|\x1b[ -/]*[0-~]?"
)
_MARK = "[nono]"
_OURS = re.compile(r"^\[nono\]", re.MULTILINE)
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"}


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The two ends of an output, as text."""

    head: str
    tail: str
    omitted_bytes: int
    """How much stands between them; without a gap all is in the head."""


def readable(output: bytes) -> str:
    """Return *output* as text that moves no cursor, holds no NUL and is no note of ours."""
    text = output.decode("utf-8", errors="replace")
    # What a progress bar overwrote stays, each state on a line.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.isprintable():
        text = _SEQUENCES.sub("", text).translate(_CONTROLS)
    # What begins a line with our mark is ours: a stranger's stands a blank further in.
    return _OURS.sub(r" \g<0>", text) if _MARK in text else text


def excerpt(head: bytes, tail: bytes, omitted_bytes: int) -> Excerpt:
    """Return what is shown of an output of which *head* and *tail* are known."""
    if not omitted_bytes:
        if len(head) + len(tail) <= HEAD_BYTES_MAX + TAIL_BYTES_MAX:
            return Excerpt(readable(head + tail), "", 0)
        head, tail = head[:HEAD_BYTES_MAX], (head + tail)[HEAD_BYTES_MAX:]
    first, last = _first_lines(head[:HEAD_BYTES_MAX]), _last_lines(tail[-TAIL_BYTES_MAX:])
    omitted_bytes += len(head) - len(first) + len(tail) - len(last)
    return Excerpt(readable(first), readable(last), omitted_bytes)


def _first_lines(output: bytes) -> bytes:
    end = output.rfind(b"\n", max(0, len(output) - _LINE_BYTES)) + 1
    if end:
        return output[:end]
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    decoder.decode(output)
    incomplete, _ = decoder.getstate()
    return output[: len(output) - len(incomplete)]


def _last_lines(output: bytes) -> bytes:
    start = output.find(b"\n", 0, _LINE_BYTES) + 1
    if start:
        return output[start:]
    # A character is four bytes at most, of which the later ones begin with the bits 10.
    later = [byte & 0xC0 == 0x80 for byte in output[:4]]  # noqa: PLR2004 - see above
    return output[later.index(False) :] if False in later else output


def whole_characters(chunk: bytes) -> bytes:
    """Return *chunk* without the character at its end that isn't whole, if there's one."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    decoder.decode(chunk)
    return chunk[: len(chunk) - len(decoder.getstate()[0])]


def shortened(text: str, characters_max: int = 600) -> str:
    """Return *text*, or its two ends: a name in it may be a megabyte."""
    if len(text) <= characters_max:
        return text
    half = characters_max // 2
    return f"{text[:half]} ... {text[-half:]}"


def amount(size_bytes: int) -> str:
    """Return *size_bytes* as a person says it."""
    if size_bytes < 10_000:  # noqa: PLR2004 - up to here the exact number is as short
        return f"{size_bytes} bytes"
    for unit in ("KB", "MB", "GB"):
        size_bytes //= 1000
        if size_bytes < 10_000:  # noqa: PLR2004 - likewise
            return f"{size_bytes} {unit}"
    return f"{size_bytes // 1000} TB"


def duration(seconds: float) -> str:
    """Return a time as a person says it."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds:.0f} s"  # noqa: PLR2004 - a minute
