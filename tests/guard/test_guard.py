"""What a call plants that would run outside later is gone when it has been answered."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_mcp.guard import tree
from nono_sandbox.confinement import LANDLOCK
from tests.guard.conftest import git, seen

if TYPE_CHECKING:
    from tests.guard.conftest import Bench

pytestmark = [pytest.mark.linux, pytest.mark.claim("guard.put-right")]
EVIL = "printf '#!/bin/sh\\ntouch /tmp/evil\\n'"

PLANTED = {
    ".vscode": "mkdir .vscode && echo '{}' > .vscode/tasks.json",
    ".mcp.json": "echo '{}' > .mcp.json",
    ".envrc": "ln -s file .envrc",
    ".claude": "mkdir -m 0 .claude",
    ".cursor": "mkdir -p .cursor/a/b && chmod 0 .cursor/a",
    ".npmrc": "mkfifo .npmrc",
    ".husky": "mkdir x && touch x/pre-commit && mv x .husky",
    ".codex": "ln -s .git .codex",
    ".git/hooks/pre-commit": f"rm -rf .git/hooks; mkdir .git/hooks; {EVIL} > .git/hooks/pre-commit",
    ".git/commondir": "echo ../evil > .git/commondir",
    ".git/config.worktree": "printf '[core]\\nfsmonitor=evil\\n' > .git/config.worktree",
    ".git/info/attributes": "mkdir -p .git/info; echo '* filter=x' > .git/info/attributes",
    ".git/modules/evil": "mkdir -p .git/modules .git/e && ln -s ../e .git/modules/evil",
    ".git/modules/a/b/config": (
        "mkdir -p .git/modules/a/b && printf '[core]\\nfsmonitor=evil\\n' > .git/modules/a/b/config"
    ),
    ".git/worktrees/w/commondir": (
        "mkdir -p .git/worktrees/w && echo /tmp/evil > .git/worktrees/w/commondir"
    ),
}


@pytest.mark.parametrize(("path", "script"), PLANTED.items(), ids=PLANTED)
def test_what_a_call_plants_is_taken_away(bench: Bench, path: str, script: str) -> None:
    """From a workspace whose `.git` is bare of everything, so that nothing in it is masked."""
    (bench.workspace / ".git").mkdir()
    assert bench.run(script) == [f"removed {path}"]
    assert not os.path.lexists(bench.workspace / path)
    assert len(list(bench.quarantine.iterdir())) == 1


def test_what_is_large_is_put_back_and_what_is_too_large_is_told(
    bench: Bench, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the second tier those of the top directory aren't read-only."""
    monkeypatch.setattr(tree, "BYTES_MAX", 2**16)
    git(repository, "init", "-q", "sub")
    sizes = {"pre-push": tree.BYTES_MAX - 1, "update": tree.BYTES_MAX + 1}
    hooks = {
        f"{at}.git/hooks/{name}": (repository / at / ".git" / "hooks" / name, size)
        for at in ("", "sub/")
        for name, size in sizes.items()
    }
    for path, size in hooks.values():
        path.write_bytes(b"mine")
        os.truncate(path, size)
    found = bench.run(f"for hook in {' '.join(hooks)}; do printf evil 1<>$hook || true; done")
    beneath = ["left sub/.git/hooks/update", "restored sub/.git/hooks/pre-push"]
    top = ["left .git/hooks/update", "restored .git/hooks/pre-push"]
    assert found == sorted(beneath + (top if bench.tier == LANDLOCK else []))
    for name, (path, size) in hooks.items():
        evil = b"evil" if f"left {name}" in found else b"mine"
        assert path.read_bytes() == evil.ljust(size, b"\0")


NAMES = (
    "lefthook.toml .lefthook.json lefthook-local.yaml .lefthook-local.jsonc .lintstagedrc.mjs "
    ".dir-locals-2.el .helix mise.local.toml .lazy.lua .Rprofile .ghci .ocamlinit .pryrc .irbrc"
)


def test_settings_of_many_tools_are_taken_away(bench: Bench) -> None:
    found = bench.run(f"for n in {NAMES}; do echo evil > $n; done")
    assert found == sorted(f"removed {name}" for name in NAMES.split())


CHANGED = {
    "a hook": "echo evil >> .git/hooks/post-commit",
    "a hook's mode": "chmod 700 .git/hooks/post-commit",
    "a hook made": "echo evil > .git/hooks/pre-push",
    "a hook removed": "rm -f .git/hooks/post-commit",
    "the hooks moved": "mv .git/hooks .git/h && mkdir .git/hooks && echo x > .git/hooks/a",
    "the hooks a link": "mv .git/hooks .git/h && mkdir e && echo x > e/a && ln -s ../e .git/hooks",
    "the hooks a link, and gone": "rm -r .git/hooks && mkdir e && ln -s ../e .git/hooks",
    "an editor's file": "echo evil > .vscode/tasks.json",
    "an editor's file by a rename": "echo evil > t && mv t .vscode/tasks.json",
    "an editor's directory": "mv .vscode v && mkdir .vscode && echo evil > .vscode/tasks.json",
    "an editor's file by its link": "ln .vscode/tasks.json t && echo evil > t",
    "settings": "git config core.fsmonitor evil",
    "settings in one file": "printf '[alias]\\nx = !evil\\n' >> .git/config",
    "settings by a link": (
        "mv .git/config c && echo '[core]fsmonitor=evil' >> c && ln -s ../c .git/config"
    ),
    "the repository": (
        "cp -r .git e && mv .git g && mv e .git && git config core.fsmonitor evil && mv g .git/g"
    ),
    "the repository a link": "mv .git g && ln -s g .git",
    "the repository a file": "mv .git g && echo 'gitdir: g' > .git",
    "the repository by another": "mv .git g && git init -q",
}  # fmt: skip


