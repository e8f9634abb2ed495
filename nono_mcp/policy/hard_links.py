"""Other names of what is closed: hard links, found by looking through what is granted.

A mask covers one name of a file, and Landlock opens a file by whichever name is granted. So a file
that is closed and has more than one link is looked for wherever something was granted.

It's one question, which a `witness` notes as a whole and `recall` asks again: what is looked at on
the way changes with every run, since our own state is closed, and is more than could be noted.

Architecture invariant: reads names and nothing else, follows no symlink, and looks at no more than
`ENTRIES_MAX` of them. What it didn't come to it tells of. It imports next to nothing: a run whose
policy was judged before asks too.
"""

from __future__ import annotations

import _stat as stat
import posix as os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Identity = tuple[int, int]
    Found = tuple[str, int, str, bool]

ENTRIES_MAX = 500_000
"""Names that are looked at, all told: a second or two."""


class _Sought:
    """A closed file that has other names."""

    def __init__(self, path: str, links_count: int) -> None:
        self.path = path
        self.links_count = links_count
        self.access = 0
        self.names: dict[str, int] = {}
        """Those that are known, and what is closed by each."""

    def is_closed_by_all_names(self) -> bool:
        """Tell whether what is closed of it is closed by every name that it has."""
        if any(access != self.access for access in self.names.values()):
            return False
        # A directory that is mounted twice has two paths, and each name in it is one link.
        links = set()
        for path in self.names:
            directory, _, name = path.rpartition("/")
            links.add((_identity(directory or "/"), name))
        return len(links) == self.links_count


def find(closed: tuple[tuple[str, int], ...], granted: tuple[str, ...]) -> tuple[Found, ...]:
    """Return the other names, in or at the paths *granted*, of what is *closed* or in it.

    They are fields of `denials.Twin`.
    """
    look = _Look(closed)
    return tuple(look.unlooked + (look.through(granted) if look.sought else []))


class _Look:
    def __init__(self, closed: tuple[tuple[str, int], ...]) -> None:
        self._left = ENTRIES_MAX
        self._complete = True
        self.sought: dict[Identity, _Sought] = {}
        self.unlooked: list[Found] = []
        for path, access in closed:
            self._seek(path, access)
        # What nobody may list of what is closed (/etc/ssl/private) lies in no person's grant, or
        # is come upon once more in looking through that.
        self._complete = True
        # As our own state has them.
        for identity, sought in [*self.sought.items()]:
            if sought.is_closed_by_all_names():
                del self.sought[identity]

    def _seek(self, path: str, access: int) -> None:
        """Note the files at or beneath *path* that have other names."""
        for name, status in self._files(path):
            if status.st_nlink > 1:
                identity = (status.st_dev, status.st_ino)
                sought = self.sought.setdefault(identity, _Sought(name, status.st_nlink))
                sought.access |= access
                sought.names[name] = sought.names.get(name, 0) | access
        if self._left <= 0 and _is_directory(path):
            self.unlooked.append((path, access, "", False))

    def through(self, granted: tuple[str, ...]) -> list[Found]:
        """Look for what is sought, and return what was found and what may be missing."""
        numbers = None if self._are_listed_otherwise() else {one for _, one in self.sought}
        twins: list[Found] = []
        for top in granted:
            for path in self._named(top, numbers):
                status = self._status(path)
                sought = status and self.sought.get((status.st_dev, status.st_ino))
                if sought and sought.names.get(path) != sought.access:
                    sought.names[path] = sought.access
                    twins.append((sought.path, sought.access, path, True))
        if not self._complete:
            twins += [
                (sought.path, sought.access, "", True)
                for sought in self.sought.values()
                if len(sought.names) < sought.links_count
            ]
        return twins

    def _are_listed_otherwise(self) -> bool:
        """Tell whether a directory may list what is sought by another number than it has.

        An overlay over several file systems does; it gives a file another device than a directory.
        """
        paths = ((device, path) for (device, _), one in self.sought.items() for path in one.names)
        return any(
            (_identity(path.rpartition("/")[0] or "/") or (device,))[0] != device
            for device, path in paths
        )

    def _named(self, top: str, numbers: set[int] | None) -> Iterator[str]:
        """Yield the paths at or beneath *top* whose inode's number is one of *numbers*, if any."""
        if not _is_directory(top):
            yield top
            return
        for entry in self.entries(top):
            if numbers is None or entry.inode() in numbers:
                yield entry.path

    def entries(self, top: str) -> Iterator[os.DirEntry[str]]:
        """Yield all that is beneath the directory *top*."""
        pending = [top]
        while pending and self._left > 0:
            try:
                with os.scandir(pending.pop()) as entries:
                    for entry in entries:
                        if self._left <= 0:
                            self._complete = False
                            return
                        self._left -= 1
                        yield entry
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(entry.path)
            except FileNotFoundError:
                continue  # gone since it was listed
            except OSError:
                # It may be opened to a worker that owns it.
                self._complete = False
        if pending:
            self._complete = False

    def _files(self, path: str) -> Iterator[tuple[str, os.stat_result]]:
        """Yield the files at or beneath *path*."""
        names: Iterable[str] = (path,)
        if _is_directory(path):
            names = (one.path for one in self.entries(path) if one.is_file(follow_symlinks=False))
        for name in names:
            status = self._status(name)
            if status and stat.S_ISREG(status.st_mode):
                yield name, status

    def _status(self, path: str) -> os.stat_result | None:
        try:
            return os.lstat(path)
        except FileNotFoundError:
            return None  # gone since it was listed
        except OSError:
            # As of what can't be listed.
            self._complete = False
            return None


def _identity(path: str) -> Identity | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False
