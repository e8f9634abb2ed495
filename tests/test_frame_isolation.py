"""Nothing that lies in the current directory, and no PYTHON* variable, reaches our process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = Path(sys.executable).parent

PLANTED = [
    "encodings", "json", "nono_mcp", "nono_proxy", "nono_sandbox", "os", "posixpath", "proxy", "re",
    "sandbox", "site", "sitecustomize", "struct", "sys", "types", "usercustomize",
]  # fmt: skip


class HostileWorkspace:
    """A directory that an agent filled with modules of the names ours imports."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reached = path / "reached"
        # The standard library's `encodings` is imported before there is an `open`.
        code = f"import posix; posix.mkdir({str(self.reached)!r})\n"
        for name in PLANTED:
            (path / f"{name}.py").write_text(code)
        for name in ("nono_mcp", "nono_sandbox", "proxy", "sandbox", "nono_mcp/cli"):
            (path / name).mkdir()
            for module in ("__init__", "__main__", "_site"):
                (path / name / f"{module}.py").write_text(code)
        packages = path / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
        packages.mkdir(parents=True)
        (packages / "planted.pth").write_text(f"import sys; {code}")
        (path / "pyvenv.cfg").write_text(f"home = {path}\n")

    def variables(self, path: str) -> dict[str, str]:
        """Return the environment of a person who points Python at the workspace as *path*."""
        return {
            "HOME": str(self.path),
            "PATH": os.pathsep.join([str(COMMANDS), os.environ["PATH"]]),
            "PYTHONBREAKPOINT": "nono_mcp.breakpoint",
            "PYTHONHOME": path,
            "PYTHONINSPECT": "1",
            "PYTHONPATH": path,
            "PYTHONPYCACHEPREFIX": path,
            "PYTHONSTARTUP": f"{path}/site.py",
            "PYTHONUSERBASE": path,
            "PYTHONWARNINGS": "error::nono_mcp.Warning",
        }


@pytest.fixture
def workspace(tmp_path: Path) -> HostileWorkspace:
    return HostileWorkspace(tmp_path)


def run(workspace: HostileWorkspace, *command: str, path: str) -> str:
    finished = subprocess.run(
        command,
        capture_output=True,
        check=True,
        cwd=workspace.path,
        env=workspace.variables(path),
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=120,
    )
    return finished.stdout


@pytest.mark.claim("supervisor.isolated")
@pytest.mark.parametrize("path", [".", "", "{cwd}"])
def test_the_commands_start_isolated(workspace: HostileWorkspace, path: str) -> None:
    path = path.format(cwd=workspace.path)
    assert run(workspace, "nono", "--version", path=path).startswith("nono ")
    run(workspace, "nono", "serve", "--help", path=path)
    run(workspace, "nono-mcp", "--help", path=path)
    assert not workspace.reached.exists()


def test_the_module_starts_isolated_with_safe_path(workspace: HostileWorkspace) -> None:
    command = [sys.executable, "-E", "-P", "-m", "nono_mcp", "--version"]
    assert run(workspace, *command, path=".").startswith("nono ")
    assert not workspace.reached.exists()


@pytest.mark.parametrize("planted", ["sitecustomize", "encodings", "re"])
def test_otherwise_the_workspace_is_reached(workspace: HostileWorkspace, planted: str) -> None:
    for module in workspace.path.glob("*.py"):
        if module.stem != planted:
            module.unlink()
    command = [str(COMMANDS / "nono-python"), "-c", "import nono_mcp"]
    variables = workspace.variables(".")
    del variables["PYTHONHOME"]
    subprocess.run(command, check=False, cwd=workspace.path, env=variables, timeout=120)
    assert workspace.reached.exists()
