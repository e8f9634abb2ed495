"""How much more disk a call takes than there was taken when it began.

What a call's places hold that is new is added up, as often as that takes a tenth of the time. A
file counts for at least its inode, `INODE_BYTES`. What can't be added up (files that were removed
and are no more than mapped or sent to somebody, what is shut, or too much) shows in what a file
system says of itself, which is about everybody who writes there, and decides where the rest can't.

Architecture invariant: reads only; ends nothing. Approximate: what happens between two looks isn't
seen, and a file that was there and is changed counts whole.
"""

from __future__ import annotations

import _stat as stat
import errno
import posix as os
import time

from nono_sandbox.deleted_files import Removed, UntoldError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

INODE_BYTES = 4096
UNTOLD = 4
"""A call is ended, whoever writes, once a file system has grown by so many times what it may."""
IDLE = 10
"""How many times as long as a look took there is none."""
WALK_S_MAX = 2.0
"""How long adding up may take; what takes longer can't be told."""
_SLACK_NS = 2 * 10**9
_BLOCK_BYTES = 512
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Growth:
    """The growth of *places*, directories and files, since this was made."""

    def __init__(
        self,
        places: Iterable[str],
        own: Iterable[str],
        since_ns: int | None = None,
        *,
        wary: bool = False,
    ) -> None:
        """Begin. The places in *own* are on file systems that are the session's alone.

        What was changed since *since_ns* (`time.time_ns`), or now, is new. Who is *wary* leaves
        the session's own out, and can tell nothing while a call may hold files that aren't seen.
        """
        self._is_wary = wary
        self._since_ns = (time.time_ns() if since_ns is None else since_ns) - _SLACK_NS
        found = _systems(own)
        self._apart = set(found)
        self._own = {} if wary else found
        self._shared = {
            device: found for device, found in _systems(places).items() if device not in self._own
        }
        self._places = _outermost(places)
        self._look_at = 0.0
        self._suspicious_from = 0

    def seen_bytes(self) -> int:
        """Return by how much the shared file systems have grown, whoever wrote there."""
        return _grown(self._shared)

    def over(self, bytes_max: int, pids: Callable[[], Iterator[str]]) -> bool:
        """Tell whether a call with the processes *pids* has added more than it may."""
        own, shared = _grown(self._own), _grown(self._shared)
        if own > bytes_max or own + shared > UNTOLD * bytes_max:
            return True
        began_at = time.monotonic()
        suspicious = own + shared > bytes_max and shared >= self._suspicious_from
        if began_at < self._look_at and not suspicious:
            return False
        self._suspicious_from = shared + bytes_max // UNTOLD
        try:
            return own + self._added(bytes_max - own, pids()) > bytes_max
        except UntoldError:
            return own + shared > bytes_max
        finally:
            now = time.monotonic()
            self._look_at = now + IDLE * (now - began_at)

    def _added(self, enough: int, pids: Iterator[str]) -> int:
        """Return what is new in the places, or held open, at least as soon as it's *enough*."""
        deadline = time.monotonic() + WALK_S_MAX
        seen: set[tuple[int, int]] = set()
        total = 0
        held = Removed(self._shared, self._apart, deadline)
        for status in held.files(pids):
            total += self._new(status, seen)
        for place in self._places:
            for status in _beneath(place, self._shared):
                total += self._new(status, seen)
                if total > enough:
                    return total
                if time.monotonic() > deadline:
                    raise UntoldError
        if held.may_be_more and self._is_wary:
            raise UntoldError
        return total

    def _new(self, status: os.stat_result, seen: set[tuple[int, int]]) -> int:
        key = (status.st_dev, status.st_ino)
        if status.st_ctime_ns < self._since_ns or key in seen:
            return 0
        if status.st_nlink != 1:
            seen.add(key)
        return status.st_blocks * _BLOCK_BYTES + INODE_BYTES


def _systems(places: Iterable[str]) -> dict[int, tuple[str, int]]:
    """Return by device the file systems that *places* are on: a place there, and what is taken."""
    found: dict[int, tuple[str, int]] = {}
    for place in places:
        try:
            device = os.stat(place).st_dev
            if device not in found:
                found[device] = (place, taken(place))
        except OSError:
            continue  # it has gone, and nothing can be added to it
    return found


def taken(place: str) -> int:
    """Return how much of the file system that *place* is on is taken."""
    status = os.statvfs(place)
    blocks = (status.f_blocks - status.f_bfree) * status.f_frsize
    return blocks + (status.f_files - status.f_ffree) * INODE_BYTES


def _grown(systems: dict[int, tuple[str, int]]) -> int:
    """Return by how much *systems* have grown since least was taken there."""
    total = 0
    for device, (place, least) in systems.items():
        try:
            used = taken(place)
        except OSError:
            continue
        # What somebody else frees makes no room for the call.
        systems[device] = (place, min(least, used))
        total += max(0, used - least)
    return total


def _outermost(places: Iterable[str]) -> Sequence[str]:
    found: list[str] = []
    for place in sorted(places):
        if not any(place == one or place.startswith(one.rstrip("/") + "/") for one in found):
            found.append(place)
    return found


def _beneath(top: str, devices: Iterable[int]) -> Iterator[os.stat_result]:
    """Yield what is at and beneath *top*, as far as it's on *devices*; nothing is followed."""
    known = set(devices)
    try:
        status = os.lstat(top)
    except OSError:
        return
    yield status
    pending = [top] if stat.S_ISDIR(status.st_mode) else []
    while pending:
        path = pending.pop()
        try:
            fd = os.open(path, _DIRECTORY)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                continue  # gone since, or replaced
            raise UntoldError from None  # shut, or too deep, as a worker can have it
        try:
            if os.fstatvfs(fd).f_flag & os.ST_RDONLY:
                continue  # a grant to read that is mounted in one to write
            with os.scandir(fd) as entries:
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    if status.st_dev not in known:
                        continue
                    yield status
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(f"{path}/{entry.name}")
        finally:
            os.close(fd)
