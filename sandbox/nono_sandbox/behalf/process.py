"""The process that acts on behalf of the workers of a single run, from their first call that waits.

It stays outside every namespace, beside the process that asked for the run and started it.

Architecture invariant: it ends with the last of those workers, whose calls fail if it ends before.
"""

from __future__ import annotations

import _socket
import os
import select
import sys

from nono_sandbox import _uapi, wire
from nono_sandbox.behalf.answerer import Answerer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Never


def boot() -> Never:
    """Start from the command line: the descriptor of a channel that says for whom."""
    # What a terminal sends can't reach it: its session is its own.
    _uapi.prctl(_uapi.PR_SET_DUMPABLE, 0)
    introduction = _socket.socket(fileno=int(sys.argv[1]))
    wire.keep_only(introduction.fileno())
    os.chdir("/")
    poll = select.poll()
    answerer = Answerer(poll)
    answerer.expect(introduction)
    while answerer.is_needed:
        answerer.attend(poll.poll(answerer.timeout_ms()))
    os._exit(0)
