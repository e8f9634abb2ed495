from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_mcp.policy import load
from nono_mcp.policy.decide import Deny
from nono_mcp.policy.document import Document, FilesystemSection, NetworkSection
from nono_mcp.policy.errors import PolicyError, RefusedError
from nono_mcp.policy.paths import Place
from nono_sandbox.confinement import (
    LANDLOCK,
    NAMESPACES,
    READ,
    WRITE,
    Grant,
    Link,
    Network,
)

if TYPE_CHECKING:
    from nono_mcp.policy.request import Prepared
    from tests.policy.conftest import Machine

TIERS = pytest.mark.parametrize("tier", [NAMESPACES, LANDLOCK])
HOSTILE = [
    b"a b",
    b"it's",
    b'"',
    b"a\nb",
    b"\xff\xfe",
    b"-rf",
    b"*",
    b"$HOME",
    b"~",
    b"a (deleted)",
]


def granted(prepared: Prepared) -> dict[str, int]:
    return {grant.path: grant.access for grant in prepared.confinement.grants}


def denied(prepared: Prepared) -> dict[str, int]:
    return {denial.path: denial.access for denial in prepared.confinement.denials}


def identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


# What the default gives.


@TIERS
def test_the_default_writes_the_workspace_and_reads_the_system(machine: Machine, tier: str) -> None:
    prepared = machine.prepare(tier=tier)
    grants = granted(prepared)
    assert grants[str(machine.workspace)] == READ | WRITE
    assert grants["/usr"] == READ
    written = {path for path, access in grants.items() if access & WRITE}
    home = prepared.private_home if tier == LANDLOCK else str(machine.home)
    assert written == {str(machine.workspace), home}
    assert prepared.confinement.network == Network("closed")
    assert prepared.confinement.cwd == str(machine.workspace)
    assert prepared.confinement.tier == tier
    assert prepared.unenforced_absent == ()
    assert prepared.notices == ()


def test_a_grant_is_bound_to_what_was_judged(machine: Machine) -> None:
    prepared = machine.prepare()
    grant = next(g for g in prepared.confinement.grants if g.path == str(machine.workspace))
    assert grant.identity == identity(machine.workspace)


def test_the_machines_symlinks_are_repeated(machine: Machine) -> None:
    links = machine.prepare().confinement.links
    for name in ("bin", "lib", "lib64", "sbin"):
        if Path("/", name).is_symlink():
            assert Link(f"/{name}", str(Path("/", name).readlink())) in links
    assert machine.prepare(tier=LANDLOCK).confinement.links == ()


def test_read_only_writes_nothing_of_the_persons(machine: Machine) -> None:
    prepared = machine.prepare(profile="read-only")
    assert granted(prepared)[str(machine.workspace)] == READ


def test_the_home_is_the_sandboxs_own(machine: Machine) -> None:
    first = machine.prepare()
    private = first.private_home
    assert private is not None
    assert private.startswith(f"{machine.state}/homes/")
    assert Grant(str(machine.home), READ | WRITE, source=private) in first.confinement.grants
    assert dict(first.confinement.environment)["HOME"] == str(machine.home)
    assert dict(first.confinement.environment)["TMPDIR"] == "/tmp"  # noqa: S108 - the worker's own
    second = machine.prepare(tier=LANDLOCK, tmpdir=str(machine.root))
    assert Grant(private, READ | WRITE) in second.confinement.grants
    assert dict(second.confinement.environment)["HOME"] == private
    assert dict(second.confinement.environment)["TMPDIR"] == str(machine.root)
    assert granted(second)[str(machine.root)] == READ | WRITE


def test_another_workspace_has_another_home(machine: Machine) -> None:
    other = machine.root / "other"
    other.mkdir()
    assert machine.prepare().private_home != machine.prepare(workspace=str(other)).private_home


def test_a_granted_home_is_the_real_one(machine: Machine) -> None:
    for flags in (machine.flags(read=("~",)), machine.flags(allow=(str(machine.home.parent),))):
        prepared = machine.prepare(flags=flags)
        assert prepared.private_home is None
        assert dict(prepared.confinement.environment)["HOME"] == str(machine.home)
        assert all(grant.source is None for grant in prepared.confinement.grants)


# Protected paths.


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


# Our own state.


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


# The person's own denials.


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


# Paths as people write them.


@TIERS
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_granted_like_others(machine: Machine, tier: str, name: bytes) -> None:
    text = os.fsdecode(name)
    (machine.workspace.parent / text).mkdir()
    flags = machine.flags(read=(f"../{text}/",))
    path = f"{machine.workspace.parent}/{text}"
    assert granted(machine.prepare(tier=tier, flags=flags))[path] == READ


