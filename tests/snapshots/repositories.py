"""A workspace of repositories, one in another, and what may be done to them: a table of deeds."""

# mypy: disable-error-code="func-returns-value"

import os
import shutil
import subprocess
from pathlib import Path

from tests.snapshots.deeds import Deed

GIT = {
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_AUTHOR_NAME": "a",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "a",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    # To ask how it is isn't to write its index.
    "GIT_OPTIONAL_LOCKS": "0",
    "HOME": "/nonexistent",
    "PATH": os.environ["PATH"],
}


def git(directory: Path, *words: str) -> str:
    command = ["git", "-c", "protocol.file.allow=always", *words]
    return subprocess.run(
        command, cwd=directory, env=GIT, check=True, capture_output=True, text=True, timeout=60
    ).stdout


def repository(path: Path) -> Path:
    path.mkdir(parents=True)
    git(path, "init", "-q", "-b", "main")
    (path / "tracked").write_text("one\n")
    git(path, "add", "-A")
    git(path, "commit", "-q", "-m", "first")
    return path


def populate_repositories(w: Path, elsewhere: Path) -> None:
    """Make a project with a submodule, a worktree, a repository inside, and work that isn't in."""
    outer = repository(w / "project")
    nested = repository(outer / "vendor/nested")
    repository(elsewhere / "library")
    git(outer, "submodule", "--quiet", "add", str(elsewhere / "library"), "library")
    (outer / ".gitignore").write_text("vendor\n.env\n")
    git(outer, "add", ".gitignore")
    git(outer, "commit", "-q", "-m", "submodule")
    git(outer, "worktree", "add", "-q", "../worktree", "-b", "side")
    (w / "worktree/tracked").write_text("on the side\n")
    (outer / "library/tracked").write_text("in the submodule\n")
    (nested / "tracked").write_text("uncommitted\n")
    (outer / "tracked").write_text("stashed\n")
    git(outer, "stash", "-q")
    (outer / "staged").write_text("staged\n")
    git(outer, "add", "staged")
    (outer / "tracked").write_text("unstaged\n")
    (outer / "untracked").write_text("untracked\n")
    (outer / ".env").write_text("KEY=1\n")


def told(w: Path) -> list[str]:
    """Return what git says of them."""
    outer = w / "project"
    asked = (
        "status --porcelain=v2 --branch",
        "log --all --format=%H%d",
        "reflog --all",
        "stash list",
        "fsck --full --no-dangling",
        "diff",
        "diff --cached",
        "config --list --local",
        "worktree list",
    )
    found = [git(outer, *words.split()) for words in asked]
    inner = [outer / "vendor/nested", outer / "library", w / "worktree"]
    return found + [git(one, words, "--") for one in inner for words in ("diff", "log")]


def hooked(w: Path) -> None:
    hook = w / "project/.git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nevil\n")
    hook.chmod(0o755)


GIT_DEEDS: dict[str, Deed] = {
    "commit all": lambda w: git(w / "project", "commit", "-q", "-a", "-m", "evil"),
    "reset --hard": lambda w: git(w / "project", "reset", "-q", "--hard", "HEAD~1"),
    "checkout and clean": lambda w: (
        git(w / "project", "checkout", "-q", "-f", "-b", "evil"),
        git(w / "project", "clean", "-qffdx"),
    ),
    "drop the stash": lambda w: git(w / "project", "stash", "drop", "-q"),
    "expire the reflog and prune": lambda w: (
        git(w / "project", "stash", "drop", "-q"),
        git(w / "project", "reflog", "expire", "--expire=now", "--all"),
        git(w / "project", "gc", "-q", "--prune=now"),
    ),
    "remove the index": lambda w: (w / "project/.git/index").unlink(),
    "remove .git": lambda w: shutil.rmtree(w / "project/.git"),
    "plant a hook": hooked,
    "plant configuration": lambda w: git(w / "project", "config", "core.hooksPath", "/evil"),
    "break a reference": lambda w: (w / "project/.git/refs/heads/main").write_text("x" * 40),
    "remove the worktree": lambda w: (
        shutil.rmtree(w / "worktree"),
        git(w / "project", "worktree", "prune"),
    ),
    "deinit the submodule": lambda w: git(w / "project", "submodule", "deinit", "-f", "--all"),
    "commit in the submodule": lambda w: git(
        w / "project/library", "commit", "-q", "-a", "-m", "evil"
    ),
    "remove the repository inside": lambda w: shutil.rmtree(w / "project/vendor"),
    "rewrite what is ignored": lambda w: (w / "project/.env").write_text("KEY=2\n"),
}
