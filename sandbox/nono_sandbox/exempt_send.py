"""Sending descriptors from a lane, exempt from the seccomp filter that its workers inherit.

That filter has every `sendmsg` of a worker done on its behalf, and it can't tell the lane from a
worker, but by what only the lane knows: a random word, in arguments of the system call that the
kernel doesn't look at.

Architecture invariant: no process that executes an agent's program holds the word by then.
"""

from __future__ import annotations

import struct

from nono_sandbox.behalf import _syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

_SOL_SOCKET, _SCM_RIGHTS = 1, 1
_CONTROL = struct.Struct("@Qii")
_ALIGNMENT = 8


def send(sock: _socket.socket, body: bytes, fds: bytes, word: tuple[int, int]) -> None:
    """Send *body* and the descriptors that are packed in *fds*, and say *word*."""
    control = _CONTROL.pack(_CONTROL.size + len(fds), _SOL_SOCKET, _SCM_RIGHTS) + fds
    control += bytes(-len(control) % _ALIGNMENT)
    _syscalls.sendmsg(sock.fileno(), (b"", body, control), 0, word)