def test_a_granted_symlink_is_granted_where_it_leads_and_repeated(machine: Machine) -> None:
    data = machine.root / "data"
    data.mkdir()
    (machine.root / "shortcut").symlink_to("data")
    prepared = machine.prepare(flags=machine.flags(read=(f"{machine.root}/shortcut",)))
    assert granted(prepared)[str(data)] == READ
    assert Link(f"{machine.root}/shortcut", "data") in prepared.confinement.links


def test_a_workspace_behind_a_symlink_is_where_it_leads(machine: Machine) -> None:
    (machine.home / "project").symlink_to(machine.workspace)
    prepared = machine.prepare(workspace=f"{machine.home}/project/")
    assert prepared.confinement.cwd == str(machine.workspace)
    assert Link(f"{machine.home}/project", str(machine.workspace)) in prepared.confinement.links


@pytest.mark.parametrize(
    ("key", "path", "message"),
    [
        ("read", "none", r"--read none: doesn't exist \(make it first: mkdir -p .*/engine/none\)"),
        ("read_file", "none", r"doesn't exist \(make it first: touch .*/engine/none\)"),
        ("read", "file", r"--read file: is not a directory \(use --read-file\)"),
        ("allow", "file", r"is not a directory \(use --allow-file\)"),
        ("write_file", "dir", r"is a directory \(use --write\)"),
        ("read", "loop", "is a symlink that leads in circles"),
        ("read", "file/x", "lies beneath what isn't a directory"),
        ("read", "dangling", "doesn't exist"),
        ("read", "/proc", "the sandbox has a /proc of its own"),
        ("read", "/proc/self", "the sandbox has a /proc of its own"),
        ("read_file", "/dev/null", "the sandbox has a /dev of its own"),
        ("read", "/dev/pts", "the sandbox has a /dev of its own"),
        ("read", "", "'' isn't a path"),
        ("read", "a\0b", "isn't a path"),
        ("read", "$NOPE/x", "unknown variable"),
        ("read", "~bob", "another person's home"),
        ("read", "x" * 300, "is too long a name"),
    ],
)
def test_a_grant_that_leads_nowhere_says_what_to_do(
    machine: Machine, key: str, path: str, message: str
) -> None:
    (machine.workspace / "dir").mkdir()
    (machine.workspace / "file").touch()
    (machine.workspace / "loop").symlink_to("loop")
    (machine.workspace / "dangling").symlink_to("nowhere")
    with pytest.raises(PolicyError, match=message):
        machine.prepare(flags=machine.flags(**{key: (path,)}))


def test_a_mistake_in_a_profile_is_told_with_its_line(machine: Machine) -> None:
    path = machine.profile("mine", '[filesystem]\nread = [\n  "/usr",\n  "/none",\n]\n')
    with pytest.raises(PolicyError) as caught:
        machine.prepare(profile="mine")
    assert str(caught.value) == (
        f"{path}:4: read /none: doesn't exist (make it first: mkdir -p /none)"
    )


def test_relative_flags_are_told_from_the_base(machine: Machine) -> None:
    (machine.root / "elsewhere" / "data").mkdir(parents=True)
    flags = machine.flags(read=("data",))
    prepared = machine.prepare(flags=flags, base=f"{machine.root}/elsewhere")
    assert granted(prepared)[f"{machine.root}/elsewhere/data"] == READ


def test_variables_are_the_persons(machine: Machine) -> None:
    (machine.root / "scratch").mkdir()
    machine.write("data/x")
    environ = {"PATH": "/bin", "TMPDIR": f"{machine.root}/scratch"}
    flags = machine.flags(read=("$TMPDIR", "$HOME/data"))
    grants = granted(machine.prepare(environ=environ, flags=flags))
    assert grants[f"{machine.root}/scratch"] == READ
    assert grants[f"{machine.home}/data"] == READ


# The workspace.


@pytest.mark.parametrize("workspace", ["/", "/home", "/tmp", "/usr", "/etc"])  # noqa: S108
def test_more_than_one_piece_of_work_needs_a_yes(machine: Machine, workspace: str) -> None:
    with pytest.raises(RefusedError) as caught:
        machine.prepare(workspace=workspace)
    assert caught.value.code == "fs.broad-workspace"


def test_the_home_and_what_is_around_it_need_a_yes(machine: Machine) -> None:
    (machine.root / "way").symlink_to(machine.home)
    for path in (machine.home, machine.home.parent, machine.root, machine.root / "way"):
        with pytest.raises(RefusedError, match="holds more than one piece of work"):
            machine.prepare(workspace=str(path))
    machine.write(".ssh/id_rsa")
    prepared = machine.prepare(workspace=str(machine.home), broad_workspace=True)
    assert granted(prepared)[str(machine.home)] == READ | WRITE
    assert f"{machine.home}/.ssh" in denied(prepared)


