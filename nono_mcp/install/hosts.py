"""Where each agent's host keeps its MCP servers, and how ours is named there.

The sources are the hosts' own documentation of their configuration files.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nono_mcp.install.errors import InstallError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROJECT, USER = "project", "user"
NAME = "nono"
ADDRESS, TOKEN = "{address}", "{token}"
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
    remote: Mapping[str, object]
    """What stands there of a server by HTTP, whose address and token are `ADDRESS` and `TOKEN`."""
    note: str = ""
    """What a person should know who wants the agent to have our tools alone."""
    toml: bool = False
    beside: tuple[str, object] | None = None
    """Of a server by HTTP: what else has to stand in the document, and where."""
    stale: frozenset[str] = frozenset()
    """Keys of the other kind of server, that don't stand there any more."""
    started: Mapping[str, object] = field(default_factory=dict)
    """What stands there of a server that it starts itself, if that isn't `server`."""

    @property
    def is_remote(self) -> bool:
        """Tell whether it's told of a server by HTTP."""
        return bool(self.started)

    def local(self) -> Host:
        """Return it as it is told of a server that it starts itself."""
        return replace(self, stale=frozenset({*self.remote} - {*self.server}))

    def by_http(self, address: str, variable: str) -> Host:
        """Return it as it is told of a server at *address*; the token is in *variable*."""
        server = {key: _filled(value, address, variable) for key, value in self.remote.items()}
        stale = frozenset({*self.server} - {*server})
        return replace(self, server=server, stale=stale, started=self.server)

    @property
    def address_key(self) -> str:
        """Return under which key a server's address stands."""
        return next(key for key, value in self.remote.items() if value == ADDRESS)

    def file(self, scope: str, project: str, home: str) -> str:
        """Return the file of *scope*.

        Raises:
            InstallError: This host has none.
        """
        if scope not in self.files:
            raise InstallError(f"it has no file for that scope; choose --scope {min(self.files)}")
        return f"{project if scope == PROJECT else home}/{self.files[scope]}"


def _filled(value: object, address: str, variable: str) -> object:
    if isinstance(value, str):
        return address if value == ADDRESS else value.replace(TOKEN, variable)
    if isinstance(value, dict):
        return {key: _filled(inner, address, variable) for key, inner in value.items()}
    return value


def _bearer(reference: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {reference}"}


HOSTS: Mapping[str, Host] = {
    "claude-code": Host(
        {PROJECT: ".mcp.json"},
        ("mcpServers", NAME),
        {"command": NAME, "args": [*_CURRENT], "alwaysLoad": True},
        {
            "type": "http",
            "url": ADDRESS,
            "headers": _bearer(f"${{{TOKEN}}}"),
            "alwaysLoad": True,
        },
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
        {
            "url": ADDRESS,
            "bearer_token_env_var": TOKEN,
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
        {"url": ADDRESS, "headers": _bearer(f"${{env:{TOKEN}}}")},
    ),
    "vscode": Host(
        {PROJECT: ".vscode/mcp.json"},
        ("servers", NAME),
        {"type": "stdio", "command": NAME, "args": [*_VARIABLE]},
        # It asks once, and keeps the answer encrypted: variables it doesn't look up in headers.
        {"type": "http", "url": ADDRESS, "headers": _bearer("${input:nono-token}")},
        beside=(
            "inputs",
            [
                {
                    "type": "promptString",
                    "id": "nono-token",
                    "description": "The token of nono serve",
                    "password": True,
                }
            ],
        ),
    ),
    "gemini": Host(
        {PROJECT: ".gemini/settings.json", USER: ".gemini/settings.json"},
        ("mcpServers", NAME),
        {"command": NAME, "args": [*_CURRENT]},
        {"httpUrl": ADDRESS, "headers": _bearer(f"${{{TOKEN}}}")},
    ),
    "opencode": Host(
        {PROJECT: "opencode.json", USER: ".config/opencode/opencode.json"},
        ("mcp", NAME),
        {"type": "local", "command": [NAME, *_CURRENT], "enabled": True},
        {
            "type": "remote",
            "url": ADDRESS,
            "headers": _bearer(f"{{env:{TOKEN}}}"),
            "oauth": False,
            "enabled": True,
        },
    ),
}
