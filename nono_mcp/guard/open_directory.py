"""A directory that is held open, where it can be: no other has its number then."""

from __future__ import annotations

import posix as os

from nono_mcp.guard import ways


class Place:
    """The directory of a `Register`, held open if it can be."""

    def __init__(self) -> None:
        self.fd = -1
        self.identity: tuple[int, int] | None = None

    def hold(self, fd: int | None) -> None:
        """Hold the open directory *fd*, or none."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1 if fd is None else os.dup(fd)
        self.identity = None if fd is None else identity(fd)

    def is_at(self, status: os.stat_result) -> bool:
        """Tell whether that *status* is surely the directory's."""
        return (status.st_dev, status.st_ino) == self.identity


def opened(path: str) -> int | None:
    """Open the directory *path*, if there is one; an empty path is none."""
    try:
        return os.open(path, ways.DIRECTORY) if path else None
    except OSError:
        return None  # of which whoever keeps the workspace complains


def standing(path: str) -> os.stat_result | None:
    """Return the status of what is at *path*, if anything is; at an empty path nothing is."""
    try:
        return os.stat(path, follow_symlinks=False) if path else None
    except OSError:
        return None


def identity(fd: int | None) -> tuple[int, int] | None:
    """Return what the open directory *fd* is known by while it's open."""
    if fd is None:
        return None
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
