"""Messages with descriptors, sent by who shares a filter with workers and isn't one of them.

A lane's filter is its workers' too, and has their `sendmsg` done on behalf. No condition of a
filter tells one from the other, but for what only one of them knows: a random word, in arguments
that the kernel doesn't look at.

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
