from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nono_mcp.policy import load
from nono_mcp.policy.decide import Deny
from nono_mcp.policy.errors import PolicyError, RefusedError
from nono_mcp.policy.paths import Place
from nono_sandbox.confinement import LANDLOCK, READ, WRITE
from tests.policy.views import TIERS, denied, granted

if TYPE_CHECKING:
    from tests.policy.conftest import Machine


@TIERS
@pytest.mark.parametrize(
    ("key", "secret", "path"),
    [
        ("read", ".ssh/id_rsa", "~/.ssh"),
        ("allow", ".ssh/id_rsa", "~/.ssh"),
        ("write", ".ssh/id_rsa", "~/.ssh"),
        ("read_file", ".ssh/id_rsa", "~/.ssh/id_rsa"),
        ("read", ".ssh/keys/x", "~/.ssh/keys"),
        ("read", ".config/gcloud/x", "~/.config/gcloud"),
        ("read_file", ".cargo/credentials.toml", "~/.cargo/credentials.toml"),
        ("write_file", ".bashrc", "~/.bashrc"),
        ("allow", ".config/autostart/x", "~/.config/autostart"),
    ],
)
def test_a_protected_path_cant_be_granted(
    machine: Machine, tier: str, key: str, secret: str, path: str
) -> None:
    machine.write(secret)
    with pytest.raises(RefusedError) as caught:
        machine.prepare(tier=tier, flags=machine.flags(**{key: (path,)}))
    assert caught.value.code == "fs.protected"
    assert caught.value.path == path.replace("~", str(machine.home))
    assert f"--{key.replace('_', '-')} {path}: " in str(caught.value)
    assert "--bypass" in caught.value.remedy


def test_nor_through_a_symlink_that_leads_there(machine: Machine) -> None:
    machine.write(".ssh/id_rsa")
    (machine.workspace / "innocent").symlink_to(machine.home / ".ssh")
    (machine.workspace / "key").symlink_to(machine.home / ".ssh/id_rsa")
    for flags in (machine.flags(read=("innocent",)), machine.flags(read_file=("key",))):
        with pytest.raises(RefusedError, match="is closed by protected: SSH keys"):
            machine.prepare(flags=flags)
    (machine.home / "dots").mkdir()
    with pytest.raises(RefusedError, match="is closed by protected: SSH keys"):
        machine.prepare(flags=machine.flags(read=("~/dots/../.ssh/.",)))


def test_nor_where_the_protected_path_is_itself_a_symlink(machine: Machine) -> None:
    vault = machine.root / "vault"
    vault.mkdir()
    (machine.home / ".ssh").symlink_to(vault)
    with pytest.raises(RefusedError, match="is closed by protected: SSH keys"):
        machine.prepare(flags=machine.flags(read=(str(vault),)))
    # A workspace of dotfiles, say: what ~/.ssh leads to is closed inside it.
    prepared = machine.prepare(workspace=str(machine.root), broad_workspace=True)
    assert denied(prepared)[str(vault)] == READ | WRITE


def test_what_may_be_read_isnt_written(machine: Machine) -> None:
    machine.write(".bashrc")
    prepared = machine.prepare(flags=machine.flags(read_file=("~/.bashrc",)))
    assert granted(prepared)[f"{machine.home}/.bashrc"] == READ


@TIERS
def test_a_bypass_beside_a_grant_opens_a_protected_path(machine: Machine, tier: str) -> None:
    machine.write(".ssh/known_hosts")
    for bypass in ("~/.ssh", f"{machine.home}/.ssh"):
        flags = machine.flags(read=("~/.ssh",), bypass=(bypass,))
        assert granted(machine.prepare(tier=tier, flags=flags))[f"{machine.home}/.ssh"] == READ
    flags = machine.flags(read_file=("~/.ssh/known_hosts",), bypass=("~/.ssh/known_hosts",))
    prepared = machine.prepare(tier=tier, flags=flags)
    assert granted(prepared)[f"{machine.home}/.ssh/known_hosts"] == READ


