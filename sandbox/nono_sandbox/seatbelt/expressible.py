"""What of a confinement Seatbelt can't express, refused with the item named; and narrowing.

Architecture invariant: no I/O. Nothing is ever widened or left out to make it fit.
"""

from __future__ import annotations

from nono_sandbox.confinement import (
    CLOSED,
    OPEN,
    PORTS,
    READ,
    SEATBELT,
    WRITE,
    Confinement,
    Grant,
    Network,
)
from nono_sandbox.seatbelt.sbpl import RefusedError
from nono_sandbox.seatbelt.spelling import DATA_VOLUME, beneath, canonical, checked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_sandbox.confinement import Limits, Narrowing

PORTS_MAX = 64
"""Most ports of one kind; Seatbelt has no ranges, each costs a rule."""

_PORT_MAX = 65535
_TWICE_NAMED = ("/System", "/System/Volumes", DATA_VOLUME)


def refuse_inexpressible(confinement: Confinement) -> None:
    """Raise for the first item that Seatbelt can't hold.

    Raises:
        RefusedError: The message names the item.
    """
    if confinement.tier not in (None, SEATBELT):
        raise RefusedError(f"tier {confinement.tier!r} is Linux's; macOS has Seatbelt")
    if confinement.ptrace:
        raise RefusedError("ptrace: macOS lets nobody trace without the debugger's entitlement")
    refuse_limits(confinement.limits)
    for grant in confinement.grants:
        _refuse_grant(grant)
    for denial in confinement.denials:
        checked(denial.path)
        if not 0 < denial.access <= READ | WRITE:
            raise RefusedError(f"a denial of no known access: {denial!r}")
    for link in confinement.links:
        checked(link.path)
    _refuse_network(confinement.network)


def refuse_limits(limits: Limits) -> None:
    """Raise for a limit that macOS doesn't keep.

    Raises:
        RefusedError: The message names the limit.
    """
    # RLIMIT_AS and RLIMIT_DATA are accepted and ignored. (RLIMIT_NPROC counts all the person's own;
    # the processes of a call are counted by its lane.)
    if limits.memory_bytes_max is not None:
        raise RefusedError("a memory limit: macOS keeps none for a program")
    if (limits.disk_bytes_max, limits.disk_free_bytes_min) != (None, None):
        raise RefusedError("a disk limit: on macOS nothing counts what a call adds to disks")


def _refuse_grant(grant: Grant) -> None:
    checked(grant.path)
    if not 0 < grant.access <= READ | WRITE:
        raise RefusedError(f"a grant of no known access: {grant!r}")
    if grant.source not in (None, grant.path):
        raise RefusedError(f"{grant.path!r} can't be another directory: macOS has no bind mounts")
    if grant.path in _TWICE_NAMED and not grant.exact:
        raise RefusedError(f"{grant.path!r} holds the data volume, and so every user's files")


def _refuse_network(network: Network) -> None:
    if network.mode not in (CLOSED, OPEN, PORTS):
        raise RefusedError(f"no known network mode: {network.mode!r}")
    for kind, ports in (("connect", network.connect_ports), ("bind", network.bind_ports)):
        if len(ports) > PORTS_MAX:
            raise RefusedError(f"{len(ports)} ports to {kind}, at most {PORTS_MAX}")
        for port in ports:
            # Seatbelt takes port 0 for an error, so "any free port" can't be said.
            if not 0 < port <= _PORT_MAX:
                raise RefusedError(f"port {port} to {kind}: Seatbelt takes 1 to {_PORT_MAX}")


def narrowed(confinement: Confinement, narrowing: Narrowing) -> Confinement:
    """Return *confinement* without what *narrowing* gives up; never more than it was."""
    grants: list[Grant] = []
    for grant in confinement.grants:
        grants += _narrowed_grant(grant, narrowing.writes)
    network = Network(CLOSED) if narrowing.network_closed else confinement.network
    return confinement.replace(grants=tuple(grants), network=network)


def _narrowed_grant(grant: Grant, writes: tuple[str, ...] | None) -> list[Grant]:
    if writes is None or not grant.access & WRITE:
        return [grant]
    own = canonical(grant.path)
    if any(beneath(own, canonical(checked(write))) for write in writes):
        return [grant]
    kept = [grant.replace(access=READ)] if grant.access & READ else []
    if grant.exact:
        return kept
    inner = [write for write in writes if beneath(canonical(checked(write)), own)]
    return kept + [Grant(write, WRITE) for write in inner]
