"""What we print: documents and answers on standard output, everything else on standard error.

Architecture invariant: only this module and what a command hands it write to our streams.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

BOLD = "1"
RED = "1;31"
YELLOW = "33"
GREEN = "32"
DIM = "2"


def out(text: str) -> None:
    """Write *text* to standard output, whatever characters it holds.

    Raises:
        OSError: It can't be written, and nothing will be any more.
    """
    try:
        _write(sys.stdout, text)
    except BrokenPipeError:
        raise
    except OSError:
        sys.stdout = None
        raise


def err(text: str) -> None:
    """Write *text* to standard error, whatever characters it holds."""
    try:
        _write(sys.stderr, text)
    except OSError:
        # It is gone, and what is left in its buffer will never be written.
        sys.stderr = None


def note(text: str) -> None:
    """Tell the person something, on one line."""
    err(f"{styled('nono:', DIM, 2)} {text}\n")


def document(fields: Mapping[str, object], fd: int = 1) -> None:
    """Write one JSON document to standard output, or on one line to standard error."""
    import json

    if fd == 1:
        out(json.dumps(fields, indent=2) + "\n")
    else:
        err(json.dumps(fields) + "\n")


def plain(text: str) -> str:
    """Return *text* with what would act on a terminal spelled out, but ends of lines and tabs."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def styled(text: str, code: str, fd: int) -> str:
    """Return *text* in the style *code* if the descriptor *fd* is a terminal that shows it."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return text
    return f"\033[{code}m{text}\033[0m" if os.isatty(fd) else text


def _write(stream: TextIO | None, text: str) -> None:
    # None where the descriptor was closed at the start.
    if stream is None:
        return
    stream.buffer.write(text.encode(stream.encoding, "backslashreplace"))
    stream.buffer.flush()
