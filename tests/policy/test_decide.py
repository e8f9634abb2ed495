from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nono_mcp.policy.decide import (
    DEVICES,
    OPERATIONS,
    PROC_FILES,
    Allow,
    Deny,
    decide,
    decide_host,
)
from nono_mcp.policy.load import explain
from nono_sandbox.confinement import LANDLOCK, NAMESPACES, READ, Network

if TYPE_CHECKING:
    from nono_mcp.policy.request import Prepared
    from tests.policy.conftest import Machine

TIERS = pytest.mark.parametrize("tier", [NAMESPACES, LANDLOCK])


def answer(prepared: Prepared, path: object, operation: str) -> str:
    """Return the rule that allows, or the code that denies."""
    found = explain(prepared, str(path), operation)[1]
    return found.rule if isinstance(found, Allow) else found.code


@pytest.fixture
def prepared(machine: Machine) -> Prepared:
    for name in ("src/main.py", "closed/x", "kept/x"):
        file = machine.workspace / name
        file.parent.mkdir()
        file.touch()
    machine.write(".ssh/id_rsa")
    machine.write("notes.txt")
    machine.write("data/x")
    flags = machine.flags(
        deny=("closed",),
        deny_write=("kept",),
        read=("~/data",),
        read_file=("~/notes.txt",),
    )
    return machine.prepare(flags=flags)


@pytest.mark.parametrize(
    ("path", "operation", "expected"),
    [
        ("work/engine/src/main.py", "read", "profile default: allow $WORKSPACE"),
        ("work/engine/src/main.py", "write", "profile default: allow $WORKSPACE"),
        ("work/engine/none/x", "write", "profile default: allow $WORKSPACE"),
        ("work/engine", "list", "profile default: allow $WORKSPACE"),
        ("work/engine/closed/x", "read", "fs.denied"),
        ("work/engine/closed", "list", "fs.denied"),
        ("work/engine/closed/none", "write", "fs.denied"),
        ("work/engine/kept/x", "read", "profile default: allow $WORKSPACE"),
        ("work/engine/kept/x", "write", "fs.denied"),
        ("work/other", "read", "fs.private-tmp"),
        ("work/other", "write", "fs.private-tmp"),
        ("home/ada/data/x", "read", "--read ~/data"),
        ("home/ada/data/x", "write", "fs.read-only"),
        ("home/ada/notes.txt", "read", "--read-file ~/notes.txt"),
        ("home/ada/notes.txt", "write", "fs.read-only"),
        ("home/ada/notes.txt2", "read", "fs.private-home"),
        ("home/ada/other", "write", "fs.private-home"),
        ("home/ada/.ssh/id_rsa", "read", "fs.protected"),
        ("home/ada/.ssh", "list", "fs.protected"),
        ("home/ada/.aws/credentials", "read", "fs.protected"),
        ("home/ada/.config/nono/x", "read", "fs.own-state"),
        ("home/ada/.local/state/nono", "list", "fs.own-state"),
        ("/etc/passwd", "read", "profile system: read /etc"),
        ("/etc/passwd", "write", "fs.read-only"),
        ("/etc/shadow", "read", "fs.protected"),
        ("/usr/bin/env", "execute", "profile system: read /"),
        ("/bin/sh", "execute", "profile system: read /"),
        ("/srv/x", "read", "fs.outside-grants"),
        ("/proc/1/environ", "read", "fs.own-tree"),
        ("/proc/self/status", "read", "every worker has a /proc of its own"),
        ("/proc/thread-self/../../self/cwd", "read", "every worker has a /proc of its own"),
        ("/proc/meminfo", "read", "every worker has a /proc of its own"),
        ("/proc/self/comm", "write", "fs.own-tree"),
        ("/sys/kernel/x", "read", "fs.own-tree"),
        ("/dev/null", "write", "every worker has a /dev of its own"),
        ("/dev/sda", "read", "fs.own-tree"),
        ("/dev", "list", "every worker has a /dev of its own"),
        ("/", "list", "the directories on the way to what is granted can be listed"),
        ("/", "write", "fs.outside-grants"),
    ],
)
def test_every_answer_names_what_decides(
    machine: Machine, prepared: Prepared, path: str, operation: str, expected: str
) -> None:
    found = answer(prepared, machine.root / path, operation)
    assert found == expected or (expected.endswith("/") and found.startswith(expected))


def test_a_denial_says_what_a_person_could_do(machine: Machine, prepared: Prepared) -> None:
    def remedy(path: str, operation: str) -> str:
        found = explain(prepared, str(machine.root / path), operation)[1]
        assert isinstance(found, Deny)
        return found.remedy

    (machine.root / "there").mkdir()
    assert remedy("there", "list") == f"--read {machine.root}/there"
    assert remedy("there", "write") == f"--allow {machine.root}/there"
    assert remedy("there/none", "write") == f"--allow {machine.root}/there"
    assert remedy("home/ada/notes.txt", "write") == f"--allow-file {machine.home}/notes.txt"
    assert remedy("home/ada/.ssh/id_rsa", "read").endswith(f"--bypass {machine.home}/.ssh")
    assert remedy("home/ada/.config/nono", "list") == ""


def test_following_the_remedy_allows(machine: Machine) -> None:
    (machine.root / "data").mkdir()
    (machine.root / "data/x").touch()
    path = machine.root / "data/x"
    assert answer(machine.prepare(), path, "read") == "fs.private-tmp"
    prepared = machine.prepare(flags=machine.flags(read_file=(str(path),)))
    assert answer(prepared, path, "read") == f"--read-file {path}"


