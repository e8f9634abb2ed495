"""Files that a call left open though none of its processes is there any more.

A descriptor that was sent by a Unix socket is open until somebody has received it, and in a ring of
sockets that wait for each other, until the kernel finds that out, some time later. Until then no
event says what was written through a map of it.

Architecture invariant: the sockets of a network are all in its list (unix(7), /proc/PID/net/unix);
what can't be read counts as a socket.
"""

from __future__ import annotations

from pathlib import Path

_INODE = 6
"""The column of that list that tells a socket from all others."""


class InFlight:
    """The Unix sockets that were there when this was asked last."""

    def __init__(self) -> None:
        self._known: frozenset[bytes] = frozenset()

    def left(self, network: int) -> bool:
        """Tell whether there is one more; *network* is a process that has the calls' own.

        Without one (0) this isn't known, and no: all of the machine's would be listed.
        """
        if not network:
            return False
        try:
            lines = Path(f"/proc/{network}/net/unix").read_bytes().splitlines()[1:]
        except OSError:
            return True
        found = frozenset(line.split()[_INODE] for line in lines)
        known, self._known = self._known, found
        return not found <= known
