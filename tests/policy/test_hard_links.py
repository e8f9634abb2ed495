"""Other names of what is closed are found where they are, and looked for no further than needed."""

import os
import posix
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nono_mcp.policy import hard_links
from nono_sandbox.confinement import READ, WRITE

pytestmark = pytest.mark.linux


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A closed directory with a file in it, in a granted one with much else."""
    directory = tmp_path / "closed"
    directory.mkdir()
    (directory / "key").write_text("hunter2")
    (tmp_path / "open").mkdir()
    return directory


def found(tmp_path: Path, *closed: tuple[Path, int]) -> set[tuple[str, int]]:
    """Return which other names are found, and what is closed of each."""
    paths = tuple((str(path), access) for path, access in closed)
    twins = hard_links.find(paths, (str(tmp_path),))
    return {(os.path.relpath(path, tmp_path), access) for _, access, path, _ in twins}


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return where the directories will be told that are listed from now on."""
    listed: list[str] = []
    scandir = posix.scandir

    def scan(path: str) -> object:
        listed.append(path)
        return scandir(path)

    monkeypatch.setattr(posix, "scandir", scan)
    return listed


def test_nothing_granted_is_looked_through_for_a_file_all_of_whose_names_are_closed(
    closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (closed / "within").mkdir()
    (closed / "within" / "again").hardlink_to(closed / "key")
    listed = counting(monkeypatch)
    assert found(tmp_path, (closed, READ | WRITE)) == set()
    assert set(listed) == {str(closed), str(closed / "within")}
    (tmp_path / "open" / "third").hardlink_to(closed / "key")
    assert found(tmp_path, (closed, READ | WRITE)) == {("open/third", READ | WRITE)}


def test_a_name_that_is_closed_in_part_is_closed_as_far_as_the_others(
    closed: Path, tmp_path: Path
) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "key").hardlink_to(closed / "key")
    assert found(tmp_path, (closed, READ | WRITE), (hooks, WRITE)) == {("hooks/key", READ | WRITE)}
    assert found(tmp_path, (closed, WRITE), (hooks, WRITE)) == set()


def test_a_directory_with_two_paths_makes_no_second_link_of_a_file(
    closed: Path, tmp_path: Path
) -> None:
    """A symlink on the way stands in for a second mount, which not everybody can make."""
    (tmp_path / "open" / "copy").hardlink_to(closed / "key")
    (tmp_path / "mounted").symlink_to(tmp_path)
    again = tmp_path / "mounted" / "closed"
    both = found(tmp_path, (closed, READ | WRITE), (again, READ | WRITE))
    assert ("open/copy", READ | WRITE) in both


def test_a_closed_directory_that_cant_be_listed_says_nothing_of_other_files(
    closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of the system's keys: one of ours with another name elsewhere isn't told of then."""
    granted = tmp_path / "open"
    (tmp_path / "elsewhere").hardlink_to(closed / "key")
    (granted / "shut").mkdir()
    shut = tmp_path / "shut"
    scandir = posix.scandir

    def scan(path: str) -> object:
        if path.endswith("/shut"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(posix, "scandir", scan)
    shut.mkdir()
    sought = ((str(closed), READ), (str(shut), READ))
    (unsure,) = hard_links.find(sought, (str(granted),))
    assert unsure == (str(closed / "key"), READ, "", True)
    (granted / "shut").rmdir()
    assert hard_links.find(sought, (str(granted),)) == ()


def _remove(path: str) -> None:
    Path(path).unlink()


def _shut(path: str) -> None:
    raise PermissionError(13, "Permission denied", path)


@pytest.mark.parametrize("act", [_remove, _shut])
def test_what_cant_be_looked_at_any_more_is_passed_over(
    closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[str], None]
) -> None:
    """As other runs change our own state meanwhile, or in a directory that may only be listed."""
    (closed / "gone").touch()
    (tmp_path / "open" / "copy").hardlink_to(closed / "key")
    look = posix.lstat

    def lstat(path: str) -> os.stat_result:
        if path.endswith("/gone"):
            act(path)
        return look(path)

    monkeypatch.setattr(posix, "lstat", lstat)
    assert found(tmp_path, (closed, READ | WRITE)) == {("open/copy", READ | WRITE)}


class _Listed:
    """An entry as an overlay over several file systems lists it: by another number."""

    def __init__(self, entry: os.DirEntry[str]) -> None:
        self.path, self.name = entry.path, entry.name
        self.is_dir, self.is_file = entry.is_dir, entry.is_file

    def inode(self) -> int:
        return 0


def test_another_name_is_found_where_a_directory_lists_it_by_another_number(
    closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "open" / "copy").hardlink_to(closed / "key")
    look, scandir = posix.lstat, posix.scandir

    def lstat(path: str) -> os.stat_result:
        status = look(path)
        if stat.S_ISDIR(status.st_mode):
            return status
        return os.stat_result((*status[:2], status.st_dev + 1, *status[3:10]))

    @contextmanager
    def listed(path: str) -> Iterator[Iterator[_Listed]]:
        with scandir(path) as entries:
            yield map(_Listed, entries)

    monkeypatch.setattr(posix, "lstat", lstat)
    monkeypatch.setattr(posix, "scandir", listed)
    assert found(tmp_path, (closed, READ | WRITE)) == {("open/copy", READ | WRITE)}
