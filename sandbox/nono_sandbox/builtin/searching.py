"""Files by name and by content, where there is no ripgrep: its output, by Python's expressions.

As by its `--null`, names are ended by NUL.
"""

from __future__ import annotations

import os
import re

from nono_sandbox.builtin.failures import FailedError
from nono_sandbox.builtin.opening import regular
from nono_sandbox.builtin.walking import Walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

FILE_BYTES_MAX = 64 * 1024 * 1024
_GAP = "--\n"


def search_files(request: Mapping[str, Any]) -> tuple[dict[str, object], bytes]:
    """Search below `path` for `pattern`, or list the files there if that is null.

    `bytes_max` bounds the output; what there is beyond isn't looked for.
    """
    top = request["path"]
    if not os.path.isdir(top):
        os.stat(top)  # raises if there is nothing
        folder, name = os.path.split(top)
        paths: Iterable[str] = [name]
        top = folder
    else:
        paths = Walk(top, request["globs"], everything=request["everything"]).files()
    search = _Search(request) if request["pattern"] is not None else None
    output, is_whole = [], True
    size = 0
    for path in paths:
        name = f"{top.rstrip('/')}/{path}"
        found = [f"{name}\0"] if search is None else search.of_file(name)
        for line in found:
            if size > request["bytes_max"]:
                is_whole = False
                break
            output.append(line)
            size += len(line)
        if not is_whole:
            break
    skipped = [] if search is None else search.skipped
    facts: dict[str, object] = {"whole": is_whole, "skipped": skipped[:5]}
    return facts, "".join(output).encode("utf-8", "surrogateescape")


class _Search:
    """One expression, and how what it finds is shown."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        text = re.escape(request["pattern"]) if request["literal"] else request["pattern"]
        flags = re.MULTILINE | (re.IGNORECASE if request["ignore_case"] else 0)
        try:
            self._pattern = re.compile(text, flags)
        except (re.error, OverflowError) as error:
            raise FailedError(f"pattern: {error}") from error
        # These two mean a line's ends, and in the whole the whole's.
        self._about_ends = "\\A" in text or "\\Z" in text
        self._context = request["context"]
        self._names_only = request["names_only"]
        self._line_max = request["line_max"]
        self._any_shown = False
        self.skipped: list[str] = []

    def of_file(self, path: str) -> Iterator[str]:
        """Yield what is shown of the file *path*: lines, with ends."""
        data = self._content(path)
        text = data.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
        # Whatever matches in a line matches in the whole, so most files need no more than this.
        if not self._about_ends and self._pattern.search(text) is None:
            return
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        hits = [n for n, line in enumerate(lines) if self._pattern.search(line)]
        if not hits:
            return
        if self._names_only:
            yield f"{path}\0"
        elif b"\0" in data:
            yield f"{path}: binary file matches\n"
        else:
            yield from self._shown(path, lines, hits)

    def _content(self, path: str) -> bytes:
        try:
            fd, status = regular(path)
        except (OSError, FailedError):
            return b""  # closed or gone, which ripgrep is told not to speak of either
        if status.st_size > FILE_BYTES_MAX:
            os.close(fd)
            self.skipped.append(path)
            return b""
        with open(fd, "rb") as stream:
            return stream.read(FILE_BYTES_MAX)

    def _shown(self, path: str, lines: Sequence[str], hits: Sequence[int]) -> Iterator[str]:
        matching = set(hits)
        last = -1
        for hit in hits:
            start = max(hit - self._context, last + 1)
            if self._context and self._any_shown and (last < 0 or start > last + 1):
                yield _GAP
            for number in range(start, min(hit + self._context + 1, len(lines))):
                mark = ":" if number in matching else "-"
                line = lines[number][: self._line_max]
                yield f"{path}\0{number + 1}{mark}{line}\n"
                last = number
                self._any_shown = True
