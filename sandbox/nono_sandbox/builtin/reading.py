"""Some lines of a file, of whatever size; or an image whole."""

from __future__ import annotations

import codecs
import io

from nono_sandbox.builtin.opening import regular

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, BinaryIO

IMAGE_BYTES_MAX = 3_750_000
"""What is 5 MB in base64, the most that Anthropic's API takes."""
SCAN_BYTES_MAX = 256 * 1024 * 1024
"""How far a file is read to count its lines."""
TAIL_BYTES_MAX = 4 * 1024 * 1024
"""Within how much of a file's end its last lines are looked for."""
DECODED_BYTES_MAX = 16 * 1024 * 1024
_HEAD_BYTES = 8192
_CHUNK_BYTES = 1 << 20

_IMAGES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)
# Looked up here, since a codec is a module.
MARKS = tuple(
    (mark, codecs.lookup(name))
    for mark, name in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
)


def read_file(request: Mapping[str, Any]) -> tuple[dict[str, object], bytes]:
    """Return lines of the file `path`: `limit` of them at most from line `offset` on.

    A negative offset counts from the end. `bytes_max` bounds what comes back: as many whole lines
    as it has room for, or a part of one, which is `cut`.
    """
    fd, status = regular(request["path"])
    with open(fd, "rb") as stream:
        head = stream.read(_HEAD_BYTES)
        facts: dict[str, object] = {"size_bytes": status.st_size}
        image = _image_type(head)
        if image and status.st_size <= IMAGE_BYTES_MAX:
            rest = stream.read(IMAGE_BYTES_MAX + 1 - len(head))
            return facts | {"kind": "image", "mime_type": image}, head + rest
        for mark, codec in MARKS:
            if head.startswith(mark):
                data = head + stream.read(DECODED_BYTES_MAX)
                text = codec.decode(data[len(mark) :], "replace")[0]
                facts["encoding"] = codec.name
                return _page(io.BytesIO(text.encode("utf-8", "replace")), request, facts)
        if b"\0" in head:
            return facts | {"kind": "image" if image else "binary", "mime_type": image}, b""
        if head:
            # What can't be set back, as a file of /proc, was read whole already or isn't huge.
            stream.seek(0)
        return _page(stream, request, facts)


def _image_type(head: bytes) -> str:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _IMAGES if head.startswith(magic)), "")


def _page(
    stream: BinaryIO, request: Mapping[str, Any], facts: dict[str, object]
) -> tuple[dict[str, object], bytes]:
    facts["kind"] = "text"
    offset, limit, bytes_max = request["offset"], request["limit"], request["bytes_max"]
    if offset < 0:
        return _tail(stream, min(-offset, limit), bytes_max, facts)
    skipped, data = _skip(stream, offset - 1)
    while len(data) <= bytes_max and data.count(b"\n") < limit:
        chunk = stream.read(_CHUNK_BYTES)
        if not chunk:
            break
        data += chunk
    body, cut = _fitting(data, limit, bytes_max)
    count = body.count(b"\n") + (bool(body) and not body.endswith(b"\n"))
    facts |= {"first": offset, "count": count, "cut": cut}
    if (counted := _count(data, stream)) is not None:
        facts["lines"] = skipped + counted
    return facts, body


def _skip(stream: BinaryIO, lines: int) -> tuple[int, bytes]:
    """Pass over *lines*; return how many there were, and what was read of those after them."""
    skipped, last = 0, b""
    while skipped < lines:
        chunk = stream.read(_CHUNK_BYTES)
        if not chunk:
            # An unfinished last line is one too.
            return skipped + bool(last), b""
        count = chunk.count(b"\n")
        if skipped + count >= lines:
            return lines, chunk.split(b"\n", lines - skipped)[-1]
        skipped += count
        last = chunk[chunk.rfind(b"\n") + 1 :]
    return lines, b""


def _fitting(data: bytes, limit: int, bytes_max: int) -> tuple[bytes, bool]:
    """Return up to *limit* whole lines within *bytes_max*, or a part of one and that it's cut."""
    parts = data.split(b"\n", limit)
    body = data[: len(data) - len(parts[-1])] if len(parts) > limit else data
    if len(body) <= bytes_max:
        return body, False
    end = body.rfind(b"\n", 0, bytes_max) + 1
    return (body[:end], False) if end else (body[:bytes_max], True)


def _count(data: bytes, stream: BinaryIO) -> int | None:
    """Return how many lines *data* and the rest of *stream* are; None if that is a lot."""
    count, read = 0, 0
    chunk, last = data, b"\n"
    while chunk:
        count += chunk.count(b"\n")
        last = chunk[-1:]
        read += len(chunk)
        if read >= SCAN_BYTES_MAX:
            return None
        chunk = stream.read(_CHUNK_BYTES)
    return count + (last != b"\n")


def _tail(
    stream: BinaryIO, count: int, bytes_max: int, facts: dict[str, object]
) -> tuple[dict[str, object], bytes]:
    start = max(0, stream.seek(0, 2) - TAIL_BYTES_MAX)
    stream.seek(start)
    data = stream.read(TAIL_BYTES_MAX)
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    if not lines[-1]:
        lines.pop()
    kept: list[bytes] = []
    size = 0
    for line in reversed(lines[1:] if start else lines):
        if len(kept) == count or (kept and size + len(line) > bytes_max):
            break
        kept.append(line)
        size += len(line)
    body = b"".join(reversed(kept))
    facts |= {"count": len(kept), "cut": len(body) > bytes_max}
    if not start:
        facts |= {"first": len(lines) - len(kept) + 1, "lines": len(lines)}
    return facts, body[-bytes_max:]
