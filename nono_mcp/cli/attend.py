"""A running call as the command line sees it: signals passed on, a terminal passed through.

Standard streams that aren't terminals are the program's own; nothing of them comes by here.

Architecture invariant: the person's terminal is given back on every way out.
"""

from __future__ import annotations

import gc
import select

from nono_mcp.cli import signals
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.cli.patience import Patience
    from nono_mcp.guard.action import Action
    from nono_mcp.guard.after_run import AfterRun, GoesOn
    from nono_sandbox.single_run.launching import Launch


class Outcome(Value):
    """How the call ended."""

    wait_status: int | None
    limit: str
    failure: tuple[int, str] | None
    cpu_s: tuple[float, float]
    memory_kib_max: int
    leftovers: bool
    tail: bytes = b""
    """The last of what it wrote to its terminal, if it had one."""
    cut_short_by: int = 0
    """The signal that ended what we did after it, before that was done."""

    @property
    def plain_success(self) -> bool:
        """Tell whether there is nothing to say."""
        odd = self.failure or self.limit or self.leftovers or self.cut_short_by
        return self.wait_status == 0 and not odd


def never_begun(number: int) -> Outcome:
    """Return how a call ended that a signal had come for before it began."""
    return Outcome(number, "", None, (0.0, 0.0), 0, leftovers=False)


def look(afterwards: AfterRun, arrived: signals.Signals, *, quiet: bool) -> tuple[Action, ...]:
    """Look at what came while the program ran, until a signal arrives; return what was done."""
    waiting: Patience | None = None

    def patience() -> GoesOn:
        nonlocal waiting
        from nono_mcp.cli.patience import Patience

        waiting = Patience(arrived, quiet=quiet)
        return waiting.goes_on

    try:
        return afterwards.look(patience)
    finally:
        if waiting is not None:
            waiting.close()


def to_its_end(
    launch: Launch, master: int, arrived: signals.Signals, beside: AfterRun | None = None
) -> Outcome:
    """See a call to its end that runs now, whose terminal has the *master*, if it has one.

    What is to be done *beside* it is, a step at a time, while there's nothing else to do.
    """
    # What is here now stays, so it needn't be looked through; what comes may.
    gc.freeze()
    gc.enable()
    if master < 0:
        return on_streams(launch, arrived, beside)
    return on_terminal(launch, master, arrived, beside)


def on_streams(launch: Launch, arrived: signals.Signals, beside: AfterRun | None = None) -> Outcome:
    """See a call to its end that has our own standard streams."""
    poll = select.poll()
    poll.register(launch, select.POLLIN)
    poll.register(arrived, select.POLLIN)
    while True:
        events = dict(poll.poll(None if beside is None else beside.pause_ms))
        if beside is not None and not events:
            beside.step()
        if arrived.fileno() in events:
            for number in arrived.take():
                _pass_on(launch, number)
        if launch.fileno() in events:
            message = launch.receive()
            if message[0] == "ended":
                return Outcome(*message[1:])


def _pass_on(launch: Launch, number: int) -> None:
    if number != signals.TSTP:
        launch.signal(number)
        return
    # All of it: whatever went on would read what is typed to the shell from now on.
    launch.signal_all(signals.STOP)
    signals.stop()
    launch.signal_all(signals.CONT)


def on_terminal(
    launch: Launch, master: int, arrived: signals.Signals, beside: AfterRun | None = None
) -> Outcome:
    """See a call to its end that has a terminal of its own, whose *master* is ours now."""
    from nono_mcp.cli.relay import Relay

    relay = Relay(launch, master, arrived, beside)
    try:
        return relay.run()
    finally:
        relay.terminal.take_back()