def test_the_root_is_granted_by_what_stands_in_it(machine: Machine) -> None:
    prepared = machine.prepare(workspace="/", broad_workspace=True)
    grants = granted(prepared)
    assert "/" not in grants
    assert grants["/etc"] == READ | WRITE
    assert {"/proc", "/dev", "/sys"}.isdisjoint(grants)
    assert denied(prepared)["/etc/shadow"] == READ | WRITE


def test_a_workspace_inside_what_is_protected_is_refused(machine: Machine) -> None:
    machine.write(".ssh/project/x")
    with pytest.raises(RefusedError, match="SSH keys"):
        machine.prepare(workspace=f"{machine.home}/.ssh/project")


@pytest.mark.parametrize("workspace", ["relative", "/none", "/etc/passwd", "/a\0b"])
def test_a_workspace_is_a_directory(machine: Machine, workspace: str) -> None:
    with pytest.raises(PolicyError, match="the workspace"):
        machine.prepare(workspace=workspace)


def test_the_working_directory_is_within_what_is_read(machine: Machine) -> None:
    (machine.workspace / "src").mkdir()
    prepared = machine.prepare(cwd=f"{machine.workspace}/src/")
    assert prepared.confinement.cwd == f"{machine.workspace}/src"
    assert dict(prepared.confinement.environment)["PWD"] == f"{machine.workspace}/src"
    with pytest.raises(RefusedError) as caught:
        machine.prepare(cwd=str(machine.root))
    assert caught.value.code == "fs.cwd"
    with pytest.raises(PolicyError, match="the working directory"):
        machine.prepare(cwd="/none")


@pytest.mark.parametrize("home", ["", "relative", "/a\0b"])
def test_a_home_is_absolute(machine: Machine, home: str) -> None:
    with pytest.raises(PolicyError, match="HOME isn't an absolute path"):
        machine.prepare(home=home)


@TIERS
@pytest.mark.parametrize("home", ["/", "/nonexistent", "/usr/sbin", "/var/lib/none/x/"])
def test_a_home_as_daemons_have_it_is_none_of_the_systems(
    machine: Machine, tier: str, home: str
) -> None:
    prepared = machine.prepare(home=home, tier=tier)
    assert (prepared.private_home is None) == (home in ("/", "/usr/sbin"))
    written = {path for path, access in granted(prepared).items() if access & WRITE}
    assert written.isdisjoint({"/", "/usr", "/usr/sbin"})


def test_no_tier_is_no_confinement(machine: Machine) -> None:
    with pytest.raises(ValueError, match="no such tier"):
        machine.prepare(tier="")


# Tools.


def test_tools_on_path_are_read_and_nothing_beside_them(machine: Machine) -> None:
    for name in (".cargo/bin/cargo", ".cargo/credentials.toml", ".rustup/settings.toml"):
        machine.write(name)
    machine.write("bin/tool")
    machine.write("project/bin/tool")
    machine.write("project/.env")
    machine.write("venv/pyvenv.cfg")
    machine.write("venv/bin/python")
    names = (".cargo/bin", "bin", "project/bin", "venv/bin", "none/bin")
    path = ":".join([f"{machine.home}/{name}" for name in names])
    grants = granted(machine.prepare(environ={"PATH": f"{path}:{machine.home}:/:relative:/bin"}))
    mine = {p for p in grants if p.startswith(f"{machine.home}/") and grants[p] == READ}
    assert mine == {
        f"{machine.home}/{name}" for name in (".cargo/bin", ".rustup", "bin", "project/bin", "venv")
    }


def test_a_symlink_on_path_stays_where_it_is_looked_for(machine: Machine) -> None:
    machine.write("tools/bin/tool")
    run = machine.root / "run"
    run.mkdir()
    (run / "bin").symlink_to(machine.home / "tools/bin")
    prepared = machine.prepare(environ={"PATH": f"{run}/bin"})
    assert granted(prepared)[f"{machine.home}/tools/bin"] == READ
    assert Link(f"{run}/bin", f"{machine.home}/tools/bin") in prepared.confinement.links


def test_tools_in_what_is_protected_are_left_out(machine: Machine) -> None:
    machine.write(".ssh/bin/tool")
    machine.write(".config/nono/bin/tool")
    path = f"{machine.home}/.ssh/bin:{machine.config}/bin"
    grants = granted(machine.prepare(environ={"PATH": path}))
    assert not any(
        path.startswith((f"{machine.home}/.ssh", str(machine.config))) for path in grants
    )


def test_the_interpreter_that_runs_this_is_read(machine: Machine) -> None:
    grants = granted(machine.prepare())
    for prefix in (sys.prefix, sys.base_prefix):
        real = os.path.realpath(prefix)
        assert any(real == path or real.startswith(f"{path}/") for path in grants)


