"""Whether what a policy requires can be had: judged once, for every way in."""

from __future__ import annotations

import os

from nono_mcp.policy.errors import RefusedError
from nono_sandbox import support, system
from nono_sandbox.confinement import SEATBELT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.policy.request import Prepared
    from nono_sandbox.support import Guarantee, Support

    Guarantees = tuple[Guarantee, ...]


def found(namespaces_reason: str, groups_reason: str) -> Support:
    """Return the facts about this machine as a session knows them, without trying again."""
    if SEATBELT in system.BACKEND.tiers:
        return support.probe()
    from nono_sandbox import landlock

    machine = os.uname()
    return support.Support(
        kernel=machine.release,
        machine=machine.machine,
        landlock_abi=landlock.abi_version(),
        landlock_errata=landlock.errata(),
        namespaces_reason=namespaces_reason,
        groups_reason=groups_reason,
    )


def check(prepared: Prepared, facts: Support, tier: str) -> tuple[Guarantees, Guarantees]:
    """Return what *tier* gives here, and what of it is required and missing, by best effort.

    Raises:
        RefusedError: A required guarantee is missing. Run nothing.
    """
    enforcement = prepared.document.enforcement
    given = support.guarantees(facts, tier, prepared.confinement.network.mode)
    lacking = support.lacking(enforcement.require, given)
    if lacking and not enforcement.best_effort:
        raise RefusedError(
            f"the policy requires {lacking[0].id}, which isn't to be had here: {lacking[0].reason}",
            code="tier.required",
            remedy="see nono doctor; --best-effort runs without it",
        )
    return given, lacking
