import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nono_mcp
import nono_sandbox
from nono_mcp.policy.errors import RefusedError
from nono_sandbox.confinement import LANDLOCK, WRITE, Denial

if TYPE_CHECKING:
    from tests.policy.conftest import Machine

PACKAGES = [Path(package.__file__ or "").parent for package in (nono_mcp, nono_sandbox)]


@pytest.mark.claim("fs.program-kept")
@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_workspace_that_holds_our_program_can_be_written_but_not_there(
    machine: "Machine", package: Path
) -> None:
    workspace = os.path.realpath(package.parent)
    confinement = machine.prepare(workspace=workspace, broad_workspace=True).confinement
    assert Denial(os.path.realpath(package), WRITE) in confinement.denials


@pytest.mark.claim("fs.program-kept")
def test_the_environment_we_run_in_is_our_program_too(
    machine: "Machine", monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = machine.workspace / ".venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "pyvenv.cfg").touch()
    monkeypatch.setattr(sys, "executable", str(environment / "bin" / "python"))
    confinement = machine.prepare().confinement
    assert Denial(str(environment), WRITE) in confinement.denials


def test_where_that_cannot_be_enforced_the_remedy_is_to_install_elsewhere(
    machine: "Machine", monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = machine.workspace / ".venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "pyvenv.cfg").touch()
    monkeypatch.setattr(sys, "executable", str(environment / "bin" / "python"))
    with pytest.raises(RefusedError, match="install nono outside"):
        machine.prepare(tier=LANDLOCK)