def test_an_interpreter_installed_in_the_home_itself_doesnt_open_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(machine.home))
    monkeypatch.setattr(sys, "base_prefix", str(machine.home.parent))
    assert machine.prepare().private_home is not None


def test_without_tools_path_grants_nothing(machine: Machine) -> None:
    machine.write("bin/tool")
    flags = Document(filesystem=FilesystemSection(tools=False))
    prepared = machine.prepare(environ={"PATH": f"{machine.home}/bin"}, flags=flags)
    assert f"{machine.home}/bin" not in granted(prepared)


# The rest of a policy.


def test_network_limits_and_environment_arrive(machine: Machine) -> None:
    machine.profile(
        "mine",
        "network.connect_ports = [5432]\nlimits.timeout_s = 5\nlimits.memory_max = '1G'\n"
        "environment.pass = ['MY_TOKEN']\nenvironment.set = { A = 'b' }\nprocess.ptrace = true\n",
    )
    environ = {"PATH": "/bin", "MY_TOKEN": "t", "OTHER_TOKEN": "t"}
    prepared = machine.prepare(profile="mine", environ=environ)
    confinement = prepared.confinement
    assert confinement.network == Network("ports", (5432,))
    assert (confinement.limits.wall_s, confinement.limits.memory_bytes_max) == (5, 2**30)
    values = dict(confinement.environment)
    assert (values["MY_TOKEN"], values["A"]) == ("t", "b")
    assert "OTHER_TOKEN" not in values
    assert confinement.ptrace
    closed = machine.prepare(profile="mine", flags=Document(network=NetworkSection("closed")))
    assert closed.confinement.network == Network("closed")


def test_an_agents_own_directory_is_written_by_its_profile(machine: Machine) -> None:
    machine.write(".claude/.credentials.json")
    machine.write(".claude.json")
    machine.write(".codex/auth.json")
    machine.write(".codex/hooks.json")
    claude = machine.prepare(profile="claude-code")
    assert granted(claude)[f"{machine.home}/.claude"] == READ | WRITE
    assert granted(claude)[f"{machine.home}/.claude.json"] == READ | WRITE
    codex = machine.prepare(profile="codex")
    assert granted(codex)[f"{machine.home}/.codex"] == READ | WRITE
    assert not any(path.startswith(str(machine.home)) for path in denied(codex))
    for prepared in (claude, codex):
        assert prepared.confinement.network == Network("open")
    assert f"{machine.home}/.claude" not in granted(machine.prepare())


def test_nested_grants_add_up(machine: Machine) -> None:
    (machine.workspace / "out").mkdir()
    (machine.workspace / "log").touch()
    flags = machine.flags(write=("out",), read=("out",), write_file=("log",))
    grants = granted(machine.prepare(profile="read-only", flags=flags))
    assert grants[str(machine.workspace)] == READ
    assert grants[f"{machine.workspace}/out"] == READ | WRITE
    assert grants[f"{machine.workspace}/log"] == READ | WRITE
    grants = granted(machine.prepare(flags=flags))
    assert f"{machine.workspace}/out" not in grants
    assert f"{machine.workspace}/log" not in grants


@pytest.mark.parametrize(("key", "path"), [("write", "~/drop"), ("write_file", "~/file")])
def test_a_write_only_grant_in_a_place_of_our_own_is_refused(
    machine: Machine, key: str, path: str
) -> None:
    (machine.home / "drop").mkdir()
    machine.write("file")
    with pytest.raises(RefusedError) as caught:
        machine.prepare(flags=machine.flags(**{key: (path,)}))
    assert caught.value.code == "tier.write-only"
    machine.prepare(tier=LANDLOCK, flags=machine.flags(**{key: (path,)}))
    both = machine.flags(**{key: (path,), key.replace("write", "read"): (path,)})
    machine.prepare(flags=both)


def test_grants_and_denials_by_the_thousand(machine: Machine) -> None:
    paths = []
    for number in range(2000):
        directory = machine.workspace.parent / f"d{number}"
        (directory / "closed").mkdir(parents=True)
        paths.append(str(directory))
    flags = machine.flags(allow=tuple(paths), deny=tuple(f"{path}/closed" for path in paths))
    prepared = machine.prepare(flags=flags)
    assert set(paths) <= set(granted(prepared))
    assert {f"{path}/closed" for path in paths} <= set(denied(prepared))


def test_nothing_is_made_by_asking(machine: Machine) -> None:
    before = sorted(machine.root.rglob("*"))
    machine.prepare()
    machine.prepare(tier=LANDLOCK)
    assert sorted(machine.root.rglob("*")) == before


def test_a_private_homes_name_is_plain_whatever_the_workspaces() -> None:
    found = load.private_home("/state", "/work/\udcff\n")
    assert found.startswith("/state/homes/")
    assert found.removeprefix("/state/homes/").isalnum()
