"""Others who keep a directory as it was: git on the side, and restic and nono-py where they are."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class Git:
    """The same by git's plumbing, its objects kept elsewhere."""

    def __init__(self, workspace: Path, directory: Path) -> None:
        self._environment = {
            **os.environ,
            "GIT_DIR": str(directory),
            "GIT_WORK_TREE": str(workspace),
        }
        self._workspace = workspace
        self.directory = directory
        self.run("init", "-q")

    def run(self, *words: str) -> str:
        """Run git in the workspace."""
        return subprocess.run(  # noqa: S603 - our own words
            ["git", *words],  # noqa: S607 - found as a person finds it
            cwd=self._workspace,
            env=self._environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    def take(self) -> str:
        """Add everything and return the tree."""
        self.run("add", "-A")
        return self.run("write-tree")

    def add(self) -> None:
        """Add everything, and no more."""
        self.run("add", "-A")

    def restore(self, tree: str, *, sync: bool = False) -> None:
        """Keep what is there, as a restore of ours does, and go back to *tree*."""
        self.take()
        self.run("read-tree", "--reset", "-u", tree)
        self.run("clean", "-fdq")
        if sync:
            subprocess.run(["sync", "-f", self._workspace], check=True)  # noqa: S603, S607 - as git


class Restic:
    """The same by restic, with a local repository. Each of its runs derives a key, for a second."""

    def __init__(self, workspace: Path, directory: Path) -> None:
        self._words = ["restic", "--quiet", "--repo", str(directory)]
        self._environment = {
            **os.environ,
            "RESTIC_PASSWORD": "a password",
            "RESTIC_CACHE_DIR": f"{directory}-cache",
        }
        self._workspace = workspace
        self.run("init")

    def run(self, *words: str) -> None:
        """Run restic in the workspace."""
        subprocess.run(  # noqa: S603 - our own words
            [*self._words, *words],
            cwd=self._workspace,
            env=self._environment,
            check=True,
            capture_output=True,
        )

    def take(self) -> None:
        """Back up everything."""
        self.run("backup", ".")


class NonoPy:
    """The same by nono-py, told to heed no .gitignore."""

    def __init__(self, workspace: Path, directory: Path) -> None:
        import nono_py  # noqa: PLC0415 - a peer that need not be there

        directory.mkdir()
        exclusion = nono_py.ExclusionConfig(use_gitignore=False)
        self._manager: Any = nono_py.SnapshotManager(str(directory), [str(workspace)], exclusion)
        self._is_first = True

    def take(self) -> None:
        """Take the first snapshot, or one more."""
        if self._is_first:
            self._manager.create_baseline()
        else:
            self._manager.create_incremental()
        self._is_first = False


Peer = Git | Restic | NonoPy


def peers() -> dict[str, type[Peer]]:
    """Return the peers that are there, by name."""
    found: dict[str, type[Peer]] = {"git": Git}
    if shutil.which("restic"):
        found["restic"] = Restic
    if importlib.util.find_spec("nono_py"):
        found["nono-py"] = NonoPy
    return found
