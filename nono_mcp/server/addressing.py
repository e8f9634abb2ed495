"""Which of a principal's sessions a request is for.

`/mcp/NAME` is the session of that name, in every era of the protocol: whoever says it comes back to
it. At `/mcp` a client of the 2025 protocols has one for each `Mcp-Session-Id`, begun by its
`initialize`. Newer ones have nothing that tells them apart (SEP-2567), so those that give no name
share one in which what one began is reached by its id alone (`co_tenants`).

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from nono_mcp.server.paths import NAME, PATH
from nono_mcp.snapshots.values import NOBODY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import Scope

_RANDOM_BYTES = 16


@dataclass(frozen=True, slots=True)
class Who:
    """One session of a principal's."""

    principal: str
    name: str = ""
    """What its client calls it."""
    random: str = ""
    """Of one that is a protocol session's, and ends with it."""

    @classmethod
    def anew(cls, principal: str) -> Who:
        """Return one that nobody has."""
        return cls(principal, random=secrets.token_hex(_RANDOM_BYTES))

    @property
    def is_common(self) -> bool:
        """Tell whether several clients may be in it."""
        return not self.name and not self.random

    @property
    def owner(self) -> str:
        """Return whose its snapshots are; of the common one, nobody's."""
        if self.is_common:
            return NOBODY
        return f"http:{self.principal}/{self.name or f'#{self.random}'}"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says of the session that it's for."""

    name: str = ""
    protocol_id: str | None = None
    """Given by a client of the 2025 protocols."""
    may_open: bool = False
    """It may be such a client's first."""


def asked(scope: Scope) -> Asked | None:
    """Return what a request says; None if there's nothing at its path."""
    path: str = scope["path"]
    if path != PATH:
        name = path.removeprefix(f"{PATH}/")
        return Asked(name) if name != path and NAME.fullmatch(name) else None
    headers = scope["headers"]
    version = header(headers, MCP_PROTOCOL_VERSION_HEADER)
    if version is not None and version not in HANDSHAKE_PROTOCOL_VERSIONS:
        return Asked()
    given = header(headers, MCP_SESSION_ID_HEADER)
    if given is not None:
        return Asked(protocol_id=given)
    return Asked(may_open=scope["method"] == "POST")


def header(headers: Iterable[tuple[bytes, bytes]], name: str) -> str | None:
    """Return the first value of a header, if it's there."""
    wanted = name.lower().encode("ascii")
    return next((value.decode("latin-1") for key, value in headers if key == wanted), None)
