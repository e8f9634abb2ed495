"""Files by name and by content, where there is no ripgrep: its output, by Python's expressions.

As by its `--null`, names are ended by NUL.
"""

from __future__ import annotations

import os
import re
import warnings

from nono_sandbox.builtin.failures import FailedError
from nono_sandbox.builtin.opening import regular
from nono_sandbox.builtin.reading import MARKS
from nono_sandbox.builtin.walking import Walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

FILE_BYTES_MAX = 64 * 1024 * 1024
_LOOKED_AT_BYTES = 64 * 1024
"""A NUL in the first so many makes a file a binary one, which only who names it has searched."""
_UTF8_MARK = b"\xef\xbb\xbf"
_GAP = "--\n"
_MATCHES = "binary file matches"
_STOPPED = "WARNING: stopped searching binary file after match"
_TOKEN = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]|\\.|.", re.DOTALL)
_BREAKS = frozenset({"\n", r"\n"})
# What means a line's ends, and in the whole the whole's; and what may match in a line for want of
# what is around that: lookaround that says no, conditions, and what gives nothing back.
_OF_LINES_ALONE = re.compile(r"\\[AZ]|\(\?(?:<?!|>|\(|[a-z]*-)|[*+?}]\+")


def search_files(request: Mapping[str, Any]) -> tuple[dict[str, object], bytes]:
    """Search below `path` for `pattern`, or list the files there if that is null.

    `bytes_max` bounds the output; what there is beyond isn't looked for.
    """
    top = request["path"]
    is_named = False
    if not os.path.isdir(top):
        os.close(regular(top)[0])  # raises if nothing is to be searched there
        folder, name = os.path.split(top)
        paths: Iterable[str] = [name]
        top, is_named = folder, True
    else:
        os.close(os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))  # likewise
        paths = Walk(top, request["globs"], everything=request["everything"]).files()
    search = _Search(request) if request["pattern"] is not None else None
    output, is_whole = [], True
    size = 0
    for path in paths:
        name = f"{top.rstrip('/')}/{path}"
        found = [f"{name}\0"] if search is None else search.of_file(name, is_named=is_named)
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
        # A literal has its line breaks escaped by a backslash.
        if "\n" in text or not _BREAKS.isdisjoint(_TOKEN.findall(text)):
            raise FailedError("pattern: lines are searched one by one, and hold no line break")
        try:
            with warnings.catch_warnings():
                # Of a set that means another thing to ripgrep, such as [[:alpha:]].
                warnings.simplefilter("error", FutureWarning)
                self._pattern = re.compile(text, flags)
        except (re.error, OverflowError, FutureWarning) as error:
            raise FailedError(
                f"pattern: {error} (there is no ripgrep: as Python has it)"
            ) from error
        self._of_lines_alone = _OF_LINES_ALONE.search(text) is not None
        self._context = request["context"]
        self._names_only = request["names_only"]
        self._line_max = request["line_max"]
        self._any_shown = False
        self.skipped: list[str] = []

    def of_file(self, path: str, *, is_named: bool) -> Iterator[str]:
        """Yield what is shown of the file *path*: lines, with ends."""
        data = _as_utf8(self._content(path))
        nul = data.find(b"\0")
        if nul >= 0 and not is_named:
            data = data[:nul] if nul >= _LOOKED_AT_BYTES else b""
        text = data.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
        # Whatever matches in a line matches in the whole, so most files need no more than this.
        if not self._of_lines_alone and self._pattern.search(text) is None:
            return
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        hits = [n for n, line in enumerate(lines) if self._pattern.search(line)]
        if not hits:
            return
        if self._names_only:
            yield f"{path}\0"
            return
        if nul < 0 or not is_named:
            yield from self._shown(path, lines, hits)
        if nul >= 0:
            yield f"{path}: {_MATCHES if is_named else _STOPPED}\n"

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
                yield f"{path}\0{number + 1}{mark}{self._beginning(lines[number])}\n"
                last = number
                self._any_shown = True

    def _beginning(self, line: str) -> str:
        cut = len(line) > self._line_max
        return f"{line[: self._line_max]} [... omitted end of long line]" if cut else line


def _as_utf8(data: bytes) -> bytes:
    for mark, codec in MARKS:
        if data.startswith(mark):
            return codec.decode(data[len(mark) :], "replace")[0].encode("utf-8", "replace")
    return data.removeprefix(_UTF8_MARK)
