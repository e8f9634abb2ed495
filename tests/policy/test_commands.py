from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nono_mcp.policy.document import CommandsSection, Document
from nono_mcp.policy.errors import PolicyError
from nono_sandbox.confinement import LANDLOCK, NAMESPACES, READ, WRITE

if TYPE_CHECKING:
    from pathlib import Path

    from nono_mcp.policy.request import Prepared
    from tests.policy.conftest import Machine


@pytest.fixture
def programs(machine: Machine) -> Path:
    directory = machine.root / "programs"
    directory.mkdir()
    for name in ("tool", "other"):
        (directory / name).write_text("#!/bin/sh\n")
        (directory / name).chmod(0o755)
    return directory


def prepare(
    machine: Machine, programs: Path, *names: str, tier: str = NAMESPACES, **changes: object
) -> Prepared:
    flags = machine.flags(read=(str(programs),))
    flags = flags.replace(commands=CommandsSection(blocked=names))
    environ = {"PATH": f"{programs}:/usr/bin:/bin"}
    return machine.prepare(flags=flags, environ=environ, tier=tier, **changes)


def test_a_command_is_closed_by_each_of_its_names(machine: Machine, programs: Path) -> None:
    (programs / "twin").hardlink_to(programs / "tool")
    (programs / "alias-of-tool").symlink_to("tool")
    prepared = prepare(machine, programs, "alias-of-tool")
    found = {one.path: one for one in prepared.confinement.denials if one.says}
    assert set(found) == {f"{programs}/tool", f"{programs}/twin"}
    assert {one.access for one in found.values()} == {READ | WRITE}
    assert "alias-of-tool is blocked" in found[f"{programs}/tool"].says
    assert "blocks tool, twin too" in prepared.notices[-1]


def test_without_namespaces_path_leads_to_what_says_so(machine: Machine, programs: Path) -> None:
    tmpdir = machine.root / "tmp"
    tmpdir.mkdir()
    prepared = prepare(machine, programs, "tool", tier=LANDLOCK, tmpdir=str(tmpdir))
    granted = {grant.path for grant in prepared.confinement.grants}
    assert f"{programs}/other" in granted
    assert not {str(programs), f"{programs}/tool"} & granted
    path = dict(prepared.confinement.environment)["PATH"]
    assert path.split(":")[:2] == [f"{tmpdir}/.nono-blocked", str(programs)]
    assert [name for name, _ in prepared.blocked] == ["tool"]


def test_many_programs_in_one_are_blocked_by_path_alone(machine: Machine, programs: Path) -> None:
    for number in range(9):
        (programs / f"program{number}").symlink_to("tool")
    with pytest.raises(PolicyError, match="is 9 other commands as well"):
        prepare(machine, programs, "program1")
    prepared = prepare(machine, programs, f"{programs}/tool")
    assert [one.path for one in prepared.confinement.denials if one.says] == [f"{programs}/tool"]


def test_a_profile_may_block_what_isnt_there(machine: Machine) -> None:
    machine.profile("mine", '[commands]\nblocked = ["no-such-command"]\n')
    prepared = machine.prepare(profile="mine")
    assert not [one for one in prepared.confinement.denials if one.says]


def test_what_one_layer_blocks_another_doesnt_let_run(machine: Machine, programs: Path) -> None:
    machine.profile("mine", '[commands]\nblocked = ["rm"]\n')
    prepared = prepare(machine, programs, "tool", profile="mine")
    assert {name for name, _ in prepared.blocked} == {"rm", "tool"}
    assert Document().commands.blocked == ()
