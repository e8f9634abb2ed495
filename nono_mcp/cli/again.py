"""`nono run`, where it was run before and would be judged the same.

Architecture invariant: all that is done for a call is done here too, but for judging its policy:
`recall` tells that its outcome holds. Whatever isn't as it was goes the way of `run`.
"""

from __future__ import annotations

import posix as os
import time

from nono_sandbox import oneshot
from nono_sandbox.confinement import CLOSED, NAMESPACES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.cli import signals
    from nono_mcp.cli.attend import Outcome
    from nono_mcp.cli.confined import Run
    from nono_mcp.guard.action import Action
    from nono_mcp.guard.afterwards import Afterwards
    from nono_mcp.guard.guard import Guard
    from nono_mcp.policy.recall import Outcome as Judged
    from nono_sandbox.oneshot import Launch


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
    launch = None
    if command and not any(word.startswith(_ANOTHER_LANE) for word in words):
        # It gets ready while it is found out what for.
        launch = oneshot.start(None, CLOSED)
    key = None
    if command:
        status, key, launch = _as_before(words, command, launch)
        if status is not None:
            return status
    from nono_mcp.cli import run
    from nono_mcp.cli.start import Start

    return run.main(argv, Start(begun_ns, key, command, launch))


def _split(argv: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the options of *argv* and, if there is a plain one after `--`, its command."""
    at = argv.index("--") if "--" in argv else len(argv)
    command = tuple(argv[at + 1 :])
    if not command or not command[0] or "\0" in "".join(command):
        return (), ()
    return tuple(argv[:at]), command


def _as_before(
    words: tuple[str, ...], command: tuple[str, ...], launch: Launch | None
) -> tuple[int | None, bytes | None, Launch | None]:
    """Run *command* if what came of judging the options *words* is known and holds.

    Returns the exit status, None if it wasn't run; what an outcome is to be kept by; and the lane.
    """
    from nono_mcp.policy import recall

    try:
        key = recall.key_of(words)
    except OSError:
        return None, None, launch  # there is no current directory
    memory = recall.find(key)
    if memory is None:
        return None, key, launch
    outcome = memory.outcome
    if launch is None:
        launch = oneshot.start(outcome.tier, outcome.network)
    if outcome.network != launch.network or not recall.hold(memory.notes):
        return None, key, launch
    return _Again(words, command, outcome, launch).status(), key, launch


class _Again:
    """One run of a command whose policy has been judged."""

    def __init__(
        self, words: tuple[str, ...], command: tuple[str, ...], outcome: Judged, launch: Launch
    ) -> None:
        self._words = words
        self._command = command
        self._outcome = outcome
        self._launch = launch

    def status(self) -> int | None:
        """Run it and return the exit status; None if it has to be judged for another tier.

        Raises:
            SandboxError: Nothing ran.
            LaneLostError: What ran was killed.
        """
        from nono_mcp.cli import signals

        # Before anything runs: what arrives from then on is the program's.
        arrived = signals.Signals(*signals.PASSED_ON, signals.TSTP)
        tty = os.isatty(0) and os.isatty(1)
        self._launch.ask(self._outcome.confinement, self._call(tty=tty))
        guard, actions = self._guard()
        afterwards = None
        try:
            self._launch.await_ready()
            if self._launch.tier != NAMESPACES:
                return None
            self._launch.go_ahead(self._outcome.programs)
            if guard is not None:
                afterwards = self._afterwards(guard)
                afterwards.begin(self._launch.has_news)
            master = self._launch.begun()
            outcome = _attended(self._launch, master, arrived, afterwards)
        finally:
            if guard is not None:
                actions += guard.end()
                guard.close()
                if afterwards is not None:
                    actions += afterwards.look()
            if actions:
                self._run().say_put_right(actions)
        return 0 if outcome.plain_success else self._told(outcome)

    def _call(self, *, tty: bool) -> list[object]:
        """Return the call of this command, as `wire.plain` has it."""
        name, _, environment, cwd, limits, narrowing, _, builtin = self._outcome.call
        return [name, self._command, environment, cwd, limits, narrowing, tty, builtin]

    def _guard(self) -> tuple[Guard | None, tuple[Action, ...]]:
        """Return the guard of what may be written, at its post, and what it has put right.

        None if nothing may be written.
        """
        if not self._outcome.guarded:
            return None, ()
        from nono_mcp import places
        from nono_mcp.guard.guard import Guard

        guard = Guard(places.state_dir(places.environ()))
        guard.settle(*self._outcome.guarded)
        return guard, guard.begin()

    def _afterwards(self, guard: Guard) -> Afterwards:
        """Get ready to look beneath the top directory, before the program, beside and after it."""
        from nono_mcp import places
        from nono_mcp.guard.afterwards import Afterwards

        cwd = self._outcome.call[3]
        state_dir = places.state_dir(places.environ())
        return Afterwards(state_dir, self._outcome.guarded, cwd, guard.began)

    def _run(self) -> Run:
        """Return what has words for how it ended, which only those pay for who need any."""
        from nono_mcp.cli import confined, options

        argv = [*self._words, "--", *self._command]
        parsed = options.parse(argv, confined.OPTIONS, command=True)
        return confined.Run("run", parsed, self._command)

    def _told(self, outcome: Outcome) -> int:
        from nono_mcp.policy import recall

        prepared = recall.prepared_of(self._outcome.prepared)
        return self._run().ended(outcome, prepared, self._launch)


def _attended(
    launch: Launch, master: int, arrived: signals.Signals, beside: Afterwards | None
) -> Outcome:
    from nono_mcp.cli import attend

    return attend.to_its_end(launch, master, arrived, beside)
