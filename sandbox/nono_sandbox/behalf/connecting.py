"""Connecting a worker's socket on its behalf, without waiting for long.

Architecture invariant: to the address that was judged, and no other.
"""

from __future__ import annotations

import errno

from nono_sandbox.behalf import caller_socket

_TRY_S = 0.0005
"""How long an attempt may block: others wait for it."""


class Connecting:
    """A connection that is being made."""

    wake_fd = -1

    def __init__(self, socket_fd: int, address: bytes, *, is_local: bool) -> None:
        self._fd = socket_fd
        self._address = address
        self.on_giving_up = errno.EAGAIN if is_local else errno.EINPROGRESS

    @property
    def patience_s(self) -> float:
        """Return how long it may be tried in all."""
        return caller_socket.patience_s(self._fd)

    def attempt(self) -> int | None:
        """Return 0 or an errno, negative, or None while it would block."""
        try:
            return -caller_socket.connect_for(_TRY_S, self._fd, self._address)
        except InterruptedError:
            return None

    def given_up(self, number: int) -> int:
        """Return the call's result if there is no other try, for a reason with that errno."""
        return -number
