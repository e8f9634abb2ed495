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


def test_a_denial_stands_whatever_protection_is_given_up(machine: Machine) -> None:
    machine.write(".aws/config")
    flags = machine.flags(read=("~/.aws",), bypass=("~/.aws",))
    assert granted(machine.prepare(flags=flags))[f"{machine.home}/.aws"] == READ
    denying = machine.flags(read=("~/.aws",), bypass=("~/.aws",), deny=("~/.aws",))
    with pytest.raises(RefusedError) as caught:
        machine.prepare(flags=denying)
    assert caught.value.code == "fs.denied"


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


def test_a_denial_of_what_isnt_there_yet_waits_for_it(machine: Machine) -> None:
    prepared = machine.prepare(flags=machine.flags(deny=(".env", "a/b")))
    assert dict(prepared.awaited) == {
        f"{machine.workspace}/.env": "--deny .env",
        f"{machine.workspace}/a/b": "--deny a/b",
    }
    assert denied(prepared) == denied(machine.prepare())
    outside = machine.prepare(flags=machine.flags(deny=(f"{machine.root}/none",)))
    assert outside.awaited == ()
    assert outside.confinement == machine.prepare().confinement


def test_without_namespaces_it_cant_be_waited_for(machine: Machine) -> None:
    with pytest.raises(RefusedError, match="doesn't exist, and a name that is made later"):
        machine.prepare(tier=LANDLOCK, flags=machine.flags(deny=(".env",)))


def test_another_name_of_what_is_closed_is_closed_too(machine: Machine) -> None:
    (machine.workspace / ".env").write_text("hunter2")
    (machine.workspace / "deep" / "er").mkdir(parents=True)
    (machine.workspace / "deep" / "er" / "copy").hardlink_to(machine.workspace / ".env")
    (machine.workspace / "keys").mkdir()
    (machine.workspace / "keys" / "one").write_text("hunter2")
    (machine.workspace / "two").hardlink_to(machine.workspace / "keys" / "one")
    found = denied(machine.prepare(flags=machine.flags(deny=(".env",), deny_write=("keys",))))
    assert found[f"{machine.workspace}/deep/er/copy"] == READ | WRITE
    assert found[f"{machine.workspace}/two"] == WRITE


def test_another_name_of_a_protected_file_is_closed_wherever_that_is(machine: Machine) -> None:
    (machine.home / ".netrc").write_text("hunter2")
    (machine.workspace / "copy").hardlink_to(machine.home / ".netrc")
    assert denied(machine.prepare())[f"{machine.workspace}/copy"] == READ | WRITE


def test_another_name_that_cant_be_closed_is_refused_with_both(machine: Machine) -> None:
    (machine.home / ".netrc").write_text("hunter2")
    (machine.workspace / "copy").hardlink_to(machine.home / ".netrc")
    alone = machine.root / "alone"
    alone.hardlink_to(machine.home / ".netrc")
    for changes, path in (
        ({"tier": LANDLOCK}, machine.workspace / "copy"),
        ({"flags": machine.flags(read_file=(str(alone),))}, alone),
    ):
        with pytest.raises(RefusedError) as caught:
            machine.prepare(**changes)
        assert caught.value.code == "fs.hard-link"
        assert f"{machine.home}/.netrc" in str(caught.value)
        assert str(path) in str(caught.value)
    readable = machine.flags(read=(str(machine.workspace),), deny=("a",))
    (machine.workspace / "a").hardlink_to(machine.workspace / "copy")
    prepared = machine.prepare(tier=LANDLOCK, profile="system", flags=readable)
    assert not {path for path in granted(prepared) if path.startswith(f"{machine.workspace}/")}


def test_too_much_to_look_through_for_another_name_is_refused(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine.workspace / ".env").write_text("hunter2")
    for number in range(30):
        (machine.workspace / str(number)).mkdir()
    monkeypatch.setattr("nono_mcp.policy.hard_links.ENTRIES_MAX", 10)
    machine.prepare(flags=machine.flags(deny=(".env",)))
    (machine.root / "elsewhere").hardlink_to(machine.workspace / ".env")
    with pytest.raises(RefusedError, match="not all of what is granted could be"):
        machine.prepare(flags=machine.flags(deny=(".env",)))


def test_what_wasnt_looked_through_for_other_names_is_told_of(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused for what the person denies, in a directory too; a notice for what is protected."""
    (machine.home / ".netrc").write_text("hunter2")
    for number in range(5):
        (machine.home / f".netrc.{number}").hardlink_to(machine.home / ".netrc")
    (machine.workspace / "keys").mkdir()
    (machine.workspace / "keys" / "one").write_text("hunter2")
    (machine.root / "elsewhere").hardlink_to(machine.workspace / "keys" / "one")
    for number in range(30):
        (machine.workspace / str(number)).mkdir()
    assert machine.prepare().notices == ()
    assert machine.prepare(flags=machine.flags(deny=("keys",))).notices == ()
    monkeypatch.setattr("nono_mcp.policy.hard_links.ENTRIES_MAX", 20)
    (notice,) = machine.prepare().notices
    assert f"{machine.home}/.netrc" in notice
    assert "hard links" in notice
    with pytest.raises(RefusedError, match=r"keys/one.* has other names"):
        machine.prepare(flags=machine.flags(deny=("keys",)))


def test_a_closed_directory_too_large_to_be_looked_through_is_refused(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine.workspace / "keys").mkdir()
    for number in range(30):
        (machine.workspace / "keys" / str(number)).touch()
    monkeypatch.setattr("nono_mcp.policy.hard_links.ENTRIES_MAX", 20)
    for flags in (machine.flags(deny=("keys",)), machine.flags(deny_write=("keys",))):
        with pytest.raises(RefusedError, match=r"keys.* holds too much"):
            machine.prepare(flags=flags)
    monkeypatch.setattr("nono_mcp.policy.hard_links.ENTRIES_MAX", 60)
    assert machine.prepare(flags=machine.flags(deny=("keys",))).notices == ()


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
