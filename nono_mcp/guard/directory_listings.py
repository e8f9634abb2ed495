"""The directories of a workspace as they were when they were last listed, kept between runs.

A directory in which a name comes, goes or is moved has another ctime, which no program can set: of
one that has the same as it had then, the names are known.

Architecture invariant: nothing but speed depends on what is kept, save which inodes stood at
guarded names when it was.
"""

from __future__ import annotations

import marshal
import posix as os
import time
from _imp import source_hash
from binascii import crc32

from nono_mcp.guard import directory_identity, times, ways
from nono_sandbox import private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Identity = tuple[int, int]
    Plain = tuple[str, tuple[str, ...], str]
    """What is in a `Found`."""

FOLDER = "listings"
"""In our state directory."""
SLOTS_COUNT = 256
SETTLED_NS = 10**8
"""A directory that was changed so short a time before it was listed may be once more unseen."""

_MAGIC = b"nono listing 1 "
_CRC_DIGITS = 8
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC

PACKAGES = frozenset({"node_modules", "site-packages", "vendor"})
"""Directories of packages as they were published, each in one of its own."""


def _in_package(path: str) -> bool:
    return any(f"/{name}/" in f"/{path}" for name in PACKAGES)


class Listed:
    """One directory: when it was changed last, the directories in it, and what is guarded."""

    __slots__ = ("below", "changed_ns", "found")

    def __init__(self, changed_ns: int, below: tuple[str, ...], found: tuple[Plain, ...]) -> None:
        self.changed_ns = changed_ns
        self.below = below
        self.found = found