def test_symlinks_are_followed_before_anything_is_judged(
    machine: Machine, prepared: Prepared
) -> None:
    (machine.workspace / "innocent").symlink_to(machine.home / ".ssh/id_rsa")
    (machine.workspace / "shut").symlink_to("closed/x")
    (machine.root / "way").symlink_to(machine.workspace)
    assert answer(prepared, machine.workspace / "innocent", "read") == "fs.protected"
    assert answer(prepared, machine.workspace / "shut", "read") == "fs.denied"
    assert answer(prepared, f"{machine.workspace}/src/../src", "list").startswith("profile")
    assert answer(prepared, f"{machine.workspace}/src/../closed/x", "read") == "fs.denied"


def test_without_namespaces_there_is_no_private_home_in_its_place(machine: Machine) -> None:
    machine.write("notes.txt")
    prepared = machine.prepare(tier=LANDLOCK)
    assert answer(prepared, machine.home / "notes.txt", "read") == "fs.outside-grants"
    assert answer(prepared, machine.root, "list") == "fs.outside-grants"
    private = f"{prepared.private_home}/x"
    assert answer(prepared, private, "write") == "the sandbox's own directory"


def test_without_namespaces_what_holds_a_closed_part_is_open_in_pieces(machine: Machine) -> None:
    for name in ("data/closed", "data/open"):
        (machine.root / name).mkdir(parents=True)
    data = machine.root / "data"
    flags = machine.flags(read=(str(data),), deny=(f"{data}/closed",))
    prepared = machine.prepare(tier=LANDLOCK, flags=flags)
    assert answer(prepared, data / "open", "list") == f"--read {data}"
    assert answer(prepared, data / "closed", "list") == "fs.denied"
    assert answer(prepared, data, "list") == "tier.in-pieces"
    assert answer(prepared, data / "new", "read") == "tier.in-pieces"


def test_a_symlink_outside_what_is_granted_isnt_there_to_be_followed(machine: Machine) -> None:
    (machine.root / "way").symlink_to(machine.workspace)
    found = explain(machine.prepare(), f"{machine.root}/way", "list")[1]
    assert isinstance(found, Deny)
    assert (found.code, found.remedy) == (
        "fs.link",
        f"use the path it leads to: {machine.workspace}",
    )
    by_it = machine.prepare(workspace=f"{machine.root}/way")
    assert answer(by_it, machine.root / "way", "list") == "profile default: allow $WORKSPACE"
    without = machine.prepare(tier=LANDLOCK)
    assert answer(without, machine.root / "way", "list") == "profile default: allow $WORKSPACE"


def test_a_write_only_grant_can_be_written_and_not_read(machine: Machine) -> None:
    drop = machine.root / "drop"
    drop.mkdir()
    prepared = machine.prepare(tier=LANDLOCK, flags=machine.flags(write=(str(drop),)))
    assert answer(prepared, drop / "x", "write") == f"--write {drop}"
    assert answer(prepared, drop / "x", "read") == "fs.write-only"
    # With one, the way to the grants isn't listable, as it would be too: but for our own places.
    prepared = machine.prepare(flags=machine.flags(write=("/srv",)))
    assert answer(prepared, "/srv/x", "read") == "fs.write-only"
    assert answer(prepared, "/", "list") == "fs.outside-grants"
    assert answer(prepared, machine.home, "list").startswith("the directories on the way")


def test_what_a_bypass_opens_isnt_told_as_protected(machine: Machine) -> None:
    machine.write(".ssh/keys/x")
    flags = machine.flags(read=("~/.ssh/keys",), bypass=("~/.ssh",))
    prepared = machine.prepare(flags=flags)
    assert answer(prepared, machine.home / ".ssh/id_rsa", "read") == "fs.private-home"
    assert answer(prepared, machine.home / ".ssh/keys/x", "read") == "--read ~/.ssh/keys"


@TIERS
def test_no_operation_is_more_than_reading_and_writing(machine: Machine, tier: str) -> None:
    prepared = machine.prepare(tier=tier)
    for path in (str(machine.workspace), "/usr", "/etc/shadow", "/srv"):
        reads = {
            type(decide(prepared, path, name))
            for name, needed in OPERATIONS.items()
            if needed == READ
        }
        assert len(reads) == 1


@pytest.mark.linux
def test_devices_are_those_of_the_mechanism() -> None:
    from nono_sandbox import own_places  # noqa: PLC0415  # it's Linux's alone

    assert DEVICES == own_places.DEVICES


@pytest.mark.linux
def test_what_is_read_of_the_machines_proc_is_what_the_mechanism_lets_be_read() -> None:
    from nono_sandbox import domain  # noqa: PLC0415  # it's Linux's alone

    assert PROC_FILES == domain._PROC_FILES  # noqa: SLF001 - nobody else's business


@pytest.mark.parametrize(
    ("network", "host", "port", "expected"),
    [
        (Network("open"), "example.org", 443, "network: open"),
        (Network("closed"), "example.org", 443, "net.closed"),
        (Network("closed"), "localhost", 80, "net.closed"),
        (Network("ports", (80,)), "localhost", 80, "network: connect_ports 80"),
        (Network("ports", (80,)), "::1", 80, "network: connect_ports 80"),
        (Network("ports", (80,)), "127.0.0.1", 81, "net.port"),
        (Network("ports", (80,)), "example.org", 80, "net.host"),
        (Network("ports", (), (80,)), "localhost", 80, "net.port"),
    ],
)
def test_a_host_is_open_by_the_networks_mode(
    network: Network, host: str, port: int, expected: str
) -> None:
    found = decide_host(network, host, port)
    assert (found.rule if isinstance(found, Allow) else found.code) == expected
