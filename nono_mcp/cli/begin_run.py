"""How `nono run` begins: it forks its lane, and then looks whether it was run like this before.

If it was, and would be judged the same, `recalled_run` sees to it; else `run` does.

Architecture invariant: next to nothing is imported before the lane is forked. What this process
touches till then, both have to copy when they touch it again; what it needs, it imports after.
"""

from __future__ import annotations

import time

from nono_sandbox import system
from nono_sandbox.confinement import CLOSED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_sandbox.single_run.processes import Lane

_ANOTHER_LANE = (
    "--bind-port",
    "--connect-port",
    "--help",
    "--open-net",
    "--profile",
    "--rollback",
    "--tier",
    "-h",
)
"""What the options begin with that may ask for another lane than the usual, or for none."""


def main(argv: list[str]) -> int:
    """Run the command line *argv* and return the exit status."""
    begun_ns = time.time_ns()
    words, command = _split(argv)
    usual = bool(command) and not any(word.startswith(_ANOTHER_LANE) for word in words)
    # It gets ready while it is found out what for.
    lane = _forked() if usual else None
    key, launch = None, None
    if command:
        from nono_mcp.cli import recalled_run
        from nono_sandbox.single_run import launching

        launch = launching.start(None, CLOSED, lane) if usual else None
        status, key, launch = recalled_run.run(words, command, launch)
        if status is not None:
            return status
    from nono_mcp.cli import run
    from nono_mcp.cli.run_so_far import RunSoFar

    return run.main(argv, RunSoFar(begun_ns, key, command, launch))


def _forked() -> Lane | None:
    """Fork the lane that most runs need; None where lanes aren't forked."""
    if system.BACKEND.single_run:
        return None
    from nono_sandbox.single_run import forking

    return forking.begin(system.BACKEND.tiers[0], CLOSED)


def _split(argv: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the options of *argv* and, if there is a plain one after `--`, its command."""
    at = argv.index("--") if "--" in argv else len(argv)
    command = tuple(argv[at + 1 :])
    if not command or not command[0] or "\0" in "".join(command):
        return (), ()
    return tuple(argv[:at]), command
