"""Paths as they are written, where directories find a file by other spellings too."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nono_mcp.policy import shut, spelling
from nono_mcp.policy.effective_grants import given_up
from nono_mcp.policy.errors import PolicyError, RefusedError
from nono_mcp.policy.paths import Place
from nono_mcp.policy.protection import Catalogue, Protected, Protection
from nono_mcp.policy.resolve import resolve
from nono_mcp.policy.rules import FLAGS, Layer, Look, bypasses
from nono_sandbox.confinement import LANDLOCK, READ
from nono_sandbox.opath import LOOK
from tests.policy.views import denied, granted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.policy.conftest import Machine

pytestmark = pytest.mark.linux


@pytest.fixture
def folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory beneath which `os` finds what `spelling` asks for in any case."""
    lstat: Callable[[str], os.stat_result] = os.lstat
    listdir: Callable[[str], list[str]] = os.listdir

    def written(path: str) -> str:
        at = str(tmp_path)
        if not path.startswith(at):
            return path
        for name in path[len(at) :].split("/")[1:]:
            present = {one.casefold(): one for one in listdir(at)}
            at = f"{at}/{present.get(name.casefold(), name)}"
        return at

    monkeypatch.setattr(os, "lstat", lambda path: lstat(written(path)))
    monkeypatch.setattr(os, "listdir", lambda path: listdir(written(path)))
    return tmp_path


def test_a_path_is_as_it_is_listed(folds: Path) -> None:
    (folds / "Src" / "B").mkdir(parents=True)
    (folds / "Src" / "B" / ".ENV").touch()
    (folds / "Src" / "c").touch()
    asked = f"{folds}/src/b/.env"
    assert spelling.is_found_otherwise(asked, (folds / "Src" / "B" / ".ENV").stat())
    assert spelling.as_written(asked) == f"{folds}/Src/B/.ENV"
    assert spelling.as_written(f"{folds}/src/none") == f"{folds}/Src/none"


def test_a_name_without_letters_is_found_by_other_spellings_of_its_directory(folds: Path) -> None:
    (folds / "Src" / "1").mkdir(parents=True)
    (folds / "Src" / "1" / "2").touch()
    asked = f"{folds}/src/1/2"
    assert spelling.is_found_otherwise(asked, (folds / "Src" / "1" / "2").stat())
    assert spelling.as_written(asked) == f"{folds}/Src/1/2"


def test_where_names_are_told_apart_each_is_itself(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "A").touch()
    (tmp_path / "b").touch()
    (tmp_path / "B").hardlink_to(tmp_path / "b")
    for name in ("a", "A", "b", "B"):
        place = resolve(str(tmp_path / name))
        assert (place.path, place.is_loose) == (str(tmp_path / name), False)
        assert not spelling.is_found_otherwise(place.path, (tmp_path / name).lstat())


def test_what_a_mount_would_cover_by_one_spelling_alone_isnt_denied(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is what is guarded there mounted over; without namespaces it isn't granted."""
    secret = machine.root / "data" / ".env"
    secret.parent.mkdir()
    for file in (secret, secret.with_name("open"), machine.workspace / ".envrc"):
        file.touch()
    named = (secret.name, ".envrc")
    monkeypatch.setattr(
        spelling, "is_found_otherwise", lambda path, _: path.rpartition("/")[2] in named
    )
    monkeypatch.setattr(spelling, "is_loose", lambda *_: True)
    flags = machine.flags(read=(str(secret.parent),), deny=(str(secret),))
    with pytest.raises(RefusedError, match="other spellings") as caught:
        machine.prepare(flags=flags)
    assert caught.value.path == str(secret)
    assert f"{machine.workspace}/.envrc" not in denied(machine.prepare())
    found = granted(machine.prepare(tier=LANDLOCK, flags=flags))
    assert str(secret.with_name("open")) in found
    assert not {str(secret), str(secret.parent)} & {*found}


def test_what_the_kernel_names_by_each_spelling_is_loose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it has one name for all, what is mounted there is met by each of them."""
    for name in ("data", "DATA"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1").touch()
    location = f"{tmp_path}/data/1"
    descriptor = os.open(location, LOOK)
    try:
        assert spelling.is_loose(location, descriptor)
        opened: Callable[[str, int], int] = os.open
        monkeypatch.setattr(
            os, "open", lambda path, flags: opened(path.replace("DATA", "data"), flags)
        )
        assert not spelling.is_loose(location, descriptor)
    finally:
        os.close(descriptor)


def test_what_has_no_letters_has_no_other_spelling(tmp_path: Path) -> None:
    (tmp_path / "1").touch()
    assert not spelling.is_found_otherwise(str(tmp_path / "1"), (tmp_path / "1").lstat())
    assert not spelling.is_found_otherwise("/", os.lstat("/"))


def test_what_is_protected_is_given_up_by_the_name_that_is_listed(machine: Machine) -> None:
    """What looks for `.ssh` where `.Ssh` is listed finds that."""
    listed = machine.home / ".Ssh"
    found = Place(str(machine.home / ".ssh"), str(listed), "directory")
    kept = Protection((Protected(found, READ, "keys"),), (), Catalogue(str(machine.home), {}))

    def given(text: str) -> list[str]:
        flags = Layer("flags", machine.flags(bypass=(text,)), FLAGS)
        look = Look({}, str(machine.workspace), lambda path: Place(path, path, "file"))
        asked = bypasses([flags], look)
        return given_up(asked, lambda path: shut._protected_as(path, kept, ()), ())  # noqa: SLF001

    assert given(str(listed)) == [str(listed)]
    assert given(f"{listed}/config") == [f"{listed}/config"]
    with pytest.raises(PolicyError, match="not a protected path"):
        given(f"{listed}x")


def test_what_is_protected_is_given_up_where_it_leads_too(machine: Machine) -> None:
    """By the name that is protected, which may be a symlink to what isn't."""
    name, elsewhere = str(machine.home / ".aws"), str(machine.home / "clouds")

    def given(text: str) -> list[str]:
        flags = Layer("flags", machine.flags(bypass=(text,)), FLAGS)
        look = Look({}, str(machine.workspace), lambda path: Place(path, elsewhere, "directory"))
        asked = bypasses([flags], look)
        return given_up(asked, lambda path: path if path == name else "", ())

    assert given(name) == [elsewhere]
    with pytest.raises(PolicyError, match="not a protected path"):
        given(elsewhere)


def test_what_is_guarded_is_given_up_by_its_name_where_it_may_be_written(machine: Machine) -> None:
    path = machine.workspace / "sub" / ".envrc"
    path.parent.mkdir()
    path.touch()
    bypass = (str(path),)
    machine.prepare(flags=machine.flags(allow=("$WORKSPACE",), bypass=bypass))
    with pytest.raises(PolicyError, match="not a protected path"):
        machine.prepare(flags=machine.flags(bypass=(str(path.with_name("notes")),)))
