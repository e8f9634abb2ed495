"""How many files a process may have open: more for who serves many, the usual for what it starts.

The soft limit is 1024 nearly everywhere, since programs that use select(2) can't take more; who
knows that it can raises its own, up to the hard limit. What it starts inherits that, and may not
know.
"""

from __future__ import annotations

import resource

MAX = 65_536
"""More than any server here needs; some systems bound it at a thousand million, or not at all."""


def raise_own() -> int | None:
    """Raise this process's limit; return what it was before, or None if it stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX if hard == resource.RLIM_INFINITY else min(MAX, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return None
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        # macOS has another bound, which getrlimit doesn't tell.
        return None
    return soft


def told(word: str) -> int | None:
    """Return the usual limit that a process was told at its start, where whoever did has raised it.

    As the *word* of its command line is: empty is none.
    """
    return int(word) if word else None


def put_back(usual: int | None) -> None:
    """Set this process's limit to the *usual* one, if it isn't that."""
    if usual is not None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (usual, hard))
