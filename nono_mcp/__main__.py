"""The process's last word: run the command line and end with its status.

The launcher comes here, and so does `python -m nono_mcp`. The latter puts the current directory
on the module path, where an agent may write: use `nono`, or `python -P -m nono_mcp`.
"""

from __future__ import annotations

import posix as os
import sys

from nono_mcp.cli import main

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Never

BROKEN_PIPE = 128 + 13
"""Exit status where nobody reads our output any more, as a shell reports SIGPIPE."""
FAILED = 125


def run() -> Never:
    """Run the command line, flush what it printed, and end the process at once.

    Whatever `main` started is finished when it returns: no atexit function runs, no thread is
    waited for. What that saves, taking the interpreter apart, is a tenth of `nono run`'s start.
    """
    try:
        status = main(sys.argv[1:])
        for stream in (sys.stdout, sys.stderr):
            # None where the descriptor was closed at the start.
            if stream is not None:
                stream.flush()
    except BrokenPipeError:
        status = BROKEN_PIPE
    except OSError as error:
        # The disk is full that it was to be printed to. Not by way of what can't be flushed.
        os.write(2, f"nono: the output can't be written: {error.strerror}\n".encode())
        status = FAILED
    os._exit(status)


if __name__ == "__main__":
    run()
