"""A team that shares a server: its file, its people's tokens, and the server as a process."""

import hashlib
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.server.conftest import SECRET, TIER, Machine, furnished
from tests.server.test_http import Website

NAMES = ("alice", "bob")


@dataclass
class People:
    """Who there is, each with a token and a workspace with a secret in it."""

    root: Path
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.root / "team" / "team.toml"

    def workspace(self, name: str) -> Path:
        return self.root / "people" / name

    def write(self, top: str = "", each: str = "", more: str = "") -> None:
        self.file.parent.mkdir(mode=0o700, exist_ok=True)
        lines = [top, f"metrics_tokens_sha256 = [{digest(self.tokens['metrics'])}]"]
        for name in NAMES:
            lines += [
                f"[principals.{name}]",
                f"workspace = {json.dumps(str(self.workspace(name)))}",
            ]
            lines += [f"tokens_sha256 = [{digest(self.tokens[name])}]", each]
        self.file.write_text("\n".join([*lines, more, ""]))


def digest(token: str) -> str:
    return json.dumps(hashlib.sha256(token.encode()).hexdigest())


def people(root: Path) -> People:
    found = People(root)
    for name in (*NAMES, "metrics"):
        found.tokens[name] = secrets.token_urlsafe(32)
    for name in NAMES:
        found.workspace(name).mkdir(parents=True)
        (found.workspace(name) / "secret").write_text(f"{name}'s {SECRET}")
    found.write()
    furnished(root / "machine")
    return found


@dataclass
class Shared:
    """A server that they share."""

    people: People
    process: subprocess.Popen[str]
    port: int

    def of(self, name: str) -> Website:
        """Return the server as *name* meets it."""
        token = self.people.tokens.get(name, name)
        return Website(self.process, self.port, self.people.file, [], token)


@contextmanager
def sharing(found: People, options: Sequence[str] = (), **environ: str) -> Iterator[Shared]:
    """Serve them, as a process of its own."""
    machine = Machine(found.root / "machine")
    command = [*nono(), "--team", str(found.file), "--http", "0", *options]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, env=machine.environ | environ, text=True
    )
    assert process.stderr is not None
    try:
        announced = process.stderr.readline()
        assert "serving MCP" in announced, announced + process.stderr.read()
        process.stderr.readline()
        yield Shared(found, process, int(announced.rsplit(":", 1)[1].removesuffix("/mcp\n")))
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def nono() -> list[str]:
    tier = ["--tier", TIER] if TIER else []
    return [str(Path(sys.executable).parent / "nono"), "serve", *tier]
