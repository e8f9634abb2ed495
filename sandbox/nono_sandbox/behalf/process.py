"""The process that acts on behalf of the workers of a single run, from their first call that waits.

It stays outside every namespace, beside the process that asked for the run and started it.

Architecture invariant: it ends with the last of those workers, whose calls fail if it ends before.
"""

from __future__ import annotations

import _socket
import contextlib
import os
import select
import sys

from nono_sandbox import _uapi, wire
from nono_sandbox.behalf.answerer import Answerer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Never

LED_OUT = "led-out"
"""What is told, once, of a worker that connects to a host elsewhere, before it is refused."""


def boot() -> Never:
    """Start from the command line: the descriptor of a channel that says for whom."""
    # What a terminal sends can't reach it: its session is its own.
    _uapi.prctl(_uapi.PR_SET_DUMPABLE, 0)
    introduction = _socket.socket(fileno=int(sys.argv[1]))
    wire.keep_only(introduction.fileno())
    os.chdir("/")
    channel = _socket.socket(fileno=os.dup(introduction.fileno()))
    poll = select.poll()
    is_told = False

    def tell() -> None:
        nonlocal is_told
        if not is_told:
            is_told = True
            # Who is gone has nobody to tell of it.
            with contextlib.suppress(wire.ClosedError):
                wire.send(channel, LED_OUT)

    answerer = Answerer(poll, tell)
    answerer.expect(introduction)
    while answerer.is_needed:
        answerer.attend(poll.poll(answerer.timeout_ms()))
    os._exit(0)
