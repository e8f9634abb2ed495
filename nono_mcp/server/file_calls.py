"""A file tool's call: what a confined worker is asked for, and as much of its answer as counts.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nono_mcp.session import Command

if TYPE_CHECKING:
    from collections.abc import Mapping


def asking(
    name: str, request: Mapping[str, Any], timeout_s: float, *, writes: bool = False
) -> Command:
    """Return the call by which a worker does *name*; it has no network, and seldom *writes*."""
    return Command(
        argv=(name, request["path"]),
        stdin=json.dumps(request).encode(),
        timeout_s=timeout_s,
        writes=None if writes else (),
        network_closed=True,
        builtin=True,
    )


class Answer:
    """What a worker answers, up to a bound and one chunk more: over it, no parser takes it."""

    def __init__(self, bytes_max: int) -> None:
        self.data = bytearray()
        self._bytes_max = bytes_max

    def keep(self, chunk: bytes) -> None:
        """Add *chunk*, while there is room."""
        if len(self.data) <= self._bytes_max:
            self.data.extend(chunk)
