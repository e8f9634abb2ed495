from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_mcp.policy import load
from nono_mcp.policy.document import Document, NetworkSection
from nono_mcp.policy.errors import PolicyError, RefusedError
from nono_sandbox.confinement import LANDLOCK, READ, WRITE, Grant, Link, Network
from tests.policy.views import TIERS, denied, granted, identity

if TYPE_CHECKING:
    from tests.policy.conftest import Machine


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
    assert second.private_home is not None
    assert second.private_home not in ("", private)
    assert Grant(second.private_home, READ | WRITE) in second.confinement.grants
    assert dict(second.confinement.environment)["HOME"] == second.private_home
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
    found = load.private_home("/state", "/work/\udcff\n", LANDLOCK)
    assert found.startswith("/state/homes/")
    assert found.removeprefix("/state/homes/").isalnum()
