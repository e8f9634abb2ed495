"""Whether what a policy requires can be had, for those policies that require something by name."""

from __future__ import annotations

from nono_mcp.policy import required
from nono_sandbox import support

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.policy.request import Prepared
    from nono_sandbox.single_run.launching import Launch


def check(prepared: Prepared, launch: Launch) -> list[str]:
    """Return what to tell the person of what is missing, if best effort will do.

    Raises:
        RefusedError: A required guarantee is missing. Nothing ran.
    """
    # A single run is in no group of its own.
    facts = support.probe().replace(groups_reason="a single run makes none")
    _, lacking = required.check(prepared, facts, launch.tier)
    return [f"not enforced: {one.id} ({one.reason})" for one in lacking]
