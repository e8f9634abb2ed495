"""The shipped profiles.

They are Python values and not TOML, since a parser for TOML costs more time than all else that
happens before a program runs. `nono policy show` prints them as TOML.

Architecture invariant: this module is data and does no I/O. What a shipped profile grants and
the machine doesn't have is left out; what a person's profile grants has to be there.
"""

from __future__ import annotations

from nono_mcp.policy.document import (
    Document,
    EnvironmentSection,
    FilesystemSection,
    LimitsSection,
    NetworkSection,
)
from nono_sandbox import confinement

DEFAULT = "default"

PROCESSES_MAX = confinement.PROCESSES_USUAL
"""Of a call, unless its policy says otherwise: ample for a build, and an end to a fork bomb."""

_SYSTEM = Document(
    description="What programs need to run: the system's directories, read.",
    extends=(),
    filesystem=FilesystemSection(
        read=(
            "/usr",
            "/bin",
            "/sbin",
            "/lib",
            "/lib32",
            "/lib64",
            "/libx32",
            "/etc",
            "/opt",
            # Distributions that keep programs elsewhere, and what their /etc leads to.
            "/nix/store",
            "/nix/var/nix/profiles",
            "/gnu/store",
            "/run/current-system",
            "/snap",
            "/home/linuxbrew/.linuxbrew",
            "/var/lib/ca-certificates",
            "/var/lib/alternatives",
            "/var/cache/fontconfig",
            # What tells a runtime how many processors and how much memory there are.
            "/sys/devices/system/cpu",
            "/sys/devices/system/node",
            "/sys/kernel/mm/transparent_hugepage",
        ),
    ),
    limits=LimitsSection(processes_max=PROCESSES_MAX),
)

_DEFAULT = Document(
    description="The workspace read and written, the system's directories read, no network.",
    extends=("system",),
    filesystem=FilesystemSection(allow=("$WORKSPACE",), tools=True),
    network=NetworkSection(mode="closed"),
)

_READ_ONLY = Document(
    description="The workspace read and not written, no network.",
    extends=("system",),
    filesystem=FilesystemSection(read=("$WORKSPACE",), tools=True),
    network=NetworkSection(mode="closed"),
)

_PYTHON = Document(
    description="default, with Pythons kept in the home.",
    extends=("default",),
    filesystem=FilesystemSection(
        read=(
            "~/.pyenv",
            "~/.local/share/uv/python",
            "~/.local/share/uv/tools",
            "~/.local/pipx/venvs",
            "~/.local/share/pipx/venvs",
            "~/.local/lib",
            "~/.local/bin",
            "~/.conda/envs",
            "~/miniconda3",
            "~/miniforge3",
            "~/mambaforge",
            "~/anaconda3",
        ),
    ),
    environment=EnvironmentSection(
        passed=("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYENV_VERSION"),
    ),
)

_NODE = Document(
    description="default, with Nodes kept in the home.",
    extends=("default",),
    filesystem=FilesystemSection(
        read=(
            "~/.nvm",
            "~/.fnm",
            "~/.local/share/fnm",
            "~/.local/share/mise/installs",
            "~/.local/share/pnpm",
            "~/.volta/bin",
            "~/.volta/tools",
            "~/.asdf",
            "~/.bun/bin",
            "~/.bun/install",
            "~/.deno/bin",
            "~/.npm-global/bin",
            "~/.npm-global/lib",
            "~/.local/bin",
        ),
    ),
    environment=EnvironmentSection(passed=("NVM_DIR", "NVM_BIN", "VOLTA_HOME", "NODE_ENV")),
)

_AGENT_NETWORK = NetworkSection(mode="open")
_RESOLVER = (
    "/run/systemd/resolve/stub-resolv.conf",
    "/run/systemd/resolve/resolv.conf",
    "/run/NetworkManager/resolv.conf",
    "/run/resolvconf/resolv.conf",
)
"""What /etc/resolv.conf leads to; the directories around hold sockets."""

_CLAUDE_CODE = Document(
    description="The whole of Claude Code: its own files written, the machine's network.",
    extends=("python", "node"),
    filesystem=FilesystemSection(
        allow=("~/.claude",),
        allow_file=("~/.claude.json",),
        read=("~/.local/share/claude",),
        read_file=_RESOLVER,
        bypass=("~/.claude", "~/.claude.json", "~/.local/share/claude"),
    ),
    network=_AGENT_NETWORK,
    environment=EnvironmentSection(
        passed=(
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "ANTHROPIC_BASE_URL",
            "ANTHROPIC_MODEL",
            "CLAUDE_CODE_OAUTH_TOKEN",
        ),
    ),
)

_CODEX = Document(
    description="The whole of Codex: its own files written, the machine's network.",
    extends=("python", "node"),
    filesystem=FilesystemSection(
        allow=("~/.codex",),
        read_file=_RESOLVER,
        bypass=("~/.codex",),
    ),
    network=_AGENT_NETWORK,
    environment=EnvironmentSection(passed=("OPENAI_API_KEY", "OPENAI_BASE_URL", "CODEX_HOME")),
)

_OPEN = Document(
    description="default, with the machine's own network.",
    extends=("default",),
    filesystem=FilesystemSection(read_file=_RESOLVER),
    network=NetworkSection(mode="open"),
)

SHIPPED = {
    "default": _DEFAULT,
    "read-only": _READ_ONLY,
    "python": _PYTHON,
    "node": _NODE,
    "claude-code": _CLAUDE_CODE,
    "codex": _CODEX,
    "open": _OPEN,
    "system": _SYSTEM,
}
"""By name; `system` is what the others stand on."""
