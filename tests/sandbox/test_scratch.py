from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from nono_sandbox import scratch


def test_nobody_else_can_enter_it(tmp_path: Path) -> None:
    made = Path(scratch.make(str(tmp_path)))
    assert made.parent == tmp_path
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_each_is_another(tmp_path: Path) -> None:
    assert scratch.make(str(tmp_path)) != scratch.make(str(tmp_path))


def test_all_in_it_is_removed_and_nothing_else(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "kept").mkdir(parents=True)
    (outside / "file").write_text("kept")
    made = Path(scratch.make(str(tmp_path)))
    (made / "a/b/c").mkdir(parents=True)
    (made / "a/b/c/file").touch()
    (made / "a/link").symlink_to(outside)
    (made / "link").symlink_to(outside / "kept")
    (made / "dangling").symlink_to("nowhere")
    (made / "hard").hardlink_to(outside / "file")
    os.mkfifo(made / "fifo")
    # macOS has no names that aren't UTF-8.
    (made / os.fsdecode(b"\xff\n" if sys.platform == "linux" else b"\n")).touch()
    scratch.remove(str(made))
    assert not made.exists()
    assert (outside / "file").read_text() == "kept"
    assert (outside / "kept").is_dir()


def test_what_nobody_may_enter_is_removed(tmp_path: Path) -> None:
    made = Path(scratch.make(str(tmp_path)))
    (made / "a/b").mkdir(parents=True)
    (made / "a/b/file").touch()
    (made / "a/b").chmod(0)
    (made / "a").chmod(0)
    scratch.remove(str(made))
    assert not made.exists()


def test_no_depth_is_too_deep(tmp_path: Path) -> None:
    made = scratch.make(str(tmp_path))
    fd = os.open(made, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    scratch.remove(made)
    assert not Path(made).exists()


def test_a_symlink_in_its_place_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "kept").mkdir(parents=True)
    (tmp_path / "link").symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        scratch.remove(str(tmp_path / "link"))
    assert (outside / "kept").is_dir()
