"""Files that were removed and that a call's processes still hold, as /proc shows them.

What is open is added up like any other file. Whoever is no more than mapped, or under way in a
socket (unix(7)), has its size told to nobody here: that there is any, is all that can be told.

Architecture invariant: reads only. What can't be looked at raises.
"""

from __future__ import annotations

import _stat as stat
import posix as os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NO_FILES = (b"/memfd:", b"/dev/zero", b"/SYSV", b"/anon_hugepage", b"/[aio]", b"/dmabuf:")
"""What the kernel calls memory that is mapped like a removed file: no worker's files, as it may
not write in the root.
"""
_REMOVED = b" (deleted)"
_PATH_AT = 5
"""The column of /proc/PID/maps in which a path begins (proc_pid_maps(5))."""
# Only Linux has it, and macOS imports this too.
_KNOWN = getattr(os, "O_PATH", 0) | os.O_CLOEXEC


class UntoldError(Exception):
    """It can't be told what is the call's."""


class Removed:
    """What was removed from file systems, and is held by the processes that were looked at."""

    def __init__(self, devices: Iterable[int], own: Iterable[int], deadline: float) -> None:
        """Look at *devices* until *deadline*, by `time.monotonic`.

        The devices in *own* are the session's alone; what is held there shows in what they hold.
        """
        self._devices = set(devices)
        self._own = set(own)
        self._deadline = deadline
        self._open: set[tuple[int, int]] = set()
        """Removed files that are open, by device and inode as the kernel numbers them."""
        self._mapped: set[tuple[int, int]] = set()
        self._is_carried = False

    @property
    def may_be_more(self) -> bool:
        """Tell whether there may be others than `files` has yielded."""
        return self._is_carried or not self._mapped <= self._open

    def files(self, pids: Iterator[str]) -> Iterator[os.stat_result]:
        """Yield those that one of *pids* has open.

        Raises:
            UntoldError: One can't be looked at; or there is no time left.
        """
        for pid in pids:
            try:
                threads = os.listdir(f"/proc/{pid}/task")
            except (FileNotFoundError, ProcessLookupError):
                continue
            yield from self._of([f"/proc/{pid}/task/{thread}" for thread in threads])

    def _of(self, tasks: list[str]) -> Iterator[os.stat_result]:
        has_maps = False
        # A thread may have descriptors of its own, and go on when the first one has ended.
        for task in tasks:
            try:
                yield from self._descriptors(task)
                if not has_maps:
                    yield from self._one(f"{task}/exe")
                    has_maps = self._note_maps(task)
            except PermissionError:
                if _has_memory(task):
                    raise UntoldError from None  # it made itself non-dumpable
                # It has ended, and is root's to look at by then.
            except (FileNotFoundError, ProcessLookupError):
                continue

    def _descriptors(self, task: str) -> Iterator[os.stat_result]:
        names = os.listdir(f"{task}/fd")
        for name in names:
            yield from self._one(f"{task}/fd/{name}", f"{task}/fdinfo/{name}")

    def _one(self, path: str, about: str = "") -> Iterator[os.stat_result]:
        if time.monotonic() > self._deadline:
            raise UntoldError
        try:
            status = os.stat(path)
        except OSError:
            return  # closed since, or of a file system that has gone away
        if about and stat.S_ISSOCK(status.st_mode):
            self._is_carried = self._is_carried or _carries(about)
        if not status.st_nlink and stat.S_ISREG(status.st_mode):
            self._open |= _numbers(path)
            if status.st_dev in self._devices:
                yield status

    def _note_maps(self, task: str) -> bool:
        """Note the removed files that are mapped; tell whether there are any maps."""
        line = b""
        with open(f"{task}/maps", "rb") as lines:
            for line in lines:
                if not line.endswith(_REMOVED + b"\n"):
                    continue
                fields = line.split(None, _PATH_AT)
                major, minor = (int(number, 16) for number in fields[3].split(b":"))
                device = os.makedev(major, minor)
                # What stat(2) tells of a file on Btrfs or an overlay is another device than this.
                is_there = device in self._devices or (not major and device not in self._own)
                if is_there and not fields[_PATH_AT].startswith(_NO_FILES):
                    self._mapped.add((device, int(fields[4])))
        return bool(line)


def _numbers(path: str) -> set[tuple[int, int]]:
    """Return device and inode of a file as /proc/PID/maps tells them, which `stat` may not."""
    try:
        fd = os.open(path, _KNOWN)
    except OSError:
        return set()  # closed since
    try:
        told = dict(line.split(b":", 1) for line in _lines(f"/proc/self/fdinfo/{fd}"))
    finally:
        os.close(fd)
    mount, inode = told[b"mnt_id"].strip(), int(told[b"ino"])
    for line in _lines("/proc/self/mountinfo"):
        number, _, device, _ = line.split(b" ", 3)
        if number == mount:
            major, minor = map(int, device.split(b":"))
            return {(os.makedev(major, minor), inode)}
    return set()


def _lines(path: str) -> list[bytes]:
    with open(path, "rb") as stream:
        return stream.read().splitlines()


def _carries(fdinfo: str) -> bool:
    """Tell whether descriptors are under way to a local socket."""
    try:
        with open(fdinfo, "rb") as lines:
            return any(line.startswith(b"scm_fds:") and int(line[8:]) for line in lines)
    except (FileNotFoundError, ProcessLookupError):
        return False


def _has_memory(task: str) -> bool:
    try:
        with open(f"{task}/statm", "rb") as stream:
            return stream.read().split()[0] != b"0"
    except OSError:
        return False  # it has ended
