"""What is guarded beneath the top directory, kept while the program runs that may change it.

No program sets a ctime. What has one from before the program began, and stands where nothing can
have come to since, is what stood there before; and so is what was read of it, if that is seen
once it was read. So it doesn't matter that nobody looked before the program: whatever it hadn't
got at by then can be put back later. What it was quicker at isn't kept, and only told.

Architecture invariant: what is kept is the person's. On file systems of which it isn't known that
they give all that is changed another time, before whoever comes next has its lock, nothing is.
"""

from __future__ import annotations

import _stat as stat
import posix as os

from nono_mcp.guard import finding, judging_spots, looking, spots, times, tree, ways
from nono_mcp.guard.baseline import Baseline
from nono_mcp.guard.open_directory import identity
from nono_sandbox.opath import WAY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.guard.finding import Found
    from nono_mcp.guard.spots import Spot

    Identity = tuple[int, int]


_NEVER_NS = 1 << 63
"""Later than any time that a file has."""


class DuringRun:
    """What is kept of the workspace *path* by somebody who sees that a program *began*."""

    def __init__(self, path: str, began: times.Began) -> None:
        self._began = began
        self._root = os.open(path, ways.DIRECTORY)
        self._device = times.telling_device(self._root)
        self._file_system = times.file_system(self._root)
        self.known = Baseline(path, self._device)
        self._stood: dict[tuple[str, ...], Identity | None] = {(): identity(self._root)}
        """Which directories stood where they are before the program began; None is another."""

    def close(self) -> None:
        """Look no more; what is known stays."""
        os.close(self._root)

    def keep(self, found: Found) -> None:
        """Keep what belongs to what was *found*, as far as it's sure to be as it was."""
        is_sure = self._device is not None and self._file_system in times.LOCKED
        if not is_sure or _stays(found) or self.known.is_full():
            return
        try:
            seen = self._see, self._see_bare
            looking.visit(self.known, found, self._root, *seen, entering=False)
        except OSError:
            return  # the program is changing it

    def _see(self, spot: Spot, parent: int) -> bool:
        there = judging_spots.printed(spot, parent)
        if there is None or spot.rule == spots.TOO_MANY:
            return False
        is_entered = judging_spots.is_directory(there)
        kept = judging_spots.kept(spot, parent, there)
        # Now that it has been read.
        if not self._is_from_before(spot, parent, is_entered=is_entered):
            return False
        self.known.take(spot, kept, self._root, there)
        if kept is not None:
            self.known.copies.learn(spot, kept)
        return is_entered

    def _see_bare(self, directory: tuple[str, ...], fd: int) -> None:
        spots.visit_bare(directory, fd, self._see)

    def _is_from_before(self, spot: Spot, parent: int, *, is_entered: bool) -> bool:
        """Tell whether *spot* stood there, as it is, before the program began."""
        if not self._has_stood(spot.directory, parent):
            return False
        status = os.stat(spot.name, dir_fd=parent, follow_symlinks=False)
        changed_ns = 0 if is_entered else self._changed_ns(spot.name, parent, 0)
        if status.st_dev != self._device or self._may_have_come(status, parent):
            return False
        return changed_ns < self._began.since_ns()

    def _may_have_come(self, status: os.stat_result, parent: int) -> bool:
        """Tell whether what has that *status* may have come to its name in the open *parent*.

        Its directory is asked last: nothing came from there, or went, before that.
        """
        above = os.fstat(parent)
        since_ns = self._began.since_ns()
        if above.st_ctime_ns < since_ns:
            return False
        return status.st_ctime_ns >= since_ns or self._file_system not in times.MOVES_TELL

    def _changed_ns(self, name: str, parent: int, depth: int) -> int:
        """Return when what stands at *name*, or beneath it, was changed last."""
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            return self._file_changed_ns(name, parent)
        if not stat.S_ISDIR(status.st_mode) or depth > tree.DEPTH_MAX:
            return status.st_ctime_ns
        directory = os.open(name, ways.DIRECTORY, dir_fd=parent)
        try:
            inner = (self._changed_ns(one, directory, depth + 1) for one in os.listdir(directory))
            return max(*inner, 0, os.fstat(directory).st_ctime_ns)
        finally:
            os.close(directory)

    def _file_changed_ns(self, name: str, parent: int) -> int:
        """Return when a file was changed last, by whoever is still changing it too.

        Who truncates one makes it shorter first and gives it another time then, but has its lock
        all the while.
        """
        fd = os.open(name, tree.READ, dir_fd=parent)
        try:
            _take_lock(fd)
            status = os.fstat(fd)
        finally:
            os.close(fd)
        is_unsure = not status.st_size and self._file_system == times.BTRFS
        return _NEVER_NS if is_unsure else status.st_ctime_ns

    def _has_stood(self, directory: tuple[str, ...], fd: int) -> bool:
        """Tell whether the open *fd* is what stood at *directory* before the program began."""
        if directory not in self._stood:
            self._stood[directory] = self._standing(directory, fd)
        return self._stood[directory] == identity(fd)

    def _standing(self, directory: tuple[str, ...], fd: int) -> Identity | None:
        above = os.open("..", WAY, dir_fd=fd)
        try:
            if not self._has_stood(directory[:-1], above):
                return None
            status = os.stat(directory[-1], dir_fd=above, follow_symlinks=False)
            same = ways.is_same(status, os.fstat(fd))
            return identity(fd) if same and not self._may_have_come(status, above) else None
        finally:
            os.close(above)


def _take_lock(fd: int) -> None:
    """Wait until nobody has the lock of a file: to read takes it (XFS), or to find a hole.

    Of an empty file Btrfs tells that it has none without that.
    """
    os.pread(fd, 1, 0)
    try:
        os.lseek(fd, 0, os.SEEK_HOLE)
    except OSError:
        return  # ENXIO: it's empty


def _stays(found: Found) -> bool:
    """Tell whether nothing of what was *found* would be put back beneath the top directory."""
    if found.kind in looking.NOT_ENTERED:
        return True
    named = found.kind in (finding.NAME, finding.AROUND)
    if named and finding.in_package(found.directory):
        return True
    return not found.directory and found.kind != finding.BARE
