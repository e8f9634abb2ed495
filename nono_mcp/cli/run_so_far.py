"""What has been done for a run by the time that it has to be judged.

Architecture invariant: this module does no I/O.
"""

from __future__ import annotations

from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_sandbox.single_run.launching import Launch


class RunSoFar(Value):
    """What `begin_run` has begun of a run that no earlier judgement holds for."""

    begun_ns: int
    """When, before anything of this program was loaded that matters."""
    key: bytes | None
    """What an outcome of judging is to be kept by, if it may be."""
    command: tuple[str, ...]
    """What it took for the command then."""
    launch: Launch | None
    """A lane that hasn't been asked for anything."""
