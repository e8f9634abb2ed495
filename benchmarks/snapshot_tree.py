"""A tree to keep: this machine's own sources and headers, copied as often as it takes."""

import os
from collections.abc import Iterator
from pathlib import Path

SOURCES = (Path(os.__file__).parent, Path("/usr/include"), Path("/usr/share/perl"))
SUFFIXES = {".c", ".h", ".hpp", ".js", ".json", ".md", ".pl", ".pm", ".py", ".pyi", ".rst", ".txt"}
FILE_BYTES_MAX = 1 << 20


def sources() -> Iterator[Path]:
    """Yield files of text, over and over."""
    found = [
        path
        for top in SOURCES
        if top.is_dir()
        for path in sorted(top.rglob("*"))
        if path.suffix in SUFFIXES and path.is_file() and path.stat().st_size <= FILE_BYTES_MAX
    ]
    while found:
        yield from found


def populate(top: Path, count: int) -> tuple[list[Path], int]:
    """Fill *top* with *count* files, no two the same, and return them and their bytes."""
    total, made = 0, []
    for number, source in zip(range(count), sources(), strict=False):
        directory = top / f"{number // 800:03}" / f"{number // 8 % 100:02}"
        directory.mkdir(parents=True, exist_ok=True)
        content = b"// %d\n" % number + source.read_bytes()
        made.append(directory / f"{number}{source.suffix}")
        made[-1].write_bytes(content)
        total += len(content)
    return sorted(made), total
