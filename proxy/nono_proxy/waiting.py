"""What waits until a socket has room for it: octets, and pipes that hold some.

Architecture invariant: what came first is sent first.
"""

import socket
from collections import deque
from itertools import islice

from nono_proxy.pipes import Pipe

_PARTS_MAX = 64

Waiting = deque[memoryview | Pipe]


def send(sock: socket.socket, waiting: Waiting) -> int:
    """Send what there's room for now; return how much that was."""
    first = waiting[0]
    if isinstance(first, Pipe):
        sent = first.drain(sock)
        if not first.held:
            first.leave()
            waiting.popleft()
        return sent
    parts: list[memoryview] = []
    for part in islice(waiting, _PARTS_MAX):
        if isinstance(part, Pipe):
            break
        parts.append(part)
    sent = left = sock.sendmsg(parts)
    for part in parts:
        if left < len(part):
            waiting[0] = part[left:]
            break
        left -= len(part)
        waiting.popleft()
    return sent


def drop(waiting: Waiting) -> None:
    """Let go of all of it."""
    for part in waiting:
        if isinstance(part, Pipe):
            part.leave()
    waiting.clear()
