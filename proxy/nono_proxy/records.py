"""What the proxy reports: one value for every decision.

Architecture invariant: no secret, no query value and no body ever stands in a record.
"""

from typing import NamedTuple


class Record(NamedTuple):
    """One decision and what came of it; the fields that don't apply are None or zero."""

    event: str
    code: str
    call: str | None = None
    route: str | None = None
    entrance: str | None = None
    host: str | None = None
    port: int | None = None
    address: str | None = None
    method: str | None = None
    path: str | None = None
    rule: str | None = None
    status: int | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    duration_s: float = 0.0
    injected: bool = False
    scrubbed_count: int = 0
    detail: str = ""
