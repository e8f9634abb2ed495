"""Where each agent's host keeps its MCP servers, and how ours is named there.

The sources are the hosts' own documentation of their configuration files.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nono_mcp.install.errors import InstallError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROJECT, USER = "project", "user"
NAME = "nono"
_CURRENT = ("serve", "--workspace", ".")
_VARIABLE = ("serve", "--workspace", "${workspaceFolder}")


@dataclass(frozen=True, slots=True)
class Host:
    """One host's configuration."""

    files: Mapping[str, str]
    """By scope: a path in the project, or in the home."""
    path: tuple[str, ...]
    """Where in the document our server stands."""
    server: Mapping[str, object]
    note: str = ""
    """What a person should know who wants the agent to have our tools alone."""
    toml: bool = False

    def file(self, scope: str, project: str, home: str) -> str:
        """Return the file of *scope*.

        Raises:
            InstallError: This host has none.
        """
        if scope not in self.files:
            raise InstallError(f"it has no file for that scope; choose --scope {min(self.files)}")
        return f"{project if scope == PROJECT else home}/{self.files[scope]}"


HOSTS: Mapping[str, Host] = {
    "claude-code": Host(
        {PROJECT: ".mcp.json"},
        ("mcpServers", NAME),
        {"command": NAME, "args": [*_CURRENT], "alwaysLoad": True},
        'our tools alone: claude --tools "" --allowedTools mcp__nono, or integrations/claude-code',
    ),
    "codex": Host(
        {USER: ".codex/config.toml", PROJECT: ".codex/config.toml"},
        ("mcp_servers", NAME),
        {
            "command": NAME,
            "args": [*_CURRENT],
            "required": True,
            "default_tools_approval_mode": "approve",
            "tool_timeout_sec": 3660,
        },
        "our tools alone: see integrations/codex",
        toml=True,
    ),
    "cursor": Host(
        {PROJECT: ".cursor/mcp.json", USER: ".cursor/mcp.json"},
        ("mcpServers", NAME),
        {"command": NAME, "args": [*_VARIABLE]},
    ),
    "vscode": Host(
        {PROJECT: ".vscode/mcp.json"},
        ("servers", NAME),
        {"type": "stdio", "command": NAME, "args": [*_VARIABLE]},
    ),
    "gemini": Host(
        {PROJECT: ".gemini/settings.json", USER: ".gemini/settings.json"},
        ("mcpServers", NAME),
        {"command": NAME, "args": [*_CURRENT]},
    ),
    "opencode": Host(
        {PROJECT: "opencode.json", USER: ".config/opencode/opencode.json"},
        ("mcp", NAME),
        {"type": "local", "command": [NAME, *_CURRENT], "enabled": True},
    ),
}
