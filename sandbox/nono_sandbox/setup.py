"""From a confinement to a lane: the steps that the fork server and a single run have in common.

Architecture invariant: each step is for good. A process in which one fails exits.
"""

from __future__ import annotations

import errno
import posix as os

from nono_sandbox import _uapi, domain, fresh_root, namespaces, sealing, spawning
from nono_sandbox.confinement import (
    LANDLOCK,
    NAMESPACES,
    OPEN,
    PORTS,
    WRITE,
    Places,
    is_answered,
)
from nono_sandbox.errors import ConfinementError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

    from nono_sandbox.confinement import Call, Confinement
    from nono_sandbox.ways import Ways


def settle(confinement: Confinement) -> Ways | None:
    """Inside the session's namespaces: close the network but for ports, and change the root.

    Returns what keeps the ways to what is mounted in the private home, if anything is.

    Raises:
        ConfinementError: A grant isn't what was judged.
        OSError: The kernel refused.
    """
    mode = confinement.network.mode
    if mode == PORTS:
        from nono_sandbox import forward

        # It stays in the machine's network.
        carrier = forward.start()
        namespaces.close_network()
        forward.hand_over(carrier, confinement.network)
    elif mode != OPEN:
        namespaces.close_network()
    ways = ways_of(confinement)
    fresh_root.build(confinement, ways)
    return ways


def ways_of(confinement: Confinement) -> Ways | None:
    """Return what keeps the ways to what is mounted in the private home, if anything is to be."""
    paths = [grant.path for grant in confinement.grants]
    paths += [link.path for link in confinement.links]
    for home, source in ((grant.path, grant.source) for grant in confinement.grants):
        if source and any(path.startswith(home + "/") for path in paths):
            # Only who has such a grant pays for the import, and while it's there to be imported.
            from nono_sandbox.ways import Ways

            return Ways(home, source)
    return None


def door(confinement: Confinement, tier: str) -> list[_socket.socket]:
    """Return the socket, if there is to be one, that lets a session's workers talk to the outside.

    Call it inside the session's namespaces, before any privilege is given up.

    Raises:
        ConfinementError: This session hasn't got a network of its own.
        OSError: The port can't be had.
    """
    network = confinement.network
    if not network.door_port:
        return []
    if tier != NAMESPACES or network.mode == OPEN:
        raise ConfinementError("a door needs a network of the session's own around it")
    return [namespaces.listener(network.door_port)]


def plan_for(confinement: Confinement, tier: str, programs: sealing.Programs) -> sealing.Plan:
    """Return what the lanes of *confinement* need, in the root as it is now.

    *programs* are the seccomp program of every call, `filters.narrowing_programs`, and the word of
    the first. What makes them isn't imported here: a single run has it done beside its lane.

    Raises:
        SandboxError: It can't be enforced.
    """
    _leave_keyring()
    base, narrowing, word = programs
    ruleset = domain.ruleset(confinement, tier)
    return sealing.Plan(
        tier=tier,
        ruleset_fd=ruleset,
        filter=base,
        narrowing=narrowing,
        word=word,
        processes_max=confinement.limits.processes_max,
        writable=domain.writable(confinement) if tier == LANDLOCK else (),
        places=Places(tuple(one.path for one in confinement.grants if one.access & WRITE)),
        sockets=confinement.sockets,
        is_answered=is_answered(tier, confinement.network.mode),
        spawns=may_spawn(confinement, tier, in_group=False),
        spawns_in_group=may_spawn(confinement, tier, in_group=True),
    )


def spawns(confinement: Confinement, tier: str, call: Call, *, in_group: bool) -> bool:
    """Tell whether the lane of a single run starts *call* without a fork."""
    bound = confinement.limits.processes_max
    may = may_spawn(confinement, tier, in_group=in_group)
    return may and spawning.is_plain(call, bound, in_group=in_group)


def may_spawn(confinement: Confinement, tier: str, *, in_group: bool) -> bool:
    """Tell whether lanes may be in the domain of their calls, with limits that bind both.

    Not where a call may trace what is in its domain, nor where what bounds its processes would
    bound its lane too. In a control group it's that which does.
    """
    bounded = confinement.limits.processes_max is not None
    if tier != NAMESPACES or confinement.ptrace:
        return False
    return in_group or not bounded or namespaces.bounds_pids(os.uname().release)


def _leave_keyring() -> None:
    """Give the session a keyring of its own, where there are any to be had.

    Its workers' filter refuses every key call anyway; this is for what the kernel looks up itself.
    """
    try:
        _uapi.join_new_session_keyring()
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EDQUOT):
            raise


def become_lane(plan: sealing.Plan) -> tuple[int, ...]:
    """Turn the calling process, in the first tier process 1 of its namespace, into a lane.

    Returns what `sealing.seal` does.

    Raises:
        SandboxError: Signals can't be confined.
        OSError: The kernel refused.
    """
    if plan.tier == NAMESPACES:
        proc = namespaces.new_proc()
        namespaces.shut(proc, plan.processes_max)
        _uapi.unshare(_uapi.CLONE_NEWNS)
        show_proc(proc, plan)
    return sealing.seal(plan)


def show_proc(proc: int, plan: sealing.Plan) -> None:
    """Put the mount *proc* in the place of the machine's /proc, for workers to read."""
    fresh_root.replace_proc(proc)
    domain.allow_proc(plan.ruleset_fd)
