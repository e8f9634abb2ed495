"""The lane of a single run: a fork of the small process that asked for it, in its namespaces.

In the first tier it is forked into them, process 1 at once, and its parent is who asked for it.
Only where ports are carried somebody stands between the two: whoever carries them is forked in the
machine's network, and in nobody's reach.

Architecture invariant: it ends when that process does, by whatever end. Little is imported before
the last fork: what a process has touched, its fork copies when it touches it.
"""

from __future__ import annotations

import posix as os
import sys
import time

from nono_sandbox import _uapi, namespaces, wire
from nono_sandbox.confinement import CLOSED, NAMESPACES, PORTS
from nono_sandbox.errors import SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import signal as _signal
    from typing import Never
else:
    import _signal  # `signal` imports enum, which costs a bare start of Python

_SIGNALS_OF_GROUPS = (1, 2, 3, 15, 20, 21, 22, int(_signal.SIGUSR1), int(_signal.SIGUSR2))
"""SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, and what `kill %1` may send."""
_PROCESSORS_MAX = 1024
"""As many as a mask of libc's has."""


def begin(tier: str, network: str) -> tuple[_socket.socket, tuple[int, float]]:
    """Fork a lane for one call, whose network is of the kind said; return the channel to it.

    And, as `orphans.end` wants to be told, the child and since when it may have had children:
    if it is killed, they become this process's.

    Where there can't be one, or no namespaces for it, that is what its channel says.
    """
    ours, theirs = wire.socket_pair()
    child = 0, 0.0
    try:
        child = _start(theirs, tier, network)
    except OSError as error:
        wire.send(theirs, "failed", str(error))
    theirs.close()
    return ours, child


def _start(control: _socket.socket, tier: str, network: str) -> tuple[int, float]:
    _uapi.prctl(_uapi.PR_SET_CHILD_SUBREAPER, 1)
    since_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    if tier == NAMESPACES and network != PORTS:
        pid, ids = namespaces.fork_first(network=network == CLOSED)
    else:
        pid, ids = os.fork(), None
    if pid == 0:
        # Before the handler of Python's own could print a traceback.
        _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
        # What the other process is told by is its own.
        _signal.set_wakeup_fd(-1)
        _serve(control, tier, network, ids)
    _run_beside(pid)
    return pid, since_s


def _run_beside(pid: int) -> None:
    """Have the child run now, on another processor than this process does, if one is free.

    A scheduler that packs, as some virtual machines' do, leaves it in this processor's queue for as
    long as this process has something to do, and what is done side by side is done in turn.
    """
    try:
        allowed = os.sched_getaffinity(0)
        others = allowed - {_uapi.processor()}
        if not others or _running_count() > len(allowed):
            return
        os.sched_setaffinity(pid, others)
        # It moves when it's told to, and from here on wherever it likes, as before: on those too
        # that come to this machine later, if it isn't kept from any.
        is_kept_from_some = len(allowed) != os.cpu_count()
        os.sched_setaffinity(pid, allowed if is_kept_from_some else range(_PROCESSORS_MAX))
    except OSError:
        pass  # it has ended, or what confines this process allows nobody that


def _running_count() -> int:
    """Return how many threads of the machine run or wait to; many where it isn't told."""
    try:
        file = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return sys.maxsize
    try:
        *_, counts, _ = os.read(file, 128).split()
        return int(counts.partition(b"/")[0])
    except (OSError, ValueError):
        return sys.maxsize  # something else stands there, as in some containers
    finally:
        os.close(file)


def _serve(control: _socket.socket, tier: str, network: str, ids: namespaces.Ids | None) -> Never:
    """Be the lane; exit when its call has ended."""
    try:
        # What a terminal or a shell sends to all of a job is for the process outside to answer.
        _uapi.ignore_signals(*_SIGNALS_OF_GROUPS)
        wire.keep_only(control.fileno())
        carrier: _socket.socket | None = None
        if tier == NAMESPACES:
            # However it ends, and whatever this one waits for then. In the second tier it is from
            # here that what is left of the call is ended.
            _uapi.prctl(_uapi.PR_SET_PDEATHSIG, _uapi.SIGKILL)
            if ids is None:
                carrier = _second()
            else:
                namespaces.settle_in(ids)
        # Imported here, beside what the other process does meanwhile.
        from nono_sandbox.single_run import preparing

        preparing.serve(control, tier, network, carrier)
    except wire.ClosedError:
        os._exit(0)
    except (SandboxError, OSError) as error:
        _fail(control, str(error))
    finally:
        # Further out is what the process outside does, and puts right.
        try:
            text = f"nono: a mistake in nono, please report it: {sys.exc_info()[1]!r}\n"
            os.write(2, text.encode(errors="backslashreplace"))
        finally:
            os._exit(1)


def _fail(control: _socket.socket, why: str) -> Never:
    """Say *why* there is no lane, if anybody waits for one still, and exit."""
    try:
        wire.send(control, "failed", why)
    except wire.ClosedError:
        # What it was asked for didn't hold any more, which is often why this couldn't be made.
        os._exit(0)
    os._exit(1)


def _second() -> _socket.socket:
    """Become process 1 in namespaces of its own; return the channel to who carries its ports."""
    namespaces.enter()
    # In the fresh root it may not be there to be imported.
    from nono_sandbox import forward

    carrier = forward.start()
    _uapi.unshare(_uapi.CLONE_NEWPID)
    pid = os.fork()
    if pid:
        # The other end of either channel sees that the lane is gone by its being closed.
        wire.let_go_of_stdio()
        wire.keep_only()
        os.waitpid(pid, 0)
        os._exit(0)
    _uapi.prctl(_uapi.PR_SET_PDEATHSIG, _uapi.SIGKILL)
    # Its root is to be its own: who carries looks at the machine's.
    _uapi.unshare(_uapi.CLONE_NEWNS)
    return carrier
