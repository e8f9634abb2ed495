"""End a call: every process that came of it, whatever it did to get away.

macOS has no subreaper and no PID namespace. What belongs to a call is found by three things that
a process can't take off by dying parents: its session (the call leads one), and the identities,
never used twice, of itself and of the process that forked it, which stay when launchd adopts it.

Not held: a process that makes a session of its own *and* whose forking process is gone before
anybody looked (daemon(3), done on purpose and quickly) isn't found. It stays confined, for a
sandbox is inherited and can't be left; it can't be told apart from the person's own.

Architecture invariant: the list of processes is handed in; `libproc` has macOS's.
"""

from __future__ import annotations

import os
import signal
import time

from nono_sandbox.errors import SandboxError
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TIMEOUT_S = 5.0
_WAIT_S = 0.001
_WAIT_S_MAX = 0.05


class SurvivorsError(SandboxError):
    """Processes of the call are still alive; the message names them."""


class Process(Value):
    """One live process; a zombie isn't one."""

    pid: int
    session: int
    identity: int
    """Never used again while the machine runs."""
    parent_identity: int
    """Of the process that forked it, whoever is its parent now."""


def family(root: int, known: frozenset[int], processes: Iterable[Process]) -> tuple[Process, ...]:
    """Return the processes of the session that *root* leads, of *known*, and all their children."""
    found: dict[int, Process] = {}
    identities = set(known)
    remaining = list(processes)
    growing = True
    while growing:
        growing = False
        for process in remaining:
            mine = (
                process.session == root
                or process.identity in identities
                or process.parent_identity in identities
            )
            if mine and process.pid not in found:
                found[process.pid] = process
                identities.add(process.identity)
                growing = True
    return tuple(found[pid] for pid in sorted(found))


def end_tree(
    root: int,
    processes: Callable[[], Iterable[Process]],
    timeout_s: float = TIMEOUT_S,
    known: frozenset[int] = frozenset(),
) -> None:
    """Kill all that came of the call whose first process is, or was, *root*.

    *known* are identities that were seen to be of it. *root* must not have been reaped, so that
    its number is nobody else's.

    Raises:
        SurvivorsError: Some wouldn't die in time.
    """
    deadline = time.monotonic() + timeout_s
    wait_s = _WAIT_S
    _send_group(root)
    before: frozenset[int] | None = None
    while True:
        alive = [one for one in family(root, known, processes()) if one.pid != os.getpid()]
        if not alive:
            return
        grown = known.union(one.identity for one in alive)
        # What is stopped forks no more; only when a look finds nobody new is it safe to kill,
        # for a dead parent's children can be harder to find.
        for one in alive:
            _send(one.pid, signal.SIGKILL if grown == before else signal.SIGSTOP)
        if grown == before:
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, _WAIT_S_MAX)
        known = before = grown
        if time.monotonic() > deadline:
            raise SurvivorsError(f"still alive: {', '.join(str(one.pid) for one in alive)}")


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _send_group(root: int) -> None:
    try:
        os.killpg(root, signal.SIGSTOP)
    except (ProcessLookupError, PermissionError):
        # macOS says EPERM of a group that holds nothing but zombies.
        return