@pytest.mark.parametrize("script", CHANGED.values(), ids=CHANGED)
def test_what_was_there_is_as_it_was(bench: Bench, repository: Path, script: str) -> None:
    (repository / ".vscode").mkdir()
    (repository / ".vscode" / "tasks.json").write_text("{}")
    guarded = (".vscode", ".git/hooks")
    before = {name: seen(repository / name) for name in guarded}
    settings = git(repository, "config", "--list", "--local")
    bench.run(f"({script}) || true")
    assert {name: seen(repository / name) for name in guarded} == before
    assert git(repository, "config", "--list", "--local") == settings
    assert git(repository, "log", "--format=%s") == "first\n"
    assert not (repository / ".git").is_symlink()


EVERYDAY = """
set -e
git config user.name Ann
git checkout -q -b feature
echo 2 > file
git commit -qam second
git branch other
git remote add origin https://example.com/x.git
git tag v1
git checkout -q main
git merge -q feature
git stash list
echo 3 > file
git stash -q
git stash pop -q
git commit -qam third
git worktree add -q wt other
(cd wt && echo 4 > file && git commit -qam fourth)
git gc -q
git init -q fresh
(cd fresh && echo 1 > a && git add a && git commit -qm a)
git clone -q fresh copy
git -c protocol.file.allow=always submodule --quiet add "$PWD/fresh" sub
git commit -qm sub
git -c protocol.file.allow=always submodule --quiet update --init
git status
"""


def test_everyday_git_goes_on(bench: Bench, repository: Path) -> None:
    assert bench.run(EVERYDAY) == []
    assert git(repository, "log", "-1", "--format=%s") == "sub\n"
    assert git(repository, "config", "user.name") == "Ann\n"
    assert "other" in git(repository, "worktree", "list")
    assert git(repository / "sub", "status", "--short") == ""


def test_a_repository_is_made_and_used(bench: Bench) -> None:
    script = "git init -q && echo 1 > a && git add a && git commit -qm a && git config user.name A"
    assert bench.run(script, "git log && git status && git branch b") == []
    assert git(bench.workspace, "log", "--format=%s") == "a\n"


def test_a_repository_made_with_hooks_and_settings_loses_those(bench: Bench) -> None:
    found = bench.run(
        f"git init -q && git config core.pager evil && {EVIL} > .git/hooks/pre-commit "
        "&& chmod +x .git/hooks/pre-commit"
    )
    assert found == ["removed .git/config", "removed .git/hooks/pre-commit"]
    assert not os.path.lexists(bench.workspace / ".git" / "hooks" / "pre-commit")


def test_the_persons_own_edits_stay(bench: Bench, repository: Path) -> None:
    """Those between two calls; and, of what no worker could have changed, those during one."""

    def edit() -> None:
        (repository / ".envrc").write_text("mine")
        (repository / ".git" / "hooks" / "pre-push").write_text("mine")
        git(repository, "config", "core.pager", "less")
        git(repository, "config", "alias.x", "!x")

    assert bench.run("true", edit, "true", "git config user.name A", "echo 2 > file") == []
    assert (repository / ".envrc").read_text() == "mine"
    assert (repository / ".git" / "hooks" / "pre-push").read_text() == "mine"
    assert git(repository, "config", "core.pager") == "less\n"
    found = bench.run("git config core.editor evil")
    assert found == ["restored .git/config"]
    assert git(repository, "config", "core.pager") == "less\n"


def test_what_is_given_up_stays(bench: Bench) -> None:
    script = "mkdir .vscode && echo 1 > .vscode/a && echo 1 > .envrc"
    assert bench.run(script, bypass=(".vscode",)) == ["removed .envrc"]
    assert (bench.workspace / ".vscode" / "a").read_text() == "1\n"


def test_more_than_is_looked_through_goes_whole(bench: Bench, repository: Path) -> None:
    script = "mkdir .git/modules && cd .git/modules && seq 1 1100 | xargs mkdir"
    assert bench.run(script) == ["removed .git/modules"]
    deep = "d=.git/worktrees; mkdir $d; cd $d; seq 1 1100 | xargs mkdir"
    assert bench.run(deep) == ["removed .git/worktrees"]
    assert git(repository, "status", "--short") == ""


def test_a_workspace_closed_behind_the_call_is_looked_at_all_the_same(bench: Bench) -> None:
    script = "mkdir .git && echo x > .git/commondir && echo x > .envrc && chmod 0 .git && chmod 0 ."
    assert bench.run(script) == ["removed .envrc", "removed .git/commondir"]


def test_what_was_put_right_is_told_and_kept(bench: Bench) -> None:
    bench.run("echo evil > .envrc")
    (action,) = bench.results[-1].guarded
    assert action.what == "what a shell runs on entering the directory"
    assert Path(action.kept_in).read_text() == "evil\n"
    assert bench.quarantine.stat().st_mode & 0o077 == 0
