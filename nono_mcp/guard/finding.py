"""Where beneath a workspace's top directory the guard has to look, given what changed.

Names that tools look for in the directory they're in (`names.what`), and repositories of Git: a
`.git` of whatever kind, and directories that are a bare repository by what is in them.

Architecture invariant: reads only, by open directories that are never reached through a symlink.
"""

from __future__ import annotations

import errno
import posix as os

from nono_mcp.guard import names, spelling, spots, ways
from nono_mcp.guard.directory_listings import PACKAGES
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

DEPTH_MAX = 128
"""Levels of directories that are looked into; what is deeper is told of, and left."""

NAME = "name"
GIT = "git"
BARE = "bare"
AROUND = "around"
DEEP = "deep"
"""A directory that isn't looked into, since it's too deep."""
SHUT = "shut"
"""A directory of ours that can't be looked into, for the reason that is its name."""

_MARKS = frozenset({"HEAD", "objects", "refs", "commondir"})
_BY_NAME = {names.folded(mark): mark for mark in _MARKS}
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Found(Value):
    """Something to be looked at: which kind, in which directory, and by which name."""

    kind: str
    directory: tuple[str, ...]
    name: str = ""


def in_package(directory: tuple[str, ...]) -> int:
    """Return how many components lead to the packages that *directory* belongs to; 0 if to none."""
    for index, name in enumerate(directory[:-1], start=1):
        if name in PACKAGES:
            return index
    return 0


def is_bare(present: Collection[str]) -> bool:
    """Tell whether Git takes a directory with these names in it for a repository."""
    return "HEAD" in present and ("commondir" in present or {"objects", "refs"} <= set(present))


def marks(directory: int) -> set[str]:
    """Return which names that make a repository are in the open *directory*."""
    return {name for name in _MARKS if ways.is_there(name, directory)}


def by_names(paths: Iterable[str], bare: Collection[tuple[str, ...]]) -> Iterator[Found]:
    """Yield what the changed *paths* belong to; *bare* are repositories that are known.

    They are spelled as guarded names are: events come from no directory that has others for them.
    """
    for path in paths:
        yield from _of_path(tuple(path.split("/")), bare)


def _of_path(parts: tuple[str, ...], bare: Collection[tuple[str, ...]]) -> Iterator[Found]:
    for index, name in enumerate(parts):
        if bare and parts[:index] in bare:
            yield Found(BARE, parts[:index])
        if names.is_git(name):
            yield Found(GIT, parts[:index])
            return
        if names.what(name):
            yield Found(NAME, parts[:index], name)
            return
        if names.is_around(name):
            yield Found(AROUND, parts[:index], name)
    if parts[-1] in _MARKS:
        yield Found(BARE, parts[:-1])


def by_walk(root: int, top: tuple[str, ...], *, packages: bool, forcing: bool) -> Iterator[Found]:
    """Yield what is in the directory *top* beneath the open *root*, and in all beneath it.

    Without *packages* those aren't looked into. *forcing* looks into what is shut as well, which
    stays open while what is beneath it is looked into, and tells of what can't be.
    """
    pending = [Level((), os.dup(root))]
    try:
        left = _lead(top, pending)
        if left is not None:
            yield left
        if pending[-1].directory != top:
            return
        pending[-1].take_in()
        while pending:
            level = pending[-1]
            yield from level.take_found()
            name = level.next(packages=packages)
            if name is None:
                pending.pop().close()
                continue
            directory = (*level.directory, name)
            if len(directory) > DEPTH_MAX:
                yield Found(DEEP, directory)
                continue
            below = _entered(directory, level.fd, forcing=forcing)
            if isinstance(below, Level):
                pending.append(below)
                below.take_in()
            elif below is not None:
                yield below
    finally:
        while pending:
            pending.pop().close()


