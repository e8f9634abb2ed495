from __future__ import annotations

import errno
import os
import socket
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from nono_mcp.policy.resolve import children, is_out_of_reach, names, private, resolve
from nono_sandbox.confinement import Link

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = [
    b"a b",
    b"it's",
    b'"',
    b"a\nb",
    # macOS has no names that aren't UTF-8.
    pytest.param(b"\xff\xfe", marks=pytest.mark.linux),
    b"-rf",
    b"*",
    b"$HOME",
    b"a (deleted)",
    b"%",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path.resolve()


def identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_a_name(root: Path, name: bytes) -> None:
    path = root / os.fsdecode(name)
    path.mkdir()
    place = resolve(str(path))
    assert (place.path, place.kind, place.links) == (str(path), "directory", ())
    assert place.identity == identity(path)


def test_what_stands_there_is_told_apart(root: Path) -> None:
    os.mkfifo(root / "fifo")
    (root / "file").touch()
    kinds = {name: resolve(f"{root}/{name}").kind for name in ("", "file", "fifo", "none")}
    assert kinds == {"": "directory", "file": "file", "fifo": "other", "none": ""}


def test_what_is_never_opened_is_looked_at_by_its_names(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a socket is on macOS; where nothing stands, there is nothing."""

    def refused(*_: object, **__: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported on socket")

    (root / "place").mkdir()
    (root / "way").symlink_to("place")
    with socket.socket(socket.AF_UNIX) as one:
        monkeypatch.chdir(root / "place")
        one.bind("s")
    monkeypatch.setattr(os, "open", refused)
    place = resolve(f"{root}/way/s")
    assert (place.path, place.kind) == (f"{root}/place/s", "other")
    assert place.identity == identity(root / "place" / "s")
    assert place.links == (Link(f"{root}/way", "place"),)
    assert resolve(f"{root}/none").errno == errno.EOPNOTSUPP


def test_a_symlink_is_judged_by_where_it_leads(root: Path) -> None:
    (root / "data/proj/src").mkdir(parents=True)
    (root / "d").symlink_to("data")
    (root / "p").symlink_to(root / "d/proj")
    place = resolve(f"{root}/p/src/../src/")
    assert place.path == f"{root}/data/proj/src"
    assert place.identity == identity(root / "data/proj/src")
    assert place.links == (Link(f"{root}/p", f"{root}/d/proj"), Link(f"{root}/d", "data"))


def test_dots_go_by_what_is_there_and_not_by_the_text(root: Path) -> None:
    (root / "a/b").mkdir(parents=True)
    (root / "elsewhere/deep").mkdir(parents=True)
    (root / "a/link").symlink_to(root / "elsewhere/deep")
    assert resolve(f"{root}/a/link/..").path == f"{root}/elsewhere"
    assert resolve(f"{root}/a/b/../b").path == f"{root}/a/b"
    assert resolve("/../..").path == "/"


def test_what_is_absent_is_where_it_would_be(root: Path) -> None:
    (root / "data").mkdir()
    (root / "d").symlink_to("data")
    (root / "dangling").symlink_to("data/gone")
    absent = resolve(f"{root}/d/x/y")
    assert (absent.path, absent.kind, absent.errno) == (f"{root}/data/x/y", "", errno.ENOENT)
    assert absent.identity is None
    dangling = resolve(f"{root}/dangling")
    assert (dangling.path, dangling.kind) == (f"{root}/data/gone", "")


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("loop/x", errno.ELOOP),
        ("file/x", errno.ENOTDIR),
        ("x" * 300, errno.ENAMETOOLONG),
        ("a\0b", errno.EINVAL),
        ("a\ud800b", errno.EINVAL),
    ],
)
def test_what_cant_be_opened_says_why(root: Path, path: str, number: int) -> None:
    (root / "loop").symlink_to("loop")
    (root / "file").touch()
    place = resolve(f"{root}/{path}")
    assert (place.kind, place.errno, place.identity) == ("", number, None)


def test_a_removed_directory_isnt_mistaken_for_its_name(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "x").mkdir()
    monkeypatch.chdir(root / "x")
    (root / "x").rmdir()
    # The kernel calls the removed directory "x (deleted)", which is another one's name.
    (root / "x (deleted)").mkdir()
    place = resolve("/proc/self/cwd")
    assert (place.kind, place.errno) == ("", errno.ENOENT)


def test_children_are_listed_without_symlinks(root: Path) -> None:
    (root / "directory").mkdir()
    (root / "file").touch()
    (root / "link").symlink_to("file")
    found = {place.path: place for place in children(str(root))}
    assert set(found) == {f"{root}/directory", f"{root}/file"}
    assert found[f"{root}/file"].identity == identity(root / "file")
    assert found[f"{root}/directory"].kind == "directory"


def test_names_tell_absent_from_unlistable(root: Path) -> None:
    (root / "file").touch()
    assert names(str(root)) == ("file",)
    assert names(f"{root}/none") == ()
    assert names(f"{root}/file") == ()
    (root / "loop").symlink_to("loop")
    assert names(f"{root}/loop") is None


def test_what_isnt_for_everybody_is_private(root: Path) -> None:
    for name, mode in (("open", 0o644), ("group", 0o640), ("own", 0o600), ("put", 0o622)):
        (root / name).touch()
        (root / name).chmod(mode)
    (root / "directory").mkdir(mode=0o700)
    (root / "link").symlink_to("own")
    found = {place.path: place.kind for place in private(str(root))}
    assert found == {
        f"{root}/group": "file",
        f"{root}/own": "file",
        f"{root}/put": "file",
        f"{root}/directory": "directory",
    }


def test_what_is_ones_own_is_in_reach_whatever_its_mode(root: Path) -> None:
    (root / "own").touch(mode=0)
    (root / "own").chmod(0)
    place = resolve(f"{root}/own")
    assert not is_out_of_reach(place)
    (root / "own").unlink()
    assert is_out_of_reach(place)
    assert not is_out_of_reach(resolve("/etc/passwd"))


def test_what_goes_while_it_is_looked_at_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("group.123", "shadow"):
        (tmp_path / name).touch(0o600)
    with os.scandir(tmp_path) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    (tmp_path / "group.123").unlink()
    monkeypatch.setattr(os, "scandir", lambda _: nullcontext(found))
    assert [one.path for one in private(str(tmp_path))] == [str(tmp_path / "shadow")]
