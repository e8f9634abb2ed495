"""Events aren't gone by where names aren't told apart by case."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_mcp.snapshots import folding
from nono_mcp.snapshots.watch import Watcher
from tests import folding as folders

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.linux
FLAGS = (0x4008_0000).to_bytes(8, "little")


@pytest.fixture(params=folders.DIRECTORIES)
def folds(request: pytest.FixtureRequest) -> Iterator[Path]:
    at = Path(tempfile.mkdtemp(prefix="work-", dir=request.param))
    yield at
    shutil.rmtree(at)


def is_relied_on(directory: Path) -> bool:
    watcher = Watcher(str(directory))
    try:
        watcher.take()
        return watcher.take() is not None
    finally:
        watcher.close()


def is_folding(directory: Path) -> bool:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return folding.is_told_to(fd) or folding.is_by_nature(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("names", [(), ("1",), ("a", "1"), ("a", "A")])
def test_where_names_are_told_apart_events_are_gone_by(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    (tmp_path / "work").mkdir()
    for name in names:
        if (tmp_path / "work" / "a").exists():
            (tmp_path / "work" / name).hardlink_to(tmp_path / "work" / "a")
        else:
            (tmp_path / "work" / name).touch()
    assert not is_folding(tmp_path / "work")
    assert is_relied_on(tmp_path / "work")


@pytest.mark.parametrize("told", ["work", "sub"])
def test_a_directory_that_is_told_to_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    """Its flag is what the kernel would say; this one may have no such directories."""
    (tmp_path / "work" / "sub").mkdir(parents=True)
    one = (tmp_path / "work" if told == "work" else tmp_path / "work" / told).stat()

    def flags(fd: int, number: int, room: bytes) -> bytes:
        assert (number, len(room)) == (0x80086601, 8)
        return FLAGS if os.path.samestat(os.fstat(fd), one) else bytes(8)

    monkeypatch.setattr("fcntl.ioctl", flags)
    assert not is_relied_on(tmp_path / "work")


@pytest.mark.folding
@pytest.mark.parametrize("name", ["", "1", "a", "Sub/"])
def test_where_they_arent_it_is_looked_at(folds: Path, name: str) -> None:
    if name:
        (folds / name).mkdir() if name.endswith("/") else (folds / name).touch()
    assert is_folding(folds)
    assert not is_relied_on(folds)
