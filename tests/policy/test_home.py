from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_mcp.policy import home
from nono_mcp.policy.errors import PolicyError
from nono_sandbox.confinement import LANDLOCK, NAMESPACES
from tests.policy.conftest import give_away

if TYPE_CHECKING:
    from nono_mcp.policy.request import Prepared
    from tests.policy.conftest import Machine


def made(prepared: Prepared) -> Path:
    home.ensure(prepared)
    assert prepared.private_home is not None
    return Path(prepared.private_home)


def test_it_is_made_private_and_made_once(machine: Machine) -> None:
    prepared = machine.prepare()
    path = made(prepared)
    for directory in (path, path.parent, machine.state):
        assert directory.stat().st_mode & 0o777 == 0o700
    (path / "cache").touch()
    assert made(prepared) == path
    assert (path / "cache").exists()


def test_without_a_private_home_nothing_is_made(machine: Machine) -> None:
    prepared = machine.prepare(flags=machine.flags(read=("~",)))
    home.ensure(prepared)
    assert not (machine.state / "homes").exists()


def test_who_makes_a_commit_is_taken_over_and_nothing_else(machine: Machine) -> None:
    machine.write(
        ".gitconfig",
        '[user]\n\tname = Ada Lovelace\n\temail = "ada@example.org"\n\tsigningkey = K\n'
        "[credential]\n\thelper = store\n\tname = x\n"
        '[url "https://token@host"]\n\tinsteadOf = h:\n',
    )
    machine.write(".config/git/config", "[USER]\nname = Someone Else\n")
    path = made(machine.prepare())
    assert (path / ".gitconfig").read_text() == (
        '[user]\n\tname = "Ada Lovelace"\n\temail = "ada@example.org"\n'
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[user]\nname =\n",
        '[user]\nname = a"b\n',
        "[user]\nname = a\\\n",
        "[user]\nname = a # b\n",
        "[user]\nname = a\x1b[31m\n",
        '[user "x"]\nname = a\n',
        "name = a\n",
        "[user]\nname\n",
    ],
)
def test_a_name_that_isnt_plain_is_left_out(machine: Machine, text: str) -> None:
    machine.write(".gitconfig", text)
    assert (made(machine.prepare()) / ".gitconfig").read_text() == ""


def test_settings_that_cant_be_read_are_none(machine: Machine) -> None:
    machine.write(".gitconfig").write_bytes(b"[user]\nname = \xff\n")
    os.mkfifo(machine.home / "fifo")
    machine.write(".config/git/config").unlink()
    (machine.home / ".config/git/config").symlink_to(machine.home / "fifo")
    assert (made(machine.prepare()) / ".gitconfig").read_text() == ""


def test_without_namespaces_grants_are_found_by_symlinks(machine: Machine) -> None:
    machine.write("data/nested/x")
    machine.write(".config/tool/conf")
    machine.write(".claude.json")
    flags = machine.flags(
        read=("~/data", "~/.config/tool"),
        allow=("~/data/nested",),
        bypass=("~/.claude.json",),
        read_file=("~/.claude.json",),
    )
    path = made(machine.prepare(tier=LANDLOCK, flags=flags))
    assert (path / "data").readlink() == machine.home / "data"
    assert (path / ".config/tool").readlink() == machine.home / ".config/tool"
    assert (path / ".claude.json").readlink() == machine.home / ".claude.json"
    assert not (path / ".config").is_symlink()
    assert not (path / ".local").exists(), "it leads to itself"


def test_the_persons_symlinks_are_repeated_in_it(machine: Machine) -> None:
    (machine.home / "project").symlink_to(machine.workspace)
    path = made(machine.prepare(workspace=f"{machine.home}/project"))
    assert (path / "project").readlink() == machine.workspace


def test_what_a_worker_planted_leads_nowhere_else(machine: Machine) -> None:
    machine.write(".config/tool/conf")
    machine.write("data/x")
    flags = machine.flags(read=("~/.config/tool", "~/data"))
    prepared = machine.prepare(tier=LANDLOCK, flags=flags)
    assert prepared.private_home is not None
    path = Path(prepared.private_home)
    outside = machine.root / "outside"
    outside.mkdir()
    path.mkdir(parents=True, mode=0o700)
    # A worker wrote here before: each name that will be made leads outside.
    (path / ".config").symlink_to(outside)
    (path / ".gitconfig").symlink_to(outside / "written")
    (path / "data").mkdir()
    assert made(prepared) == path
    assert list(outside.iterdir()) == []
    assert (path / "data").is_dir()
    assert not (path / "data").is_symlink()


def test_a_symlink_in_its_place_is_refused(machine: Machine) -> None:
    prepared = machine.prepare()
    assert prepared.private_home is not None
    path = Path(prepared.private_home)
    path.parent.mkdir(parents=True)
    path.symlink_to(machine.workspace)
    with pytest.raises(OSError, match=r"directory|symbolic"):
        home.ensure(prepared)


def test_a_home_that_others_could_enter_is_closed(machine: Machine) -> None:
    prepared = machine.prepare()
    path = made(prepared)
    path.chmod(0o777)
    home.ensure(prepared)
    assert path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0, 0o300, 0o500])
@pytest.mark.parametrize("tier", [NAMESPACES, LANDLOCK])
def test_what_a_call_shut_is_opened_again(machine: Machine, tier: str, mode: int) -> None:
    machine.write(".config/tool/conf")
    prepared = machine.prepare(tier=tier, flags=machine.flags(read=("~/.config/tool",)))
    path = made(prepared)
    (path / ".config").mkdir(exist_ok=True)
    (path / ".config").chmod(mode)
    path.chmod(mode)
    home.ensure(prepared)
    assert path.stat().st_mode & 0o777 == 0o700


def test_somebody_elses_home_is_refused(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = machine.prepare()
    give_away(made(prepared), monkeypatch)
    with pytest.raises(PolicyError, match="belongs to somebody else"):
        home.ensure(prepared)
