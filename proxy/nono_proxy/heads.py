"""Where a request's head ends in what has come so far.

Architecture invariant: no I/O; a head that grows beyond its bound is refused before it's whole.
"""

import re

from nono_proxy.config import Limits
from nono_proxy.errors import Refusal

_BARE_LF = re.compile(rb"(?<!\r)\n")


def cut(buffer: bytes, limits: Limits) -> tuple[bytes, bytes] | None:
    """Return the first head in *buffer* and what comes behind it; None if it isn't whole yet.

    Raises:
        Refusal: It's too large, or can't become a head any more. Close the connection.
    """
    end = buffer.find(b"\r\n\r\n") + 4
    if end < 4:  # noqa: PLR2004 - not found
        if len(buffer) > limits.head_bytes_max:
            raise Refusal("head-too-large")
        if _BARE_LF.search(buffer) is not None or buffer[:1] == b"\r":
            raise Refusal("bad-request", "a line ends in LF alone")
        _verify_lines(buffer, limits)
        return None
    if end > limits.head_bytes_max:
        raise Refusal("head-too-large")
    head = buffer[:end]
    _verify_lines(head, limits)
    return head, buffer[end:]


def _verify_lines(head: bytes, limits: Limits) -> None:
    if len(head) <= limits.line_bytes_max:
        return
    if max(map(len, head.split(b"\r\n"))) > limits.line_bytes_max:
        raise Refusal("head-too-large", "a line is too long")