def test_a_bypass_opens_no_more_than_it_names(machine: Machine) -> None:
    machine.write(".ssh/known_hosts")
    machine.write(".ssh/id_rsa")
    machine.write(".aws/credentials")
    flags = machine.flags(read_file=("~/.ssh/id_rsa",), bypass=("~/.ssh/known_hosts",))
    with pytest.raises(RefusedError, match="SSH keys"):
        machine.prepare(flags=flags)
    for bypass in ("~", "~/.config", "/", "$WORKSPACE"):
        with pytest.raises(PolicyError, match="is not a protected path"):
            machine.prepare(flags=machine.flags(read=("~",), bypass=(bypass,)))


def test_a_bypass_of_a_part_doesnt_open_the_whole_of_a_grant(machine: Machine) -> None:
    machine.write(".ssh/known_hosts")
    flags = machine.flags(
        allow=("~",), read_file=("~/.ssh/known_hosts",), bypass=("~/.ssh/known_hosts",)
    )
    with pytest.raises(RefusedError, match="is closed inside another grant"):
        machine.prepare(flags=flags)


def test_an_absent_protected_path_may_be_bypassed_too(machine: Machine) -> None:
    prepared = machine.prepare(flags=machine.flags(allow=("~",), bypass=("~/.ssh",)))
    assert f"{machine.home}/.aws" in prepared.unenforced_absent


def test_a_wide_grant_keeps_the_credentials_in_it_closed(machine: Machine) -> None:
    machine.write(".ssh/id_rsa")
    machine.write(".bashrc")
    machine.write(".cargo/credentials.toml")
    machine.write(".zsh_history")
    prepared = machine.prepare(flags=machine.flags(allow=("~",)))
    home = machine.home
    assert denied(prepared) == {
        **denied(machine.prepare()),
        f"{home}/.ssh": READ | WRITE,
        f"{home}/.bashrc": WRITE,
        f"{home}/.cargo/credentials.toml": READ | WRITE,
        f"{home}/.zsh_history": READ | WRITE,
        f"{home}/.config/nono": READ | WRITE,
        f"{home}/.local/state/nono": READ | WRITE,
    }
    assert f"{home}/.aws" in prepared.unenforced_absent
    assert f"{home}/.profile" in prepared.unenforced_absent
    assert f"{home}/.ssh" not in prepared.unenforced_absent


def test_of_nested_protections_each_holds(machine: Machine) -> None:
    machine.write(".config/git/credentials")
    machine.write(".config/git/config")
    machine.write(".cargo/bin/cargo")
    machine.write(".vim/.netrc")
    prepared = machine.prepare(flags=machine.flags(allow=("~",)))
    mine = {path.removeprefix(f"{machine.home}/"): one for path, one in denied(prepared).items()}
    assert mine[".config/git"] == WRITE
    assert mine[".config/git/credentials"] == READ | WRITE
    # What a denial around it says already isn't said again.
    machine.write(".ssh/credentials")
    environ = {"PATH": "/bin", "KUBECONFIG": f"{machine.home}/.ssh/credentials"}
    prepared = machine.prepare(flags=machine.flags(allow=("~",)), environ=environ)
    assert f"{machine.home}/.ssh/credentials" not in denied(prepared)


