"""Which seccomp filter goes with a confinement: what the namespaces hold needs no refusing.

Architecture invariant: nothing is installed here (that is `_uapi.seccomp_filter`), and all that is
asked of the machine is its architecture.
"""

from __future__ import annotations

import os

from nono_sandbox.confinement import NAMESPACES, OPEN, is_answered
from nono_sandbox.seccomp import (
    Options,
    base_filter,
    closed_network_filter,
    no_local_filter,
    unwritten_filter,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_sandbox.confinement import Confinement


def session_program(confinement: Confinement, tier: str, word: tuple[int, int]) -> bytes:
    """Return the filter that every worker of a session inherits from its lane.

    By *word* it lets a lane send descriptors; see `exempt_send`.
    """
    return program(options_for(confinement, tier).replace(word=word))


def options_for(confinement: Confinement, tier: str) -> Options:
    """Return what that filter depends on."""
    network = confinement.network
    own = tier == NAMESPACES
    return Options(
        own_network=own and network.mode != OPEN,
        network=network.mode,
        binds=bool(network.bind_ports),
        # In the first tier a socket outside the grants isn't there to be connected to (whoever
        # connects judges those inside), and Landlock confines the abstract ones.
        unix_sockets=own,
        on_behalf=is_answered(tier, network.mode),
        ptrace=confinement.ptrace,
        own_ipc=own,
        own_pids=own,
    )


def program(options: Options) -> bytes:
    """Return the filter for *options* on this machine."""
    return base_filter(options, os.uname().machine)


def narrowing_programs() -> tuple[bytes, bytes, bytes]:
    """Return the filters to add for one call, by what it gives up.

    Its network; all its writes; some of its writes, where sockets are bound on its behalf.
    """
    machine = os.uname().machine
    return closed_network_filter(machine), unwritten_filter(machine), no_local_filter(machine)
