"""What a lane has given up before its first call, as it shows from outside and from within."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_sandbox import _uapi
from nono_sandbox.confinement import NAMESPACES
from tests.sandbox.test_forkserver import leader_of

if TYPE_CHECKING:
    from tests.sandbox.conftest import Confine, Sandbox

pytestmark = [pytest.mark.linux, pytest.mark.claim("privilege.none")]

IGNORED = (1, 2, 3, 13, 15)
"""SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM."""


def test_a_lane_has_no_privilege_of_its_own_and_nobody_looks_into_it(confine: Confine) -> None:
    """A file tool's worker is its fork, and executes nothing that would take any away."""
    sandbox = confine()
    assert sandbox.run("true").status == 0
    lane = leader_of(sandbox)
    lines = Path(f"/proc/{lane}/status").read_text(encoding="utf-8").splitlines()
    status = {name: text.strip() for name, _, text in (line.partition(":") for line in lines)}
    sets = ["CapInh", "CapPrm", "CapEff", "CapAmb"]
    if os.geteuid() == 0 or sandbox.tier == NAMESPACES:
        sets.append("CapBnd")
    assert {name: int(status[name], 16) for name in sets} == dict.fromkeys(sets, 0)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    ignored = int(status["SigIgn"], 16)
    assert [number for number in IGNORED if not ignored >> number - 1 & 1] == []
    if os.geteuid():
        # Of who isn't dumpable they are not who runs it's (proc(5)).
        for pid in (lane, sandbox.server.pid):
            assert Path(f"/proc/{pid}/maps").stat().st_uid != os.geteuid()
    if sandbox.tier == NAMESPACES:
        assert resource.prlimit(lane, resource.RLIMIT_CORE)[0] == 1


def test_no_user_is_what_root_is_and_nothing_is_mounted_on_its_like(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        """
        say("securebits", libc.prctl(27, 0, 0, 0, 0))
        try:
            lines = open("/proc/self/mountinfo").read().splitlines()
        except OSError:
            lines = []
        say("points", [line.split()[4] for line in lines])
        """
    )
    if os.geteuid() == 0 or sandbox.tier == NAMESPACES:
        assert outcome.said["securebits"] == _uapi.SECBITS_NOROOT_AND_LOCKED
    points = outcome.said["points"]
    assert sorted(set(points)) == sorted(points)
    assert bool(points) == (sandbox.tier == NAMESPACES)
