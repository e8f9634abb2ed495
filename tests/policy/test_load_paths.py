from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

import pytest

from nono_mcp.policy.errors import PolicyError
from nono_sandbox.confinement import READ, Link
from tests.policy.views import TIERS, granted

if TYPE_CHECKING:
    from tests.policy.conftest import Machine

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
    b"~",
    b"a (deleted)",
]


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
        pytest.param(
            *("read", "/proc/self", "the sandbox has a /proc of its own"), marks=pytest.mark.linux
        ),
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


def test_a_socket_is_connected_to_if_it_is_granted_by_itself_to_be_written(
    machine: Machine,
) -> None:
    places = [machine.workspace / name for name in ("written", "read", "beside")]
    with contextlib.ExitStack() as open_ones:
        for place in places:
            open_ones.enter_context(socket.socket(socket.AF_UNIX)).bind(str(place))
        (machine.workspace / "file").touch()
        flags = machine.flags(
            allow=(str(machine.workspace),), allow_file=("written", "file"), read_file=("read",)
        )
        status = places[0].stat()
        assert machine.prepare(flags=flags).confinement.sockets == ((status.st_dev, status.st_ino),)
        everything = machine.flags(allow=(str(machine.workspace),))
        assert machine.prepare(flags=everything).confinement.sockets == ()
