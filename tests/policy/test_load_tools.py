from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from nono_mcp.policy.document import Document, FilesystemSection
from nono_sandbox.confinement import READ, Link
from tests.policy.views import granted

if TYPE_CHECKING:
    import pytest

    from tests.policy.conftest import Machine


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
