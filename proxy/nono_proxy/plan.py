"""What is known of a request; complete once it's judged.

Architecture invariant: a value that is filled in, no I/O.
"""

from dataclasses import dataclass, field
from math import inf

from nono_proxy.authority import Authority
from nono_proxy.config import Route
from nono_proxy.placements import Found
from nono_proxy.tokens import Lease


@dataclass(slots=True)
class Inner:
    """The tunnel in which a request came: its far end is settled."""

    target: Authority
    tls: bool
    lease: Lease | None


@dataclass(slots=True)
class Plan:
    """What was found out of a request by now: so much can be recorded if it's refused."""

    entrance: str | None = None
    method: bytes = b""
    lease: Lease | None = None
    target: Authority | None = None
    tls: bool = True
    route: Route | None = None
    rule: str | None = None
    raw: bool = False
    path: bytes = b""
    query: bytes | None = None
    found: list[Found] = field(default_factory=list)
    until: float = inf
    """When the first of what it shows runs out."""
    in_body: bool = False
    """Whether a token may stand in the body, which has to be there before anything leaves."""
