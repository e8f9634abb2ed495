"""Whether a descriptor has something to read, whatever its number.

select(2) takes none from 1024 on (FD_SETSIZE), and whoever started this process may have left it
more than that, open, so that all of its own come behind them.
"""

from __future__ import annotations

import select


def is_readable(fd: int, wait_s: float = 0) -> bool:
    """Tell whether *fd* has something to read, or its end to tell of, by *wait_s* from now."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(wait_s * 1000))
