"""Files that a call left open though none of its processes is there any more.

A descriptor that was sent by a Unix socket is open until somebody has received it, and in a ring of
sockets that wait for each other, until the kernel finds that out, some time later. Until then no
event says what was written through a map of it.

Architecture invariant: the sockets of a network are all in its list (unix(7), /proc/PID/net/unix);
what can't be read counts as a socket.
"""

from __future__ import annotations

import os

_INODE = 6
"""The column of that list that tells a socket from all others."""
_READ_BYTES = 64 * 1024
_SHORT_BYTES = 2048
"""Who reads less has read all: the kernel fills a page of whole lines, of at most some 200 bytes,
before it returns (seq_read in fs/seq_file.c)."""


class InFlight:
    """The Unix sockets that were there when this was asked last."""

    def __init__(self) -> None:
        self._known: frozenset[bytes] = frozenset()
        self._network = 0
        self._process_fd = -1
        """Its directory in /proc: what is asked of that isn't answered by another of its number."""
        self._list_fd = -1

    def left(self, network: int) -> bool:
        """Tell whether there is one more; *network* is a process that has the calls' own.

        Without one (0) this isn't known, and no: all of the machine's would be listed.
        """
        if not network:
            return False
        try:
            lines = self._read(network).splitlines()[1:]
        except OSError:
            self.close()
            return True
        found = frozenset(line.split()[_INODE] for line in lines)
        known, self._known = self._known, found
        return not found <= known

    def _read(self, network: int) -> bytes:
        # To open the list takes as long as to write it ten times.
        if network != self._network or not self._is_there():
            self.close()
            self._network = network
            self._process_fd = os.open(f"/proc/{network}", os.O_RDONLY | os.O_CLOEXEC)
            self._list_fd = os.open("net/unix", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._process_fd)
        data = more = os.pread(self._list_fd, _READ_BYTES, 0)
        # To be told that there's no more takes as long as all the rest.
        while len(more) > _SHORT_BYTES:
            more = os.pread(self._list_fd, _READ_BYTES, len(data))
            data += more
        return data

    def _is_there(self) -> bool:
        try:
            os.stat("ns", dir_fd=self._process_fd)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Hold nothing open: as long as the list is, the network is there."""
        self._network = 0
        for fd in (self._process_fd, self._list_fd):
            if fd >= 0:
                os.close(fd)
        self._process_fd = self._list_fd = -1
