"""A policy for looking at: prepared as for a run, and nothing runs under it."""

from __future__ import annotations

from nono_mcp.cli import policy_flags
from nono_mcp.policy import load
from nono_sandbox.single_run import launching

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.cli.options import Parsed
    from nono_mcp.policy.request import Prepared


def prepared(parsed: Parsed) -> Prepared:
    """Return the policy that *parsed* asks for, in the tier that this machine gives.

    Raises:
        UsageError, PolicyError, RefusedError, SandboxError: There is none.
    """
    request = policy_flags.request(parsed)
    launch = launching.start(policy_flags.tier(parsed))
    launch.await_ready()
    return load.prepare(request.replace(tier=launch.tier))
