"""What the tools on PATH need to be read, where they live in the person's home.

A version manager's directory on PATH holds links and scripts that lead to siblings of it. So a
known manager is granted as far as it holds programs, and nothing that holds credentials.

Architecture invariant: this module does no I/O; it names candidates, which `resolve` looks up.
"""

from __future__ import annotations

from nono_mcp.policy.paths import ancestors, covers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MANAGERS: tuple[tuple[str, str], ...] = (
    (".cargo/bin", ".cargo/bin .rustup"),
    (".pyenv", ".pyenv"),
    (".rbenv", ".rbenv"),
    (".nvm", ".nvm"),
    (".fnm", ".fnm"),
    (".local/share/fnm", ".local/share/fnm"),
    (".local/share/mise", ".local/share/mise/installs .local/share/mise/shims"),
    (".asdf", ".asdf"),
    (".volta", ".volta/bin .volta/tools"),
    (".bun", ".bun/bin .bun/install"),
    (".deno", ".deno/bin"),
    (".sdkman", ".sdkman/candidates"),
    (".npm-global", ".npm-global/bin .npm-global/lib"),
    (".local/share/pnpm", ".local/share/pnpm"),
    (".local/share/uv/python", ".local/share/uv/python"),
    (".local/share/uv/tools", ".local/share/uv/tools .local/share/uv/python"),
    (
        ".local/bin",
        """
        .local/bin .local/lib .local/share/uv/tools .local/share/uv/python
        .local/share/pipx/venvs .local/pipx/venvs .local/share/claude
        """,
    ),
)
"""(what is on PATH, what is then read), beneath the home."""

MARKS = ("pyvenv.cfg", "conda-meta", "lib/node_modules", "pkg/tool", "lib/modules", "lib/rustlib")
"""What stands beside a `bin` whose parent is one tool's own tree."""


def needed(directory: str, home: str, kept: str, exists: Callable[[str], bool]) -> Iterator[str]:
    """Yield what to read for the programs in *directory*, its location being on PATH.

    Nothing that lies around *home* or *kept* (the workspace) is ever among it.
    """
    for lead, read in MANAGERS:
        if covers(f"{home}/{lead}", directory):
            yield from (f"{home}/{path}" for path in read.split())
            break
    else:
        parent, _, name = directory.rpartition("/")
        too_much = (home, kept, *ancestors(home), *ancestors(kept))
        if directory in too_much or _windows(directory):
            return
        tree = name == "bin" and parent not in too_much
        if tree and any(exists(f"{parent}/{mark}") for mark in MARKS):
            yield parent
        else:
            yield directory


def _windows(directory: str) -> bool:
    """Tell whether *directory* is on a Windows drive as WSL mounts it: its programs run outside."""
    drive = directory.removeprefix("/mnt/").partition("/")[0]
    return directory.startswith("/mnt/") and len(drive) == 1
