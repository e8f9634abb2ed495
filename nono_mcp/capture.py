"""What is kept of a stream that may be endless: its beginning, its end, and how much there was.

Architecture invariant: memory is bounded by the two sizes, whatever is fed.
"""

from __future__ import annotations

from collections import deque

HEAD_BYTES_MAX = 48 * 1024
TAIL_BYTES_MAX = 48 * 1024


class Capture:
    """The first and the last bytes of a stream."""

    def __init__(
        self, head_bytes_max: int = HEAD_BYTES_MAX, tail_bytes_max: int = TAIL_BYTES_MAX
    ) -> None:
        self._head = bytearray()
        self._head_bytes_max = head_bytes_max
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._tail_bytes_max = tail_bytes_max
        self.total_bytes = 0

    def feed(self, chunk: bytes) -> None:
        """Take in the next bytes of the stream."""
        self.total_bytes += len(chunk)
        room = self._head_bytes_max - len(self._head)
        if room > 0:
            self._head += chunk[:room]
            chunk = chunk[room:]
        if not chunk:
            return
        self._tail.append(chunk[-self._tail_bytes_max :])
        self._tail_bytes += len(self._tail[-1])
        while self._tail_bytes - len(self._tail[0]) >= self._tail_bytes_max:
            self._tail_bytes -= len(self._tail.popleft())

    @property
    def omitted_bytes(self) -> int:
        """Return how many bytes between the two ends are gone."""
        return self.total_bytes - len(self._head) - min(self._tail_bytes, self._tail_bytes_max)

    def ends(self) -> tuple[bytes, bytes]:
        """Return the bytes before and after the gap; without a gap, all before it."""
        tail = b"".join(self._tail)[-self._tail_bytes_max :]
        head = bytes(self._head)
        return (head, tail) if self.omitted_bytes else (head + tail, b"")
