"""Sealing: how a process becomes a lane, with what its calls have in common.

Architecture invariant: each step is for good. A process in which one fails exits.
"""

from __future__ import annotations

import errno
import posix as os

from nono_sandbox import _uapi, landlock, namespaces, spawning, wire
from nono_sandbox.confinement import LANDLOCK, Places
from nono_sandbox.errors import UnsupportedError
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import TypeAlias

    from nono_sandbox.cgroups.membership import Membership
    from nono_sandbox.confinement import Grant, Network
    from nono_sandbox.ways import Ways

    Programs: TypeAlias = tuple[bytes, tuple[bytes, ...], tuple[int, int]]
    """The base seccomp program, what `filters.narrowing_programs` returned, and the base's word."""

_CAPABILITIES_MAX = 64
_STANDARD_MAX = 2
_CAP_SETPCAP = 8
_WITH_LISTENER = (
    _uapi.SECCOMP_FILTER_FLAG_NEW_LISTENER | _uapi.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
)
"""The second: once another acts, no signal makes the kernel start the same call over."""


class Plan(Value):
    """What the workers of a session have in common, ready for use by any of its lanes."""

    tier: str
    ruleset_fd: int
    filter: bytes
    """The base seccomp program."""
    narrowing: tuple[bytes, ...]
    """What `filters.narrowing_programs` returned."""
    processes_max: int | None = None
    """What a call's processes are bounded by; in the second tier by counting alone."""
    writable: tuple[Grant, ...] = ()
    """In the second tier: what workers may write, for whoever acts on their behalf."""
    places: Places = Places()
    """Of what workers may write."""
    sockets: tuple[tuple[int, int], ...] = ()
    """Those of others that they may connect to."""
    word: tuple[int, int] = wire.NO_WORD
    """What the filter lets a lane's own descriptors through by; see `exempt_send`."""
    is_answered: bool = False
    """Somebody does: the filter has a listener."""
    spawns: bool = False
    """A lane that serves enters its calls' Landlock domain, and starts their programs itself."""
    spawns_in_group: bool = False
    """So would one whose control group bounds its calls' processes."""
    membership: Membership | None = None
    """What it hears of its control group, if one holds its calls' memory and processes."""
    ways: Ways | None = None
    """Those that its calls' grants in the private home are found by, if there are any."""
    open_files_usual: int | None = None
    """How many files its programs may have open, where those that serve them may have more."""


def seal(plan: Plan) -> tuple[int, ...]:
    """Give up every privilege of the calling process, on the way to being a lane.

    Returns what to `introduce` it by, if somebody is to act on behalf of its workers: the listener
    of its filter and, in the first tier, a channel to ask for its network's sockets on.

    Raises:
        UnsupportedError: Signals of this process would reach others than its own children. Exit.
        OSError: The kernel refused. Exit.
    """
    _uapi.prctl(_uapi.PR_SET_CHILD_SUBREAPER, 1)
    _uapi.prctl(_uapi.PR_SET_DUMPABLE, 0)
    _drop_privileges()
    if plan.tier == LANDLOCK:
        _scope_signals()
    elif os.getpid() != 1:
        raise UnsupportedError("signals aren't confined: this process leads no PID namespace")
    if not plan.is_answered:
        _uapi.seccomp_filter(plan.filter)
        return ()
    # The filter refuses to make one.
    asking = () if plan.tier == LANDLOCK else (namespaces.asking().detach(),)
    return (_listener(plan.filter), *asking)


def _listener(program: bytes) -> int:
    """Install the base *program*, and return what it's answered by."""
    try:
        return _uapi.seccomp_filter(program, _WITH_LISTENER)
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.EPERM):
            raise
        raise UnsupportedError(
            f"{error}: we are confined already, by a sandbox like this one, it may be; "
            "in that there can't be another"
        ) from error


def introduce(
    channel: _socket.socket, network: Network, sealed: tuple[int, ...], plan: Plan
) -> None:
    """Hand on what `seal` returned, and what workers may do, to whoever acts on their behalf.

    Raises:
        ClosedError: Nobody is there to. Exit.
    """
    if sealed:
        listener, *asking = sealed
        fds = [listener, plan.ruleset_fd, *asking]
        shared = network, plan.writable, plan.sockets
        wire.send(channel, "introduction", *shared, fds=fds, word=plan.word)
    for fd in sealed:
        os.close(fd)


def _drop_privileges() -> None:
    _uapi.prctl(_uapi.PR_CAP_AMBIENT, _uapi.PR_CAP_AMBIENT_CLEAR_ALL)
    try:
        for capability in range(_CAPABILITIES_MAX):
            _uapi.prctl(_uapi.PR_CAPBSET_DROP, capability)
    except OSError as error:
        # EINVAL: past the last one. EPERM: an ordinary user, who has none to give.
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
    if _uapi.effective_capabilities() >> _CAP_SETPCAP & 1:
        # To an ordinary user, who can't set them, no_new_privs does the same.
        _uapi.prctl(_uapi.PR_SET_SECUREBITS, _uapi.SECBITS_NOROOT_AND_LOCKED)
    _uapi.drop_capabilities()
    _uapi.prctl(_uapi.PR_SET_NO_NEW_PRIVS, 1)


def _scope_signals() -> None:
    outside = os.getppid()
    scope = landlock.signal_scope()
    _uapi.landlock_restrict_self(scope)
    os.close(scope)
    try:
        os.kill(outside, 0)
    except PermissionError:
        return
    raise UnsupportedError("signals aren't confined: this needs Landlock ABI 6 or namespaces")


def enter_domain(plan: Plan) -> None:
    """Enter the domain of this lane's calls, so that `spawning.spawned` starts them without a fork.

    Raises:
        OSError: The kernel refused. Exit.
    """
    # None is a program's, whoever opened it.
    _uapi.close_range(_STANDARD_MAX + 1, flags=_uapi.CLOSE_RANGE_CLOEXEC)
    _uapi.landlock_restrict_self(plan.ruleset_fd)
    spawning.limit_cores()
