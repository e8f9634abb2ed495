"""What is told of a tree changes whenever that does, however much is in it."""

from __future__ import annotations

import os
import subprocess
import tracemalloc
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from nono_mcp.guard import tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.linux

MANY = tree.PRINTED_MAX + 500
BYTES_MAX = 2000
"""Of a print of many files, which took over 100 each, one by one."""


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Return a directory of many files, in one of its own with others."""
    inner = tmp_path / "hooks" / "many"
    inner.mkdir(parents=True)
    (tmp_path / "hooks" / "zone").mkdir()
    (tmp_path / "hooks" / "zone" / "file").write_text("1")
    (inner / "0").touch()
    for number in range(1, MANY):
        os.link(inner / "0", inner / str(number))
    return inner


def test_of_many_files_little_is_held(many: Path) -> None:
    with opened(many.parent.parent) as parent:
        tree.look("hooks", parent)
        tracemalloc.start()
        try:
            found = tree.look("hooks", parent)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(repr(found)) < BYTES_MAX
        assert held < 4 * BYTES_MAX
        assert found == tree.look("hooks", parent)
        assert tree.is_same(found, str(many.parent))


def test_each_of_many_files_counts(many: Path) -> None:
    def replaced() -> None:
        (many / "7").unlink()
        (many / "7").touch()

    changes = (
        replaced,
        lambda: (many / "7").write_text("2"),
        (many / "new").touch,
        lambda: (many / "new").rename(many / "newer"),
        (many / "newer").unlink,
        lambda: (many.parent / "zone" / "file").write_text("2"),
        lambda: (many.parent / "zone").chmod(0o700),
        (many / "8").unlink,
        lambda: (many / "8").symlink_to("7"),
    )
    with opened(many.parent.parent) as parent:
        before = tree.look("hooks", parent)
        for change in changes:
            change()
            assert not tree.is_same(before, str(many.parent))
            after = tree.look("hooks", parent)
            assert after != before
            before = after


def test_a_hook_that_is_a_program_is_kept_whole(tmp_path: Path) -> None:
    hook, size = tmp_path / "pre-push", 10 * 1024**2
    hook.write_bytes(b"mine")
    os.truncate(hook, size)
    with opened(tmp_path) as parent:
        kept = tree.keep("pre-push", parent)
        assert kept is not None
        assert kept.is_whole
        hook.unlink()
        tree.put_back(kept, "pre-push", parent)
    assert (hook.stat().st_size, hook.read_bytes()[:5]) == (size, b"mine\0")


def test_what_is_a_pipe_by_the_time_it_is_opened_isnt_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes to it may never do, and reading says so by no bytes at all."""
    (tmp_path / "file").write_text("mine")
    opened_first = os.open
    writers: list[int] = []

    def opening(name: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if name == "file" and not writers:
            (tmp_path / name).unlink()
            os.mkfifo(tmp_path / name)
            writers.append(opened_first(tmp_path / name, os.O_RDWR))
        return opened_first(name, flags, mode, dir_fd=dir_fd)

    with opened(tmp_path) as parent:
        monkeypatch.setattr("posix.open", opening)
        kept = tree.keep("file", parent)
    monkeypatch.undo()
    os.close(writers.pop())
    assert kept is not None
    assert (kept.kind, kept.is_whole) == ("other", False)


def test_what_grows_while_it_is_read_isnt_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    status_of = os.fstat

    def growing(fd: int) -> os.stat_result:
        status = status_of(fd)
        os.truncate(tmp_path / "file", tree.BYTES_MAX)
        return status

    with opened(tmp_path) as parent:
        monkeypatch.setattr("posix.fstat", growing)
        kept = tree.keep("file", parent)
    monkeypatch.undo()
    assert kept is not None
    assert not kept.is_whole
    assert len(kept.data) <= len("mine") + 1


def test_what_is_deeper_than_is_looked_into_is_told_from_outside(tmp_path: Path) -> None:
    """Or each level would hold another descriptor, and the stack another frame."""
    root = at = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(1200):
            os.mkdir("d", dir_fd=at)
            below = os.open("d", os.O_RDONLY, dir_fd=at)
            if at != root:
                os.close(at)
            at = below
        os.close(at)
        assert tree.look("d", root) == tree.look("d", root)
        kept = tree.keep("d", root)
        assert kept is not None
        assert not kept.is_whole
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)
        os.close(root)
