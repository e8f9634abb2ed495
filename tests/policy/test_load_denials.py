from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nono_mcp.policy.errors import RefusedError
from nono_sandbox.confinement import LANDLOCK, READ, WRITE
from tests.policy.views import denied, granted

if TYPE_CHECKING:
    from tests.policy.conftest import Machine


def test_a_denial_closes_a_part_of_a_grant(machine: Machine) -> None:
    (machine.workspace / ".env").write_text("hunter2")
    (machine.workspace / "hooks").mkdir()
    flags = machine.flags(deny=(".env",), deny_write=("hooks",))
    found = denied(machine.prepare(flags=flags))
    assert found[f"{machine.workspace}/.env"] == READ | WRITE
    assert found[f"{machine.workspace}/hooks"] == WRITE


def test_without_namespaces_it_is_refused_with_its_path_and_a_remedy(machine: Machine) -> None:
    (machine.workspace / ".env").write_text("hunter2")
    with pytest.raises(RefusedError) as caught:
        machine.prepare(tier=LANDLOCK, flags=machine.flags(deny=(".env",)))
    assert caught.value.path == f"{machine.workspace}/.env"
    assert caught.value.code == "tier.deny-inside-allow"
    assert "grant the directories beside it instead" in str(caught.value)


def test_without_namespaces_a_readable_directory_is_granted_by_its_parts(machine: Machine) -> None:
    secret = machine.root / "data" / "a" / "secret"
    secret.mkdir(parents=True)
    (machine.root / "data" / "a" / "open").mkdir()
    (machine.root / "data" / "b").write_text("")
    (machine.root / "data" / "link").symlink_to("a/secret")
    flags = machine.flags(read=(f"{machine.root}/data",), deny=(str(secret),))
    prepared = machine.prepare(tier=LANDLOCK, flags=flags)
    data = {path for path in granted(prepared) if path.startswith(f"{machine.root}/data")}
    assert data == {f"{machine.root}/data/a/open", f"{machine.root}/data/b"}
    exact = {g.path for g in prepared.confinement.grants if g.exact}
    assert f"{machine.root}/data/b" in exact
    assert prepared.confinement.denials == ()


def test_too_many_parts_are_refused(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nono_mcp.policy.expand.GRANTS_MAX", 10)
    data = machine.root / "data"
    data.mkdir()
    for number in range(200):
        (data / str(number)).touch()
    flags = machine.flags(read=(str(data),), deny=(f"{data}/7",))
    with pytest.raises(RefusedError, match="over 10 files and directories"):
        machine.prepare(tier=LANDLOCK, flags=flags)


def test_a_denial_of_nothing_inside_a_grant_is_refused(machine: Machine) -> None:
    with pytest.raises(RefusedError, match="doesn't exist, and a name that is made later"):
        machine.prepare(flags=machine.flags(deny=(".env",)))
    outside = machine.prepare(flags=machine.flags(deny=(f"{machine.root}/none",)))
    assert outside.confinement == machine.prepare().confinement


def test_a_grant_that_a_denial_takes_whole_is_refused(machine: Machine) -> None:
    (machine.workspace / "a" / "b").mkdir(parents=True)
    for flags in (
        machine.flags(allow=("a/b",), deny=("a",)),
        machine.flags(allow=("a",), deny=("a",)),
        machine.flags(write=("a",), deny_write=("a",)),
        machine.flags(deny=("$WORKSPACE",)),
    ):
        with pytest.raises(RefusedError, match="is closed by --deny"):
            machine.prepare(flags=flags)


def test_a_denial_takes_shipped_grants_and_lessens_the_persons(machine: Machine) -> None:
    assert "/opt" not in granted(machine.prepare(flags=machine.flags(deny=("/opt",))))
    data = machine.root / "data"
    data.mkdir()
    flags = machine.flags(allow=(str(data),), deny_write=(str(data),))
    assert granted(machine.prepare(flags=flags))[str(data)] == READ


def test_a_denial_of_a_base_profile_holds_in_what_extends_it(machine: Machine) -> None:
    (machine.workspace / ".env").write_text("hunter2")
    machine.profile("base", '[filesystem]\ndeny = ["$WORKSPACE/.env"]')
    machine.profile("child", 'extends = "base"\n[filesystem]\nread_file = ["$WORKSPACE/.env"]')
    with pytest.raises(RefusedError, match="is closed by profile base: deny"):
        machine.prepare(profile="child")
    machine.profile("child", 'extends = "base"\n[filesystem]\nallow = ["$WORKSPACE"]')
    assert denied(machine.prepare(profile="child"))[f"{machine.workspace}/.env"] == READ | WRITE
