"""The log's files as they were at one moment, to be read while others append."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

from nono_mcp.audit import files


@dataclass(slots=True)
class Segment:
    """One segment, open; what was appended after *size_bytes* isn't looked at."""

    name: str
    fd: int
    size_bytes: int


@dataclass(slots=True)
class LogFiles:
    """All segments, oldest first, and the lines of `pruned.jsonl`."""

    segments: list[Segment] = field(default_factory=list)
    pruned: list[bytes] = field(default_factory=list)

    @classmethod
    def open(cls, directory: str) -> Self:
        """Open the files of the log in *directory*, which may be a copy with other modes.

        Raises:
            FileNotFoundError: There's no such directory.
            AuditPathError: A file in it is a symlink or no regular file.
        """
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        dir_fd = os.open(directory, flags)
        found = cls()
        try:
            # Held for a moment only: whole lines, and no removal between listing and opening.
            with files.locked(dir_fd, fcntl.LOCK_SH):
                for name in files.segments(dir_fd):
                    fd = files.open_file(dir_fd, name, judged=False)
                    found.segments.append(Segment(name, fd, os.fstat(fd).st_size))
                with contextlib.suppress(FileNotFoundError):
                    pruned = files.read_file(
                        dir_fd, files.PRUNED, files.PRUNED_BYTES_MAX, judged=False
                    )
                    found.pruned = [line + b"\n" for line in pruned.split(b"\n")[:-1]]
        except BaseException:
            found.close()
            raise
        finally:
            os.close(dir_fd)
        return found

    def close(self) -> None:
        """Let go of the files."""
        for segment in self.segments:
            os.close(segment.fd)
        self.segments = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def forward(self) -> Iterator[bytes]:
        """Yield every whole line, oldest first."""
        for segment in self.segments:
            for line in files.lines_forward(segment.fd, 0, segment.size_bytes):
                if line.endswith(b"\n"):
                    yield line

    def backward(self, before: int | None = None) -> Iterator[bytes]:
        """Yield every whole line, newest first; with *before*, those of lower seq, roughly.

        Segments that begin at *before* or later are left out without being read.
        """
        for segment in reversed(self.segments):
            if before is not None and files.first_seq(segment.name) >= before:
                continue
            for _, line in files.lines_backward(segment.fd, segment.size_bytes):
                if line.endswith(b"\n"):
                    yield line
