"""A file tool's call: what a confined worker is asked for, and as much of its answer as counts.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nono_mcp.policy.decide import Allow, decide
from nono_mcp.session import Command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nono_mcp.policy.request import Prepared

_USUAL_PATH = "/usr/bin:/bin"


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


def own_path(prepared: Prepared) -> str:
    """Return PATH for a program of ours: where no call can have put another by its name.

    A directory that isn't there in the person's home may be made in the private one.
    """
    path = dict(prepared.confinement.environment).get("PATH", "").split(":")
    kept = [each for each in path if each.startswith("/") and _is_given_to_read(prepared, each)]
    return ":".join(kept) or _USUAL_PATH


def _is_given_to_read(prepared: Prepared, path: str) -> bool:
    verdicts = [decide(prepared, path, one, "directory") for one in ("execute", "write")]
    return [isinstance(one, Allow) for one in verdicts] == [True, False]


class Answer:
    """What a worker answers, up to a bound and one chunk more: over it, no parser takes it."""

    def __init__(self, bytes_max: int) -> None:
        self.data = bytearray()
        self._bytes_max = bytes_max

    def keep(self, chunk: bytes) -> None:
        """Add *chunk*, while there is room."""
        if len(self.data) <= self._bytes_max:
            self.data.extend(chunk)