def test_what_root_alone_may_read_is_closed_to_root(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    secret = Place("/etc/ours", "/etc/ours", "file")
    monkeypatch.setattr("nono_mcp.policy.resolve.private", lambda _: [secret])
    assert denied(machine.prepare())["/etc/ours"] == READ | WRITE
    machine.profile("bare", "extends = []\nfilesystem.allow = ['$WORKSPACE']")
    assert "/etc/ours" not in denied(machine.prepare(profile="bare"))


def test_a_symlink_to_what_is_protected_could_be_replaced_and_that_is_told(
    machine: Machine,
) -> None:
    machine.write("dotfiles/bashrc")
    (machine.home / ".bashrc").symlink_to("dotfiles/bashrc")
    prepared = machine.prepare(flags=machine.flags(allow=("~",)))
    assert denied(prepared)[f"{machine.home}/dotfiles/bashrc"] == WRITE
    assert f"{machine.home}/.bashrc" in prepared.unenforced_absent


def test_what_the_environment_points_at_is_protected(machine: Machine) -> None:
    key = machine.workspace / "service-account.json"
    key.write_text("hunter2")
    environ = {"PATH": "/bin", "GOOGLE_APPLICATION_CREDENTIALS": str(key)}
    assert denied(machine.prepare(environ=environ))[str(key)] == READ | WRITE
    # What lies around the home or the workspace would close everything, and is no credential.
    around = str(machine.workspace.parent)
    environ = {"PATH": "/bin", "DOCKER_CONFIG": around, "KUBECONFIG": f"{machine.root}:/:relative"}
    assert machine.prepare(environ=environ) == machine.prepare(environ={"PATH": "/bin"}).replace()


def test_secrets_of_the_system_are_closed(machine: Machine) -> None:
    assert denied(machine.prepare())["/etc/shadow"] == READ | WRITE
    with pytest.raises(RefusedError, match="passwords of the system"):
        machine.prepare(flags=machine.flags(read_file=("/etc/shadow",)))


def test_without_namespaces_its_siblings_are_granted_instead(machine: Machine) -> None:
    grants = granted(machine.prepare(tier=LANDLOCK))
    assert "/etc/shadow" not in grants
    if os.geteuid() == 0:
        assert "/etc" not in grants
        assert grants["/etc/passwd"] == READ
    else:
        # It is shut to this user anyway, and needs no taking apart.
        assert not os.access("/etc/shadow", os.R_OK)
        assert "/etc" in grants or "/etc/passwd" in grants
    with pytest.raises(RefusedError, match="passwords of the system"):
        machine.prepare(tier=LANDLOCK, flags=machine.flags(read_file=("/etc/shadow",)))


def test_what_is_shut_anyway_takes_no_directory_apart(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr("nono_mcp.policy.resolve.is_out_of_reach", lambda _: True)
    prepared = machine.prepare(tier=LANDLOCK)
    assert granted(prepared)["/etc"] == READ
    found = load.explain(prepared, "/etc/shadow", "read")[1]
    assert isinstance(found, Deny)
    assert found.code == "fs.protected"


@TIERS
@pytest.mark.parametrize("path", ["~/.config/nono", "~/.local/state/nono/audit"])
def test_our_own_state_is_never_granted(machine: Machine, tier: str, path: str) -> None:
    machine.write(".config/nono/trusted")
    machine.write(".local/state/nono/audit/x")
    with pytest.raises(RefusedError) as caught:
        machine.prepare(tier=tier, flags=machine.flags(read=(path,)))
    assert caught.value.code == "fs.own-state"
    with pytest.raises(RefusedError, match="the sandbox's own state is never open"):
        machine.prepare(tier=tier, flags=machine.flags(read=(path,), bypass=(path,)))


def test_our_own_state_cant_come_into_being_in_a_grant(machine: Machine) -> None:
    assert not machine.config.exists()
    (machine.home / ".config").mkdir()
    prepared = machine.prepare(flags=machine.flags(allow=("~/.config",)))
    assert machine.config.stat().st_mode & 0o777 == 0o700
    assert denied(prepared)[str(machine.config)] == READ | WRITE


def test_a_symlink_to_our_own_state_cant_be_replaced(machine: Machine) -> None:
    machine.write("dotfiles/config/nono/trusted")
    (machine.home / ".config").symlink_to("dotfiles/config")
    with pytest.raises(RefusedError, match="a symlink on the way to it, could be replaced"):
        machine.prepare(flags=machine.flags(allow=("~",)))
