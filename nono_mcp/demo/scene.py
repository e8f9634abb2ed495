"""Where the demonstration plays: a temporary home with a secret, and how its server starts."""

from __future__ import annotations

import os
import secrets
import sys
from dataclasses import dataclass, field
from pathlib import Path

from mcp import StdioServerParameters

VARIABLE = "AWS_SECRET_ACCESS_KEY"


@dataclass(frozen=True, slots=True)
class Scene:
    """A home with a secret in it, and a project."""

    home: Path
    secret: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def project(self) -> Path:
        """Return the workspace."""
        return self.home / "project"

    @property
    def key(self) -> Path:
        """Return the file that is to stay unread."""
        return self.home / ".ssh" / "id_ed25519"

    def set(self) -> None:
        """Make the home, and put the secret where secrets are."""
        self.project.mkdir()
        self.key.parent.mkdir()
        self.key.write_text(f"{self.secret}\n", encoding="ascii")

    def server(self, options: list[str]) -> StdioServerParameters:
        """Return how the server of the project is started."""
        command, *arguments = launcher()
        environment = {"HOME": str(self.home), VARIABLE: self.secret}
        return StdioServerParameters(
            command=command,
            args=[*arguments, "serve", "--workspace", str(self.project), *options],
            env={**environment, "PATH": os.environ.get("PATH", os.defpath)},
        )


def launcher() -> list[str]:
    """Return the command that this process was started by, or what comes to the same."""
    started = Path(sys.argv[0])
    if started.name == "nono" and os.access(started, os.X_OK):
        return [str(started.resolve())]
    return [sys.executable, "-E", "-P", "-m", "nono_mcp"]
