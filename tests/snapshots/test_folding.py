"""Events aren't gone by where names aren't told apart by case."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_mcp.snapshots import folding
from nono_mcp.snapshots.difference import Comparison
from nono_mcp.snapshots.snapshots import Snapshots
from nono_mcp.snapshots.steps import ENTER, LEAVE
from nono_mcp.snapshots.store import Store
from nono_mcp.snapshots.watch import Watcher
from tests import folding as folders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.snapshots.state import Place

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


RENAMED = "mv A.txt t; mv t a.TXT; echo two >> a.TXT; mv Dir t; mv t DIR; mv DIR/F t; mv t DIR/f"
TURNED = "rm b; mkdir t; mv t B; touch B/x; rm -r C; echo c > c"


def listed(root: Path) -> dict[str, bytes]:
    """Return what is there as it's listed, and what each file holds."""
    paths = {str(path.relative_to(root)): path for path in root.rglob("*")}
    return {name: path.read_bytes() if path.is_file() else b"" for name, path in paths.items()}


def prepared(workspace: Path) -> None:
    for name in ("Dir", "C"):
        (workspace / name).mkdir()
    for name in ("A.txt", "Dir/F", "Dir/G", "b", "C/in"):
        (workspace / name).write_text(name)


def test_what_goes_from_a_directory_goes_before_anything_comes(place: Place) -> None:
    """No name is there yet when it comes, though all spellings of it be one name."""
    prepared(place.workspace)
    with place.open() as snapshots:
        old = snapshots.take("auto").root
        was = {one.casefold() for one in listed(place.workspace)}
        subprocess.run(["sh", "-ec", f"{RENAMED}; {TURNED}"], cwd=place.workspace, check=True)
        there = {one.casefold() for one in listed(place.workspace)}
        new = snapshots.take("auto").root
    with Store(str(place.state)) as store:
        comparison = Comparison(store.objects, bytes.fromhex(new), bytes.fromhex(old))
        steps = list(comparison.steps_to_do())
        told = [(one.what, one.node.path()) for one in comparison.steps()]
    assert sorted((one.what, one.node.path()) for one in steps) == sorted(told)
    removed = 0
    for step in steps:
        path = step.node.path().decode().casefold()
        if step.before is not None and step.after is None and step.what != ENTER:
            assert path in there
            there.remove(path)
            removed += 1
        elif step.before is None and step.what != LEAVE:
            assert path not in there
            there.add(path)
    assert removed == 7
    assert there == was


@pytest.mark.folding
@pytest.mark.parametrize("act", [RENAMED, TURNED, f"{RENAMED}; {TURNED}"])
def test_what_was_renamed_in_case_alone_is_brought_back_at_once(
    tmp_path: Path, folds: Path, act: str
) -> None:
    prepared(folds)
    was = listed(folds)
    with Snapshots.open(str(tmp_path / "state"), str(folds)) as snapshots:
        taken = snapshots.take("auto")
        subprocess.run(["sh", "-ec", act], cwd=folds, check=True)
        assert listed(folds) != was
        outcome = snapshots.restore(snapshots.plan(taken.id))
        assert outcome.verified, outcome.conflicts
        assert outcome.conflicts == ()
    assert listed(folds) == was
