"""How far a session's policy is enforced here, and whether that is enough.

Architecture invariant: what a policy requires and this machine can't give is refused, unless
the person wrote the word for going on without; then every answer says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from nono_mcp.policy import required

if TYPE_CHECKING:
    from nono_mcp.session import Session
    from nono_sandbox.support import Guarantee


@dataclass(frozen=True, slots=True)
class Enforcement:
    """What holds, and what the person does without."""

    tier: str
    reason: str
    """Why this isn't the first tier, if it isn't."""
    given: tuple[Guarantee, ...]
    lacking: tuple[Guarantee, ...] = ()
    """What the policy requires and doesn't have, by best effort."""

    @classmethod
    def of(cls, session: Session) -> Self:
        """Return how *session* is enforced.

        Raises:
            RefusedError: A required guarantee is missing. Serve nothing.
        """
        # Not `support.probe`, which forks: the session has found out what it tries.
        facts = required.found(session.tier_reason, session.groups_reason)
        given, lacking = required.check(session.prepared, facts, session.tier)
        return cls(session.tier, session.tier_reason, given, lacking)

    @property
    def warning(self) -> str:
        """Return what every answer has to say, or nothing."""
        if not self.lacking:
            return ""
        return f"not enforced: {', '.join(one.id for one in self.lacking)}"