class Level:
    """A directory on the way, and what of it wasn't gone into yet."""

    def __init__(self, directory: tuple[str, ...], fd: int, mode: int | None = None) -> None:
        self.directory = directory
        self.fd = fd
        self._mode = mode
        """What it was shut by, and is again afterwards."""
        self._found: list[Found] = []
        self.below: list[str] = []
        """Directories in it that are to be gone into."""

    def close(self) -> None:
        """Leave the directory as it was."""
        ways.shut_again(self.fd, self._mode)
        os.close(self.fd)

    def take_in(self) -> None:
        """Take in what is in the directory."""
        present = set()
        with os.scandir(self.fd) as entries:
            for entry in entries:
                name = spelling.as_guarded(entry.name, self.fd)
                if names.is_git(name):
                    self._found.append(Found(GIT, self.directory))
                elif names.what(name):
                    self._found.append(Found(NAME, self.directory, name))
                elif entry.is_dir(follow_symlinks=False):
                    self.below.append(name)
                if names.is_around(name):
                    self._found.append(Found(AROUND, self.directory, name))
                if mark := _BY_NAME.get(names.folded(name)):
                    present.add(mark)
        if is_bare(present):
            self._found.append(Found(BARE, self.directory))

    def take_found(self) -> list[Found]:
        """Return what was found here, once."""
        found, self._found = self._found, []
        return found

    def next(self, *, packages: bool) -> str | None:
        """Return a directory in this one to go into, or None if there is no other."""
        while self.below:
            name = self.below.pop()
            if packages or name not in PACKAGES:
                return name
        return None


def _lead(top: tuple[str, ...], pending: list[Level]) -> Found | None:
    """Add to *pending*, the top directory, those that lead to *top*; return what doesn't."""
    if len(top) > DEPTH_MAX:
        # Too many to be open at the same time.
        fd = ways.beneath(top, pending[-1].fd)
        if fd is not None:
            pending.append(Level(top, fd))
        return None
    while len(pending) <= len(top):
        below = _entered(top[: len(pending)], pending[-1].fd, forcing=True)
        if not isinstance(below, Level):
            return below
        pending.append(below)
    return None


def _entered(directory: tuple[str, ...], parent: int, *, forcing: bool) -> Level | Found | None:
    """Open a directory, as long as it's there and not a symlink by now."""
    name = directory[-1]
    try:
        if forcing:
            return Level(directory, *ways.entered(name, parent))
        return Level(directory, os.open(name, ways.DIRECTORY, dir_fd=parent))
    except OSError as error:
        if not forcing or error.errno in _GONE or _is_anothers(name, parent):
            return None
        return Found(SHUT, directory, str(error))


def _is_anothers(name: str, parent: int) -> bool:
    """Tell whether a directory is none that a worker can have made: what it makes is its own."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False).st_uid != os.geteuid()
    except OSError:
        return False


def is_reached(parts: tuple[str, ...], root: int) -> bool:
    """Tell whether the guard looks at the repository at *parts*, when it looks at its owner's.

    That is a submodule's or a linked worktree's, in a repository that is itself looked at.
    """
    for index, name in enumerate(parts):
        if name in (spots.MODULES, spots.WORKTREES) and _is_repository(parts[:index], root):
            return _is_part(parts, index, root)
    return False


def _is_repository(parts: tuple[str, ...], root: int) -> bool:
    fd = ways.beneath(parts, root, entering=False)
    if fd is None:
        return False
    try:
        # What is in a `.git` is visited from there, or by nobody.
        return names.is_git(parts[-1] if parts else "") or (
            not any(map(names.is_git, parts)) and is_bare(marks(fd))
        )
    finally:
        os.close(fd)


def _is_part(parts: tuple[str, ...], index: int, root: int) -> bool:
    """Tell whether what follows the "modules" or "worktrees" at *index* is one of those."""
    module = parts[index] == spots.MODULES
    for end in range(index + 2, len(parts) + 1):
        fd = ways.beneath(parts[:end], root, entering=False)
        if fd is None:
            return False
        try:
            found = not module or spots.is_module(fd)
        finally:
            os.close(fd)
        if end == len(parts):
            return found
        if found and parts[end] in (spots.MODULES, spots.WORKTREES):
            return _is_part(parts, end, root)
        if not module or (found and parts[end] in spots.STANDARD):
            return False
    return False
