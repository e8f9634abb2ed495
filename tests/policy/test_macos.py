"""What the shipped profiles grant on macOS of the system, since none of it is there on Linux."""

from __future__ import annotations

from nono_mcp.policy.macos import on_macos
from nono_mcp.policy.profiles import SHIPPED as PROFILES
from nono_mcp.policy.rules import SHIPPED, Layer
from nono_sandbox.confinement import READ
from nono_sandbox.seatbelt.fixed import SYSTEM_GRANTS


def test_the_systems_directories_are_macoss_and_read_alone() -> None:
    own = Layer("profile default", PROFILES["default"], SHIPPED)
    system = Layer("profile system", PROFILES["system"], SHIPPED)
    found, unchanged = on_macos([system, own])
    section = found.document.filesystem
    granted = {(path, False) for path in section.read} | {
        (path, True) for path in section.read_file
    }
    assert granted == {(grant.path, grant.exact) for grant in SYSTEM_GRANTS}
    assert {grant.access for grant in SYSTEM_GRANTS} == {READ}
    assert (section.allow, section.write, section.allow_file, section.write_file) == (
        (),
        (),
        (),
        (),
    )
    assert found.document.limits == PROFILES["system"].limits
    assert unchanged == own
