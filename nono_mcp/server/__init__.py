"""`nono serve`: the MCP server of one workspace, on standard input and output or by HTTP.

`lifecycle` runs all of it from the first import to the last signal; `app` puts the tools together.

- The wire: `stdio`, `streams`, `messages`; or `http`, `listening`, `paths`, `addressing`,
  `protocol_sessions`.
- Who gets in: `http_access`, `own_token`, `oauth`; how much they take: `unauthenticated`,
  `request_quota`.
- Shared by several: `shared`, `team`, `tenants`, `tenant`, `fair_queue`, `co_tenants`, `metrics`.
- What is offered: `offered`, `policy_text`, `enforcement`, `prompts`, `completing`; and called by
  `direct_calls`.
- What clients pass: `arguments`, `file_arguments`, `job_arguments`, `client_info`.
- Commands: `tools`, `attending`, `results`, `text`, `hints`; that go on: `jobs`, `job_tools`.
- Files: `file_tools`, `file_calls`, `file_answers`, `search_output`.
- Undo: `undo_tools`, `changes`, `progress`.
- Asking the person: `access_tools`, `access_requests`, `consent`.
- Resources: `outputs`, `snapshot_resources`, `audit_resources`, `notifications`.
- The log: `audit_log`, `audit_tools`, `telemetry`. Why there is no server: `errors`.

Architecture invariant: this package itself imports nothing of the SDK, which takes most of
a second: what refuses a start is told before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nono_mcp.server.errors import ServeError

if TYPE_CHECKING:
    from nono_mcp.policy.request import Request

__all__ = ["Http", "ServeError", "ServeOptions", "main"]


@dataclass(frozen=True, slots=True)
class Http:
    """Where to serve by HTTP, and whom."""

    host: str
    port: int
    """0 is any free one."""
    certificate: str | None = None
    """A file in PEM, with its chain."""
    key: str | None = None
    plain: bool = False
    """The person's explicit yes to plain HTTP elsewhere than on loopback."""
    drain_s: float = 0.0
    """How long calls may still take once a signal came."""
    team: str | None = None
    """The file that says who; None is whoever holds the token."""
    token_file: str | None = None
    """Which has the token, or gets it; None is a token made at the start, and gone at the end."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What `nono serve` was asked for."""

    request: Request
    tier: str | None = None
    """NAMESPACES or LANDLOCK to insist on one."""
    http: Http | None = None
    """None is standard input and output."""
    audit_keep_days: int | None = None
    """How long records stay in the audit log; None is `audit.prune.KEEP_DAYS`."""


def main(options: ServeOptions) -> int:
    """Serve until the client leaves or a signal comes, and return the exit status.

    When this returns, or the process ends in any other way, no worker is left.

    Raises:
        ServeError: It can't be reached as asked. Nothing runs.
        PolicyError, RefusedError, SandboxError: There is nothing to serve under that policy.
    """
    # Imported here, since the command line imports this package to know its options.
    from nono_mcp.server.lifecycle import run  # noqa: PLC0415 - see above

    return run(options)
