"""Some lines of files of every kind and size."""

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from nono_sandbox import builtin
from nono_sandbox.builtin import reading

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def read(
    path: Path, offset: int = 1, limit: int = 1000, bytes_max: int = 10_000
) -> tuple[dict[str, Any], bytes]:
    request = {"path": str(path), "offset": offset, "limit": limit, "bytes_max": bytes_max}
    header, body = builtin.answer("read_file", request)
    return header, body


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.mark.parametrize(
    ("content", "asked", "body", "place"),
    [
        (b"", (1, 9), b"", (1, 0)),
        (b"a\nb\nc\n", (1, 9), b"a\nb\nc\n", (1, 3)),
        (b"a\nb\nc", (1, 9), b"a\nb\nc", (1, 3)),
        (b"a\nb\nc\n", (2, 1), b"b\n", (2, 3)),
        (b"a\nb\nc", (3, 1), b"c", (3, 3)),
        (b"a\nb\nc", (4, 1), b"", (4, 3)),
        (b"a\nb\nc\n", (4, 1), b"", (4, 3)),
        (b"\n\n\n", (2, 1), b"\n", (2, 3)),
        (b"a\nb\nc\n", (-1, 9), b"c\n", (3, 3)),
        (b"a\nb\nc", (-2, 9), b"b\nc", (2, 3)),
        (b"a\nb\nc", (-9, 9), b"a\nb\nc", (1, 3)),
        (b"a\nb\nc", (-9, 1), b"c", (3, 3)),
        (b"", (-1, 9), b"", (1, 0)),
    ],
)
def test_lines_are_counted_from_either_end(
    file: Path, content: bytes, asked: tuple[int, int], body: bytes, place: tuple[int, int]
) -> None:
    file.write_bytes(content)
    header, got = read(file, *asked)
    assert (got, (header["first"], header["lines"])) == (body, place)
    assert header["count"] == len(body.splitlines())


def test_every_line_of_a_large_file_is_found_again(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small enough that lines stand across the pieces that are read.
    monkeypatch.setattr(reading, "_CHUNK_BYTES", 7)
    lines = [b"x" * (n % 23) + b"\n" for n in range(200)]
    file.write_bytes(b"".join(lines) + b"end")
    for number, line in enumerate([*lines, b"end"], 1):
        header, body = read(file, number, 1)
        assert (body, header["count"], header["lines"]) == (line, 1, 201)
    assert read(file, 202, 1)[0]["lines"] == 201


def test_a_page_is_whole_lines_and_a_line_without_end_is_cut(file: Path) -> None:
    file.write_bytes(b"short\n" + b"x" * 50_000 + b"\nlast\n")
    header, body = read(file, 1)
    assert (body, header["count"], header["cut"]) == (b"short\n", 1, False)
    header, body = read(file, 2)
    assert (body, header["count"], header["cut"]) == (b"x" * 10_000, 1, True)
    assert header["lines"] == 3
    header, body = read(file, 3)
    assert body == b"last\n"
    file.write_bytes(b"x" * 50_000)
    header, body = read(file, -1)
    assert (len(body), header["cut"]) == (10_000, True)


def test_a_huge_file_costs_what_is_asked_of_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SCAN_BYTES_MAX", 1 << 20)
    with file.open("wb") as stream:
        stream.write(b"first\nsecond\n" + b"and so on\n" * 1000)
        stream.truncate(1 << 40)
        stream.seek(-6, os.SEEK_END)
        stream.write(b"\nlast\n")
    header, body = read(file, 2, 1)
    assert body == b"second\n"
    assert "lines" not in header
    header, body = read(file, -1, 1)
    assert body == b"last\n"
    assert "first" not in header


def test_other_encodings_are_told_by_their_mark(file: Path) -> None:
    file.write_bytes("é\nzwei\n".encode("utf-16"))
    header, body = read(file, 1, 1)
    assert (header["kind"], header["encoding"], body.decode()) == ("text", "utf-16-le", "é\n")
    assert header["lines"] == 2
    file.write_bytes(b"caf\xe9\n")
    assert read(file)[1] == b"caf\xe9\n"


def test_images_come_whole_and_other_binaries_not_at_all(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_bytes(PNG)
    header, body = read(file)
    assert (header["kind"], header["mime_type"], body) == ("image", "image/png", PNG)
    file.write_bytes(b"RIFF....WEBPVP8 ")
    assert read(file)[0]["mime_type"] == "image/webp"
    file.write_bytes(b"\x7fELF\0\0")
    header, body = read(file)
    assert (header["kind"], body) == ("binary", b"")
    monkeypatch.setattr(reading, "IMAGE_BYTES_MAX", 10)
    file.write_bytes(PNG)
    header, body = read(file)
    assert (header["kind"], body) == ("image", b"")


def test_what_is_no_file_is_neither_read_nor_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    (tmp_path / "link").symlink_to("fifo")
    for name in ("fifo", "socket", "link", "/dev/zero", "/dev/tty"):
        assert "no regular file" in read(tmp_path / name)[0]["error"]
    assert "list_directory" in read(tmp_path)[0]["error"]
    (tmp_path / "loop").symlink_to("loop")
    for name in ("missing", "loop", "fifo/x"):
        assert "errno" in read(tmp_path / name)[0]


def test_many_last_lines_cost_no_more_than_their_number(file: Path) -> None:
    file.write_bytes(b"\n" * 200_000)
    began_at = time.process_time()
    assert read(file, offset=-1000, limit=1000)[0]["count"] == 1000
    few_s = time.process_time() - began_at
    header, body = read(file, offset=-100_000, limit=100_000, bytes_max=40_000)
    assert (header["first"], body) == (160_001, b"\n" * 40_000)
    # Most of it is the splitting, which is the same. By the square it is hundreds of times.
    assert time.process_time() - began_at - few_s < 30 * few_s
