"""What all that guard one directory tell each other: whose calls run, and what was there before.

    with register:  # our turn: meanwhile nobody else looks, or begins
        if register.company() != ALONE:
            known = register.read()
        register.publish(known)
        register.join()
        announcement.run()
    ...  # calls
    announcement.own.rest()

Specified by FORMAT.md beside this file. Who is killed has let go of its lock, and its file still
says that a call ran.

Architecture invariant: nothing here is waited for longer than a bound says.
"""

from __future__ import annotations

import fcntl
import marshal
import posix as os
import time
from binascii import crc32

from nono_mcp.guard import directory_identity, presence, ways
from nono_mcp.guard.open_directory import Place
from nono_mcp.guard.presence import ALONE, ENDING, IDLE, LEFT, OLD, OTHERS
from nono_sandbox import private
from nono_sandbox.opath import is_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

    from nono_mcp.guard.announcement import Announcement

__all__ = ["ALONE", "LEFT", "OTHERS", "Register"]

WAIT_S = 10.0
CLEAN_S = 0.05
_TICK_S = 0.002

OTHER = (
    "a call of another server was killed here long ago, or in another directory of this name: what "
    "it left isn't told from what is yours; look through it"
)

_KNOWN, _NEW = "known", "known.new"
_MAGIC = b"nono guard 1 "
_CRC_DIGITS = 8
_PART_BYTES = 200
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


