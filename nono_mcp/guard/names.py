"""Names that are guarded wherever a grant that may be written begins.

Architecture invariant: this module is data and does no I/O.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

TABLE: dict[str, str] = {
    "an editor's settings, which can run commands": (
        ".vscode .idea .zed .fleet .devcontainer .devcontainer.json .vim .nvim .nvimrc .exrc "
        ".vimrc .nvim.lua .lazy.lua .dir-locals.el .dir-locals-2.el .helix"
    ),
    "an agent's settings, which can run commands": (
        ".mcp.json .claude .codex .cursor .gemini .qwen .windsurf .continue .aider.conf.yml "
        ".cline .roo .kiro .amp .opencode opencode.json opencode.jsonc .copilot"
    ),
    "what a shell runs on entering the directory": (
        ".envrc .env.nu mise.toml .mise.toml mise.local.toml .mise.local.toml .mise .autoenv "
        ".autoenv.zsh"
    ),
    "hooks that Git runs by way of a tool": (
        ".husky .pre-commit-config.yaml .pre-commit-hooks.yaml .overcommit.yml "
        ".simple-git-hooks.json .lefthook .lefthook-local"
    ),
    "hooks that Git runs by way of lefthook": (
        "lefthook.yml lefthook.yaml lefthook.toml lefthook.json lefthook.jsonc "
        ".lefthook.yml .lefthook.yaml .lefthook.toml .lefthook.json .lefthook.jsonc "
        "lefthook-local.yml lefthook-local.yaml lefthook-local.toml lefthook-local.json "
        "lefthook-local.jsonc .lefthook-local.yml .lefthook-local.yaml .lefthook-local.toml "
        ".lefthook-local.json .lefthook-local.jsonc"
    ),
    "commands that lint-staged runs in a hook of Git's": (
        ".lintstagedrc .lintstagedrc.json .lintstagedrc.yaml .lintstagedrc.yml .lintstagedrc.js "
        ".lintstagedrc.mjs .lintstagedrc.cjs .lintstagedrc.ts .lintstagedrc.mts .lintstagedrc.cts"
    ),
    "a package manager's settings, which name registries and programs": (
        ".npmrc .yarnrc .yarnrc.yml .pnpmfile.cjs .bunfig.toml bunfig.toml pip.conf .pip .pypirc "
        ".cargo .netrc .condarc"
    ),
    "a debugger's start-up file": ".gdbinit .lldbinit .pdbrc",
    "an interpreter's start-up file": ".Rprofile .ghci .ocamlinit .irbrc .pryrc",
}

SUFFIXES: dict[str, str] = {
    ".code-workspace": "an editor's settings, which can run commands",
    ".sublime-project": "an editor's settings, which can run commands",
}
"""Ends of names that are guarded, whatever comes before."""

_NAMES: dict[str, str] = {name: what for what, names in TABLE.items() for name in names.split()}
_ENDS = tuple(SUFFIXES)


def what(name: str) -> str:
    """Return what is guarded by the name *name*; nothing, if it isn't guarded."""
    found = _NAMES.get(name)
    if found is not None:
        return found
    if not name.endswith(_ENDS):
        return ""
    return next(what for end, what in SUFFIXES.items() if name.endswith(end))


def guarded(present: Iterable[str]) -> list[str]:
    """Return those of the names *present* that are guarded."""
    return [name for name in present if name in _NAMES or name.endswith(_ENDS)]


GIT = "settings of Git, which can run commands"
HOOK = "a hook that Git runs"
REPOSITORY = "the repository itself"
