"""A workspace with a repository in it, and a session whose commands attack what is guarded."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from nono_mcp.policy.document import Document, EnvironmentSection, FilesystemSection
from nono_mcp.policy.request import Request
from nono_mcp.session import Command, Result, Session
from nono_sandbox.client import ForkServer
from nono_sandbox.confinement import LANDLOCK, NAMESPACES
from tests.guard.runs import ENVIRON

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONG_ENOUGH_S = 60


def git(directory: Path, *words: str) -> str:
    """Run Git as the person would, outside."""
    home = directory.parent / "home"
    command = ["git", "-c", "protocol.file.allow=always", *words]
    done = subprocess.run(
        command, cwd=directory, env=ENVIRON | {"HOME": str(home)}, capture_output=True, check=True
    )
    return done.stdout.decode()


@dataclass
class Bench:
    """A machine in small, on which sessions are opened in one tier."""

    root: Path
    tier: str
    results: list[Result] = field(default_factory=list)

    @property
    def workspace(self) -> Path:
        return self.root / "work"

    @property
    def quarantine(self) -> Path:
        return self.root / "state" / "nono" / "quarantine"

    def request(self, **files: tuple[str, ...]) -> Request:
        return Request(
            workspace=str(self.workspace),
            tier=self.tier,
            environ=ENVIRON,
            home=str(self.root / "home"),
            state_dir=str(self.root / "state" / "nono"),
            config_dir=str(self.root / "config" / "nono"),
            flags=Document(
                filesystem=FilesystemSection().replace(**files),
                environment=EnvironmentSection(passed=tuple(ENVIRON)),
            ),
        )

    def run(self, *scripts: str | Callable[[], object], **files: tuple[str, ...]) -> list[str]:
        """Run shell scripts one after the other in one session; return what was put right.

        What isn't a script is called in between, as the person's own doing.
        """
        found: list[str] = []

        async def all_of_them() -> None:
            with anyio.fail_after(LONG_ENOUGH_S):
                async with Session.open(self.request(**files), tier=self.tier) as session:
                    for script in scripts:
                        if callable(script):
                            script()
                            continue
                        output: list[bytes] = []
                        command = Command(("/bin/sh", "-c", script))
                        result = await session.run(command, on_output=output.append)
                        self.results.append(result)
                        said = b"".join(output).decode(errors="replace")
                        assert result.status == 0, said
                        start = len(f"{self.workspace}/")
                        found.extend(f"{one.action} {one.path[start:]}" for one in result.guarded)

        anyio.run(all_of_them)
        return sorted(found)


@pytest.fixture(scope="session")
def _namespaces_missing() -> str:
    server = ForkServer.start()
    server.close()
    return server.reason


@pytest.fixture(params=[NAMESPACES, LANDLOCK])
def tier(request: pytest.FixtureRequest, _namespaces_missing: str) -> str:
    wanted: str = request.param
    only = os.environ.get("NONO_TEST_TIER", "") or wanted
    if only != wanted:
        pytest.skip(f"only {only} is tried")
    if wanted == NAMESPACES and _namespaces_missing:
        pytest.skip(_namespaces_missing)
    return wanted


@pytest.fixture
def bench(tmp_path: Path, tier: str) -> Bench:
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    return Bench(tmp_path, tier)


@pytest.fixture
def repository(bench: Bench) -> Path:
    """Return the workspace, which is a repository with a commit and a hook of the person's."""
    git(bench.workspace, "init", "-q", "-b", "main")
    (bench.workspace / "file").write_text("1")
    git(bench.workspace, "add", "file")
    git(bench.workspace, "commit", "-q", "-m", "first")
    hook = bench.workspace / ".git" / "hooks" / "post-commit"
    hook.write_text("#!/bin/sh\nexit 0\n")
    hook.chmod(0o755)
    return bench.workspace


def seen(path: Path) -> dict[str, Any]:
    """Return the files of a tree, with content and mode, but for the samples of `git init`."""
    found: dict[str, Any] = {}
    for each in sorted(path.rglob("*")):
        if each.suffix == ".sample":
            continue
        status = each.lstat()
        content = each.read_bytes() if each.is_file() and not each.is_symlink() else None
        target = str(each.readlink()) if each.is_symlink() else None
        found[str(each.relative_to(path))] = (status.st_mode, content, target)
    return found
