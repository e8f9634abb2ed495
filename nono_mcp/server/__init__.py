"""`nono serve`: the MCP server of one workspace, on standard input and output or by HTTP.

`messages` and `stdio` are the wire, `http`, `listening`, `strangers` and `incoming` the other one,
`shared`, `team`, `tenants`, `turns`, `oauth` and `metrics` what it takes to share it; `arguments`,
`tools`, `results`, `text`, `hints`, `account` and `enforcement` are what a client sees; `door` says
who gets in, `logged`, `asking`, `telemetry`, `audit_tools` and `audit_resources` keep and show the
log; `news`, `outputs` and `snapshot_resources` show the rest; `access_tools`, `wanting` and
`consent` ask the person, `waiting` has a client wait; `app` puts the tools together and `life` runs
all of it from the first import to the last signal.

Architecture invariant: this package itself imports nothing of the SDK, which takes a second:
the session starts meanwhile.
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
    """The file that says who; None is whoever holds the token made at the start."""


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
    from nono_mcp.server.life import run  # noqa: PLC0415 - see above

    return run(options)
