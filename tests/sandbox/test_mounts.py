"""What the mounts that a program has allow: read by the program itself, in the kernel's words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nono_sandbox import own_places
from nono_sandbox.confinement import NAMESPACES
from tests.sandbox.test_single_run import Run, call_for, said

if TYPE_CHECKING:
    from collections.abc import Callable

    from nono_sandbox.confinement import Call
    from tests.sandbox.conftest import Sandbox, Yard

__all__ = ["call_for"]

pytestmark = [
    pytest.mark.linux,
    pytest.mark.claim("privilege.none"),
    pytest.mark.parametrize("tier", [NAMESPACES], indirect=True),
]

SAY = """
    for line in open("/proc/self/mountinfo"):
        about, _, rest = line.partition(" - ")
        fields, (kind, _, whole) = about.split(), rest.split()
        say(fields[4], [fields[5].split(","), fields[6:], kind, whole.split(",")])
    names = ("cgroup", "ipc", "mnt", "net", "pid")
    say("namespaces", {name: os.readlink("/proc/self/ns/" + name) for name in names})
"""
WITH_DEVICES = {"/dev", "/dev/pts", *(f"/dev/{name}" for name in own_places.DEVICES)}


def check(mounts: dict[str, Any], workspace: str) -> None:
    """See that no mount gives what a program isn't to have."""
    shared = {
        name
        for name, inside in mounts.pop("namespaces").items()
        if inside == str(Path(f"/proc/self/ns/{name}").readlink())
    }
    assert shared == set()
    options = {point: set(one[0]) for point, one in mounts.items()}
    assert [point for point, one in options.items() if "nosuid" not in one] == []
    assert {point for point, one in options.items() if "nodev" not in one} <= WITH_DEVICES
    # Those above it hold it in its place, where it lies in a place of the session's own.
    above = {str(path) for path in Path(workspace).parents} - {"/"}
    written = {point for point, one in options.items() if "rw" in one}
    assert written - above == {workspace, "/tmp", "/dev/shm", "/dev/pts"} - above  # noqa: S108
    assert {"/proc", "/dev/pts"} <= {point for point, one in options.items() if "noexec" in one}
    # Nothing that is mounted outside from here on comes in, and nothing goes out.
    assert [one[1] for one in mounts.values() if one[1]] == []
    for point in ("/tmp", "/dev/shm"):  # noqa: S108 - likewise
        _, _, kind, whole = mounts[point]
        assert kind == "tmpfs"
        assert {one.partition("=")[0] for one in whole} >= {"size", "nr_inodes"}


def test_a_session_has_namespaces_of_its_own_whose_mounts_give_no_ids_and_no_devices(
    sandbox: Sandbox, yard: Yard
) -> None:
    check(sandbox.attack(SAY).said, str(yard.workspace))


def test_a_run_has_namespaces_of_its_own_whose_mounts_give_no_ids_and_no_devices(
    tier: str, yard: Yard, call_for: Callable[..., Call]
) -> None:
    # Where mounts are handed on to whoever has a copy of them, as most machines have it.
    by = ("/usr/bin/unshare", "-rm", "--propagation", "shared")
    answer, output = Run(tier, yard.confinement(), call_for(SAY), by=by).wait()
    assert answer[:2] == ("ended", 0)
    check(said(output), str(yard.workspace))
