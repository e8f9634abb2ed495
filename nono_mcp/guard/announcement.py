"""Announcing in several directories at once that calls run: without a lock while we're alone there.

    announcement.run_quietly() or ...  # a turn in each of the directories, and `run`

Who comes to a directory says so in one file for all of them, before it looks whether others' calls
run there. So as long as that file is as it was when nobody else was in any of ours, nobody is.

Architecture invariant: either who comes finds that our calls run, or we find that it came.
"""

from __future__ import annotations

import fcntl
import posix as os

from nono_mcp.guard.presence import Presence
from nono_sandbox import private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.guard.write_through import WriteThrough

REGISTERS_MAX = 64
"""How many directories one takes part in: so many are locked at once where somebody else is."""
_NAME = "arrived"
_MARK_BYTES = 16
_FLAGS = os.O_RDWR | os.O_CREAT


class Announcement:
    """What one guard says of its calls in up to `REGISTERS_MAX` directories."""

    def __init__(self, state_dir: str, write_through: WriteThrough | None) -> None:
        self.own = Presence(write_through)
        self.registers_count = 0
        self._path = f"{state_dir}/guard"
        self._fd = -1
        self._quiet: bytes | None = None
        """Who had come last when nobody else was in any of the directories."""

    def arrive(self) -> None:
        """Tell others that we are about to look, and perhaps to run something, where we weren't.

        Raises:
            OSError: They aren't told. Run nothing.
        """
        os.pwrite(self._opened(), os.urandom(_MARK_BYTES), 0)
        self._fence()

    def arrived(self) -> bytes:
        """Return what is another one after each `arrive` of anybody's."""
        return os.pread(self._opened(), _MARK_BYTES, 0)

    def is_alone(self, arrived: bytes | None) -> None:
        """Take it that nobody else was there when that had *arrived*; None is that some were."""
        self._quiet = arrived or None

    def run(self) -> None:
        """Say that calls run, where others are kept from looking.

        Raises:
            OSError: It isn't said. Run nothing.
        """
        self.own.run()

    def run_quietly(self) -> bool:
        """Say that calls run, if nobody else is there; tell whether it's said.

        Raises:
            OSError: It isn't said. Run nothing.
        """
        if self._quiet is None:
            return False
        self.own.run()
        self._fence()
        if self.arrived() == self._quiet:
            return True
        self._quiet = None
        self.own.rest()
        return False

    @property
    def is_quiet(self) -> bool:
        """Tell whether nobody else was there when that was looked at last."""
        return self._quiet is not None

    def _fence(self) -> None:
        # What is written before is seen by who comes here after us, and what they wrote before by
        # us: for each lock of a file, shared or not, the kernel takes that file's own spinlock.
        fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def _opened(self) -> int:
        if self._fd < 0:
            private.ensure_directories(self._path)
            self._fd = private.open_file(f"{self._path}/{_NAME}", _FLAGS)
        return self._fd

    def close(self) -> None:
        """Say nothing more."""
        self._quiet = None
        self.own.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
