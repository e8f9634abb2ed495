from __future__ import annotations

import os
import posix
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from nono_mcp.policy import load
from nono_mcp.policy.document import Document, FilesystemSection
from nono_mcp.policy.request import Prepared, Request
from nono_sandbox.confinement import NAMESPACES

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """A person's machine: a home, a workspace elsewhere, and the sandbox's own directories."""

    root: Path
    home: Path
    workspace: Path

    @property
    def config(self) -> Path:
        return self.home / ".config" / "nono"

    @property
    def state(self) -> Path:
        return self.home / ".local" / "state" / "nono"

    def write(self, path: str, text: str = "hunter2") -> Path:
        """Make the file *path* of the home."""
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def profile(self, name: str, text: str) -> Path:
        file = self.write(f".config/nono/profiles/{name}.toml", text)
        file.chmod(0o600)
        return file

    def request(self, **changes: object) -> Request:
        usual = Request(
            workspace=str(self.workspace),
            tier=NAMESPACES,
            environ={"PATH": "/usr/bin:/bin"},
            home=str(self.home),
            state_dir=str(self.state),
            config_dir=str(self.config),
        )
        return usual.replace(**changes)

    def prepare(self, **changes: object) -> Prepared:
        return load.prepare(self.request(**changes))

    def flags(self, **lists: tuple[str, ...]) -> Document:
        return Document(filesystem=FilesystemSection().replace(**lists))


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make *path* somebody else's: root gives it away, anybody else becomes somebody else."""
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)
    else:
        for module in (os, posix):
            monkeypatch.setattr(module, "geteuid", lambda: 12345)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    root = tmp_path.resolve()
    found = Machine(root, root / "home" / "ada", root / "work" / "engine")
    found.home.mkdir(parents=True)
    found.workspace.mkdir(parents=True)
    return found
