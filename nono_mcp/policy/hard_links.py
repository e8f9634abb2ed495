"""Other names of what is closed: hard links, found by looking through what is granted.

A mask covers one name of a file, and Landlock opens a file by whichever name is granted. So a file
that is closed and has more than one link is looked for wherever something was granted.

Architecture invariant: reads names and nothing else, follows no symlink, and looks at no more than
`ENTRIES_MAX` of them. What it didn't come to it tells of.
"""

from __future__ import annotations

import os
import stat

from nono_mcp.policy.denials import Twin
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Identity = tuple[int, int]

ENTRIES_MAX = 500_000
"""Names that are looked at, all told: a second or two."""


class _Sought(Value):
    path: str
    access: int
    links_count: int


def find(closed: Iterable[tuple[str, int]], granted: Iterable[str]) -> list[Twin]:
    """Return the other names, in or at the paths *granted*, of what is *closed* or in it."""
    look = _Look(tuple(closed))
    return look.unlooked + (look.through(granted) if look.sought else [])


class _Look:
    def __init__(self, closed: tuple[tuple[str, int], ...]) -> None:
        self._left = ENTRIES_MAX
        self._complete = True
        self.sought: dict[Identity, _Sought] = {}
        self._found: dict[Identity, set[str]] = {}
        self.unlooked: list[Twin] = []
        for path, access in closed:
            self._seek(path, access)

    def _seek(self, path: str, access: int) -> None:
        """Note the files at or beneath *path* that have other names."""
        for name, status in _files(path, self):
            if status.st_nlink > 1:
                identity = (status.st_dev, status.st_ino)
                known = self.sought.get(identity)
                both = access | (known.access if known else 0)
                self.sought[identity] = _Sought(name, both, status.st_nlink)
                self._found.setdefault(identity, set()).add(name)
        if self._left <= 0 and os.path.isdir(path):
            self.unlooked.append(Twin(path, access, is_listed=False))

    def through(self, granted: Iterable[str]) -> list[Twin]:
        """Look for what is sought, and return what was found and what may be missing."""
        numbers = {number for _, number in self.sought}
        twins = []
        for top in dict.fromkeys(granted):
            for path in self._named(top, numbers):
                identity = _identity(path)
                sought = None if identity is None else self.sought.get(identity)
                if identity and sought and path not in self._found[identity]:
                    self._found[identity].add(path)
                    twins.append(Twin(sought.path, sought.access, path))
        if not self._complete:
            twins += [
                Twin(sought.path, sought.access)
                for identity, sought in self.sought.items()
                if len(self._found[identity]) < sought.links_count
            ]
        return twins

    def _named(self, top: str, numbers: set[int]) -> Iterator[str]:
        """Yield the paths at or beneath *top* whose inode's number is one of *numbers*."""
        if not os.path.isdir(top):
            yield top
            return
        for entry in self.entries(top):
            if entry.inode() in numbers:
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


def _identity(path: str) -> Identity | None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None  # gone since it was listed
    return status.st_dev, status.st_ino


def _files(path: str, look: _Look) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files at or beneath *path*."""
    try:
        status = os.lstat(path)
    except OSError:
        return
    if stat.S_ISREG(status.st_mode):
        yield path, status
    elif stat.S_ISDIR(status.st_mode):
        for entry in look.entries(path):
            if entry.is_file(follow_symlinks=False):
                yield entry.path, entry.stat(follow_symlinks=False)
