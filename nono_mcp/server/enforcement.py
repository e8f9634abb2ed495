"""How far a session's policy is enforced here, and whether that is enough.

Architecture invariant: what a policy requires and this machine can't give is refused, unless
the person wrote the word for going on without; then every answer says so.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from nono_mcp.policy.errors import RefusedError
from nono_sandbox import landlock, support

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
        prepared = session.prepared
        system = os.uname()
        # Not `support.probe`, which forks: the session has found out what it tries.
        facts = support.Support(
            kernel=system.release,
            machine=system.machine,
            landlock_abi=landlock.abi_version(),
            landlock_errata=landlock.errata(),
            namespaces_reason=session.tier_reason,
        )
        given = support.guarantees(facts, session.tier, prepared.confinement.network.mode)
        wanted = prepared.document.enforcement
        lacking = support.lacking(wanted.require, given)
        if lacking and not wanted.best_effort:
            raise RefusedError(
                f"the policy requires {lacking[0].id}, which isn't to be had here: "
                f"{lacking[0].reason}",
                code="tier.required",
                remedy="see nono doctor; --best-effort runs without it",
            )
        return cls(session.tier, session.tier_reason, given, lacking)

    @property
    def warning(self) -> str:
        """Return what every answer has to say, or nothing."""
        if not self.lacking:
            return ""
        return f"not enforced: {', '.join(one.id for one in self.lacking)}"
