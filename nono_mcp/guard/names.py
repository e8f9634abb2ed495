"""Names that are guarded wherever a grant that may be written begins.

Architecture invariant: this module is data and does no I/O.
"""

from __future__ import annotations

TABLE: dict[str, str] = {
    "an editor's settings, which can run commands": (
        ".vscode .idea .zed .fleet .devcontainer .devcontainer.json .vim .nvim .nvimrc .exrc "
        ".vimrc .nvim.lua .dir-locals.el .sublime-project"
    ),
    "an agent's settings, which can run commands": (
        ".mcp.json .claude .codex .cursor .gemini .qwen .windsurf .continue .aider.conf.yml "
        ".cline .roo .kiro .amp .opencode opencode.json opencode.jsonc .copilot"
    ),
    "what a shell runs on entering the directory": (
        ".envrc .env.nu mise.toml .mise.toml .mise .autoenv .autoenv.zsh"
    ),
    "hooks that Git runs by way of a tool": (
        ".husky .pre-commit-config.yaml .pre-commit-hooks.yaml lefthook.yml .lefthook.yml "
        ".lefthook lefthook-local.yml .overcommit.yml .lintstagedrc .simple-git-hooks.json"
    ),
    "a package manager's settings, which name registries and programs": (
        ".npmrc .yarnrc .yarnrc.yml .pnpmfile.cjs .bunfig.toml bunfig.toml pip.conf .pip .pypirc "
        ".cargo .netrc .condarc"
    ),
    "a debugger's start-up file": ".gdbinit .lldbinit .pdbrc",
}

NAMES: dict[str, str] = {name: what for what, names in TABLE.items() for name in names.split()}
"""What each guarded name is."""

GIT = "settings of Git, which can run commands"
HOOK = "a hook that Git runs"
REPOSITORY = "the repository itself"