class Listing:
    """All that is known of the directories beneath *root*."""

    def __init__(self, state_dir: str, root: str) -> None:
        slot = int.from_bytes(source_hash(0, ways.encoded(root)), "little") % SLOTS_COUNT
        self._path = f"{state_dir}/{FOLDER}/{slot}"
        self._root = root
        self._prefix = root.rstrip("/") + "/"
        self.directories: dict[str, Listed] = {}
        """By path, and none of a directory before the one that it's in."""
        self.before: dict[str, Listed] = {}
        """The same, as it was kept."""
        self.inodes: dict[str, int] = {}
        """Of what stood at guarded names by then."""
        self.taken_ns = 0
        self._last: dict[str, Listed] = {}
        """How each was listed last."""
        self._is_new = False
        self._published: set[int] = set()
        """Which of the inodes were in packages."""
        self._is_all = True
        """All directories were come to."""
        self._same: frozenset[str] = frozenset()
        """Which directories were seen to have the names that they had then; see `note_same`."""
        self.apart_ns = self._apart_ns()
        """How far apart times are here; what is seen of a directory is settled only after that."""
        self._read()

    def _read(self) -> None:
        try:
            with open(os.open(self._path, _READ), "rb") as file:
                data = file.read()
            body = data[len(_MAGIC) + _CRC_DIGITS :]
            if data[: -len(body) or None] != _MAGIC + b"%08x" % crc32(body):
                return
            # What is whole is what we wrote, where no worker gets at it.
            value: Any = marshal.loads(body)  # noqa: S302
            whose = self._root, self._identity()
        except OSError:
            return
        root, identity, taken_ns, directories, inodes = value
        if (root, identity) == whose:
            self.taken_ns = taken_ns
            self.before = {path: Listed(*one) for path, *one in directories}
            self.directories = self._last = self.before
            self.inodes = inodes
            self._published = {inode for path, inode in inodes.items() if _in_package(path)}

    def _identity(self) -> Identity:
        status = os.lstat(self._root)
        return status.st_dev, status.st_ino

    def _apart_ns(self) -> int:
        try:
            root = os.open(self._root, ways.DIRECTORY)
        except OSError:
            return 1
        try:
            return times.apart_ns(root, directory_identity.birth_ns(root))
        finally:
            os.close(root)

    def _settled_ns(self, now_ns: int) -> int:
        """Return until when a directory was changed that won't be once more unseen, by *now_ns*."""
        return now_ns - SETTLED_NS - self.apart_ns

    def note_same(self) -> None:
        """Note which directories have the names that they had.

        Not those in one that was changed, save in the top one: they may have come there with it.
        """
        device = self._exact_device()
        same = set() if device is None else {""}
        for path in sorted({*self.before, *self.inodes}.difference({""})):
            if path.rpartition("/")[0] in same and self._is_same(path, device):
                same.add(path)
        self._same = frozenset(same)

    def _exact_device(self) -> int | None:
        """Return the device of the top directory, if names there don't change untold."""
        root = os.open(self._root, ways.DIRECTORY)
        try:
            exact = times.file_system(root) in times.EXACT and self.apart_ns == 1
            return os.fstat(root).st_dev if exact else None
        finally:
            os.close(root)

    def _is_same(self, path: str, device: int | None) -> bool:
        try:
            status = os.lstat(self._prefix + path)
        except OSError:
            return False
        if status.st_dev != device:
            return False
        if path in self.before:
            return self.before[path].changed_ns == status.st_ctime_ns
        # In a repository, which is looked at each time.
        return status.st_ctime_ns < self.taken_ns

    def was_absent(self, directory: tuple[str, ...], name: str, since_ns: int) -> bool:
        """Tell whether a guarded *name*, not at the top, was surely not there at `note_same`."""
        above = "/".join(directory)
        is_known = self.taken_ns < since_ns and above in self._same
        return is_known and f"{above}/{name}" not in self.inodes

    def is_as_it_was(self) -> bool:
        """Tell whether no directory was changed since it was listed."""
        prefix, stat = self._prefix, os.lstat
        try:
            for path, one in self.directories.items():
                if stat(prefix + path).st_ctime_ns != one.changed_ns:
                    return False
        except FileNotFoundError:
            return False
        return bool(self.directories)

    def renew(self, until: float) -> bool:
        """List what was changed, and tell whether that was done by the time *until*.

        What wasn't come to is as it was.
        """
        for _ in self.renewal(doubting=False):
            if time.monotonic() > until:
                self.directories = self._last
                self._is_all = False
                return False
        self._is_all = True
        return True

    def renewal(self, *, doubting: bool) -> Iterator[Listed]:
        """List what was changed, and yield each directory; after the last, all that is known.

        While somebody goes on to change them, that is *doubting*: what is seen of one a moment
        after it was changed is looked at again.
        """
        # Who changed nothing doesn't pay for the import.
        from nono_mcp.guard.list_directory import listed

        found: dict[str, Listed] = {}
        self._last = dict(self._last)
        todo = [""]
        # What is further up comes first: that is what most tools look for.
        for path in todo:
            settled_ns = self._settled_ns(times.now_ns())
            old = self._last.get(path)
            one = listed(self._prefix, path, old)
            if one is None:
                continue
            self._is_new = self._is_new or one is not old
            if doubting and one.changed_ns >= settled_ns:
                one = Listed(0, one.below, one.found)
            found[path] = self._last[path] = one
            lead = f"{path}/" if path else ""
            todo += [lead + name for name in one.below]
            yield one
        self._is_new = self._is_new or found.keys() != self.before.keys()
        self.directories = found

    def path(self, directory: tuple[str, ...], name: str) -> str:
        """Return the absolute path of a *name*."""
        return self._prefix + "/".join((*directory, name))

    def found(self) -> list[Plain]:
        """Return what is guarded, wherever it is."""
        return [found for one in self.directories.values() for found in one.found]

    def changed_ns(self, directory: tuple[str, ...]) -> int | None:
        """Return when a directory was changed last, as it was listed."""
        one = self.directories.get("/".join(directory))
        return None if one is None else one.changed_ns

    def came_unseen(
        self, directory: tuple[str, ...], name: str, status: os.stat_result, since_ns: int
    ) -> bool:
        """Tell whether *name* is another file since *since_ns*, though its *status* is older.

        Where two files change places, XFS and F2FS give neither another time; and what is in a
        directory that is moved has none. That matters where it was in a package.
        """
        above = "/".join(directory)
        if not status.st_ctime_ns < self.taken_ns < since_ns:
            return False
        if status.st_ino in self._published and not _in_package(above):
            return True
        if above not in self.before:
            return False
        changed_ns = self.changed_ns(directory)
        if changed_ns is not None and changed_ns < since_ns:
            return False
        return self.inodes.get("/".join((*directory, name))) != status.st_ino

    def write(self, inodes: dict[str, int], taken_ns: int) -> None:
        """Keep what is known, if it's anything new; the guarded names have the *inodes*.

        Raises:
            OSError: It isn't kept.
        """
        if not self._is_new and inodes == self.inodes:
            return
        settled_ns = self._settled_ns(taken_ns)
        # While some weren't come to, the top directory counts as changed: the next look goes on.
        doubted = None if self._is_all else ""
        directories = tuple(
            (
                path,
                one.changed_ns if one.changed_ns < settled_ns and path != doubted else 0,
                one.below,
                one.found,
            )
            for path, one in self.directories.items()
        )
        body = marshal.dumps((self._root, self._identity(), taken_ns, directories, inodes), 2)
        private.ensure_directories(self._path.rpartition("/")[0])
        new = f"{self._path}.{os.urandom(8).hex()}"
        try:
            with open(private.open_file(new, private.NEW), "wb") as file:
                file.write(_MAGIC + b"%08x" % crc32(body) + body)
            os.rename(new, self._path)
        except OSError:
            os.unlink(new)
            raise
