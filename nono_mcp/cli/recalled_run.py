"""`nono run` with options that were judged before, where judging them would come to the same.

Architecture invariant: all that is done for a call is done here too, but for judging its policy:
`recall` tells that its outcome holds. Whatever isn't as it was goes the way of `run`.
"""

from __future__ import annotations

import posix as os

from nono_mcp.policy import recall
from nono_sandbox.confinement import NAMESPACES
from nono_sandbox.errors import ConfinementError
from nono_sandbox.single_run import launching

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.cli import signals
    from nono_mcp.cli.attend import Outcome
    from nono_mcp.cli.confined import Run
    from nono_mcp.guard.action import Action
    from nono_mcp.guard.after_run import AfterRun
    from nono_mcp.guard.guard import Guard
    from nono_mcp.policy.recall import Outcome as Judged
    from nono_sandbox.single_run.launching import Launch


def run(
    words: tuple[str, ...], command: tuple[str, ...], launch: Launch | None
) -> tuple[int | None, bytes | None, Launch | None]:
    """Run *command* if what came of judging the options *words* is known and holds.

    Returns the exit status, None if it wasn't run; what an outcome is to be kept by; and the lane.
    """
    try:
        key = recall.key_of(words)
    except OSError:
        return None, None, launch  # there is no current directory
    memory = recall.find(key)
    if memory is None:
        return None, key, launch
    outcome = memory.outcome
    if launch is None:
        launch = launching.start(outcome.tier, outcome.network)
    if outcome.network != launch.network:
        return None, key, launch
    recalled = _RecalledRun(words, command, outcome, launch)
    # It prepares while the notes are looked at, and runs nothing before the word for that.
    recalled.ask()
    if not recall.hold(memory.notes):
        launch.abandon()
        return None, key, None
    status = recalled.status()
    return status, key, None if status is None and launch.tier == NAMESPACES else launch


class _RecalledRun:
    """One run of a command whose policy has been judged."""

    def __init__(
        self, words: tuple[str, ...], command: tuple[str, ...], outcome: Judged, launch: Launch
    ) -> None:
        self._words = words
        self._command = command
        self._outcome = outcome
        self._launch = launch

    def ask(self) -> None:
        """Have the lane prepare for it."""
        tty = os.isatty(0) and os.isatty(1)
        outcome = self._outcome
        self._launch.ask(outcome.confinement, self._call(tty=tty), outcome.programs)

    def status(self) -> int | None:
        """Run what was asked for and return the exit status.

        None if it has to be judged anew: for another tier, or since it can't be enforced as it
        stands, where a grant was replaced meanwhile. Nothing ran then, and nothing will.

        Raises:
            SandboxError: Nothing ran.
            LaneLostError: What ran was killed.
        """
        from nono_mcp.cli import signals

        # Before anything runs: what arrives from then on is the program's.
        arrived = signals.Signals(*signals.PASSED_ON, signals.TSTP)
        guard, actions = self._guard()
        afterwards = None
        try:
            self._launch.await_ready()
            if self._launch.tier != NAMESPACES:
                return None
            if guard is not None and not self._launch.has_news():
                # The lane is still at it.
                afterwards = self._afterwards(guard)
                afterwards.begin(self._launch.has_news)
            self._launch.go_ahead()
            if guard is not None:
                afterwards = afterwards or self._afterwards(guard)
            outcome = self._begun(arrived, afterwards)
        finally:
            if guard is not None:
                actions += guard.end()
                guard.close()
                if afterwards is not None:
                    actions += self._looked(afterwards, arrived)
            if actions:
                self._run().say_put_right(actions)
        if outcome is None:
            return None
        if arrived.cut_short_by:
            outcome = outcome.replace(cut_short_by=arrived.cut_short_by)
        return 0 if outcome.plain_success else self._told(outcome)

    def _begun(self, arrived: signals.Signals, beside: AfterRun | None) -> Outcome | None:
        """See to the program to its end; None if it hasn't run and has to be judged anew."""
        from nono_mcp.cli import attend

        try:
            master = self._launch.begun()
        except ConfinementError:
            ended = arrived.ending()
            if ended is not None:
                return attend.never_begun(ended)
            self._launch.abandon()
            return None
        return attend.to_its_end(self._launch, master, arrived, beside)

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

    def _afterwards(self, guard: Guard) -> AfterRun:
        """Get ready to look beneath the top directory, before the program, beside and after it."""
        from nono_mcp import places
        from nono_mcp.guard.after_run import AfterRun

        cwd = self._outcome.call[3]
        state_dir = places.state_dir(places.environ())
        return AfterRun(state_dir, self._outcome.guarded, cwd, guard.began)

    def _looked(self, afterwards: AfterRun, arrived: signals.Signals) -> tuple[Action, ...]:
        from nono_mcp.cli import attend

        quiet = "--quiet" in self._words or "-q" in self._words
        return attend.look(afterwards, arrived, quiet=quiet)

    def _run(self) -> Run:
        """Return what has words for how it ended, which only those pay for who need any."""
        from nono_mcp.cli import confined, options

        argv = [*self._words, "--", *self._command]
        parsed = options.parse(argv, confined.OPTIONS, command=True)
        return confined.Run("run", parsed, self._command)

    def _told(self, outcome: Outcome) -> int:
        prepared = recall.prepared_of(self._outcome.prepared)
        return self._run().ended(outcome, prepared, self._launch)
