"""Whether what a policy requires can be had, for those policies that require something by name."""

from __future__ import annotations

from nono_mcp.policy.errors import RefusedError
from nono_sandbox import support

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.policy.request import Prepared
    from nono_sandbox.oneshot import Launch


def check(prepared: Prepared, launch: Launch) -> list[str]:
    """Return what to tell the person of what is missing, if best effort will do.

    Raises:
        RefusedError: A required guarantee is missing. Nothing ran.
    """
    enforcement = prepared.document.enforcement
    facts = support.probe()
    given = support.guarantees(facts, launch.tier, prepared.confinement.network.mode)
    lacking = support.lacking(enforcement.require, given)
    if lacking and not enforcement.best_effort:
        first = lacking[0]
        raise RefusedError(
            f"the policy requires {first.id}, which isn't to be had here: {first.reason}",
            code="tier.required",
            remedy="see nono doctor; --best-effort runs without it",
        )
    return [f"not enforced: {one.id} ({one.reason})" for one in lacking]