class Register:
    """One session's part in what is known of the directory *path*, of which *kind* of guard."""

    def __init__(
        self, state_dir: str, kind: str, path: str, own: Announcement, wait_s: float = WAIT_S
    ) -> None:
        self._all = f"{state_dir}/guard"
        self._path = f"{self._all}/{kind}/{_name(path)}"
        self._wait_s = wait_s
        self.announcement = own
        own.registers_count += 1
        self._own = own.own
        self._name = presence.new_name()
        self.place = Place()
        self._directory = -1
        """Open, and locked, while it's our turn."""
        self._stamp: tuple[int, ...] | None = None
        """Of what was read or published last."""
        self.is_left = False
        """Among the others there was one that was killed while its calls ran."""
        self.is_old = False
        """All of those were killed so long ago that what is there now says nothing of them."""
        self.is_uncertain = False
        """All were killed, and by nothing is it sure that it was this directory."""
        self.is_deserted = False
        """Nobody else was there, neither one that runs nothing nor one that was killed."""
        self._left: list[str] = []
        self._whose = ""
        """What the directory is told by that is at the path; see `directory_identity`."""

    def __enter__(self) -> Self:
        """Wait for our turn.

        Raises:
            OSError: It can't be had.
        """
        self.await_turn()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave_turn()

    def await_turn(self) -> None:
        """Wait for our turn.

        Raises:
            OSError: It can't be had.
        """
        if not self.take_turn(self._wait_s):
            raise TimeoutError(f"{self._path}: another server has been looking for too long")

    def take_turn(self, wait_s: float = 0.0) -> bool:
        """Take our turn within *wait_s*, and tell whether we have it.

        Raises:
            OSError: It can't be had.
        """
        until = time.monotonic() + wait_s
        while True:
            directory = self._opened()
            try:
                if presence.lock(directory, fcntl.LOCK_EX):
                    # Whoever was the last one here has removed it.
                    if os.fstat(directory).st_nlink:
                        if not self._own.is_in(self._name):
                            # While it's our turn: who had it before us doesn't know of us.
                            self.announcement.arrive()
                        self._directory, directory = directory, -1
                        return True
                elif time.monotonic() >= until:
                    return False
                else:
                    time.sleep(_TICK_S)
            finally:
                if directory >= 0:
                    os.close(directory)

    def leave_turn(self) -> None:
        """Let others have their turn."""
        os.close(self._directory)
        self._directory = -1

    def _opened(self) -> int:
        while True:
            try:
                return os.open(self._path, ways.DIRECTORY)
            except FileNotFoundError:
                private.ensure_directories(self._all)
                private.ensure_directories(self._path)

    def about(self, root: int | None, *, hold: bool = True) -> None:
        """Have it be of the open directory *root*; as before, if there's none."""
        if root is not None:
            self._whose = directory_identity.told_by(root)
        self.place.hold(root if hold else None)

    def is_about(self, root: int) -> bool:
        """Tell whether it's of the open directory *root*."""
        return self.place.is_at(os.fstat(root)) or self._whose == directory_identity.told_by(root)

    def company(self) -> int:
        """Return `ALONE`, `LEFT` or `OTHERS`, by all the others' files. It has to be our turn."""
        self._left.clear()
        found = set()
        for name in os.listdir(self._directory):
            if name.startswith(presence.PREFIX) and not self._own.is_its(name):
                one = presence.look(name, self._directory, self._whose)
                found.add(one)
                if one in (LEFT, OLD):
                    self._left.append(name)
        self.is_deserted = found <= {ALONE}
        found.discard(IDLE)
        self.is_left = not found.isdisjoint((LEFT, ENDING, OLD))
        self.is_old = OLD in found and found <= {ALONE, OLD}
        self.is_uncertain = OTHERS not in found and not directory_identity.is_born(self._whose)
        if found & {OTHERS, ENDING}:
            return OTHERS
        return LEFT if self.is_left else ALONE

    def has_left(self) -> bool:
        """Tell whether some were killed while their calls ran.

        Raises:
            OSError: It can't be told.
        """
        if not is_directory(self._path):
            return False
        with self:
            self.company()
        return self.is_left

    def settle(self) -> None:
        """Forget those that were killed: all that `company` found of them was put right."""
        while self._left:
            os.unlink(self._left.pop(), dir_fd=self._directory)

    def is_current(self) -> bool:
        """Tell whether what is known is what we read or published last."""
        return self._stamp is not None and self._stamp == self._stamped()

    @property
    def _known(self) -> str:
        return f"{_KNOWN}-{self._whose}" if self._whose else _KNOWN

    def _stamped(self) -> tuple[int, ...] | None:
        try:
            status = os.stat(self._known, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def read(self) -> object:
        """Return what was published last, or None if that can't be told."""
        self._stamp = None
        try:
            fd = os.open(self._known, _READ, dir_fd=self._directory)
        except FileNotFoundError:
            return None
        with open(fd, "rb") as file:
            data = file.read()
        body = data[len(_MAGIC) + _CRC_DIGITS :]
        if data[: -len(body) or None] != _MAGIC + b"%08x" % crc32(body):
            return None
        self._stamp = self._stamped()
        # What is whole is what we wrote, where no worker gets at it.
        value: object = marshal.loads(body)  # noqa: S302
        return value

    def publish(self, known: Any) -> None:  # noqa: ANN401 - what is plain
        """Have others know what is *known*, which is plain and bounded.

        Raises:
            OSError: They don't. Run nothing.
        """
        # Version 2 says the same of equal values, and every Python reads it.
        body = marshal.dumps(known, 2)
        self._stamp = None
        with open(private.open_file(_NEW, _WRITE, self._directory), "wb") as file:
            file.write(_MAGIC + b"%08x" % crc32(body) + body)
            file.flush()
            # The kernel's own goes by ticks, and another file may have the inode of an earlier one.
            os.utime(file.fileno(), ns=(time.time_ns(), time.time_ns()))
        os.rename(_NEW, self._known, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        self._stamp = self._stamped()

    def join(self) -> None:
        """Have our calls told of here too, those that run and those to come. It has to be our turn.

        Raises:
            OSError: They aren't. Run nothing.
        """
        self._own.join(self._name, self._path, self._directory, self._whose)

    def begin(self, arrived: bytes | None) -> None:
        """Say that calls run; nobody else is there since that had *arrived*, if nobody was.

        It has to be our turn, and for a register that is alone in its announcement.

        Raises:
            OSError: It isn't said. Run nothing.
        """
        self.join()
        self.announcement.run()
        self.announcement.is_alone(arrived if self.is_deserted else None)

    def close(self) -> None:
        """Take part no longer. Calls that weren't looked at are said to be left."""
        self.announcement.registers_count -= 1
        self.place.hold(None)
        if not self._own.is_in(self._name):
            return
        if not self._own.runs and self.take_turn(CLEAN_S):
            try:
                self._clean()
            finally:
                self.leave_turn()

    def _clean(self) -> None:
        self._own.leave(self._name, self._directory)
        present = os.listdir(self._directory)
        if any(name.startswith(presence.PREFIX) for name in present):
            return
        for name in present:
            if name.startswith(_KNOWN):
                os.unlink(name, dir_fd=self._directory)
        try:
            os.rmdir(self._path)
        except OSError:
            return  # a longer path's is in it, or something that isn't ours


def _name(path: str) -> str:
    """Return *path* as one name, or as several where it's too long for one."""
    data = ways.encoded(path.replace("%", "%25").replace("/", "%2F"))
    parts = [data[at : at + _PART_BYTES] for at in range(0, len(data), _PART_BYTES)]
    return "/".join(f"+{ways.decoded(part)}" for part in parts)
