"""Workspaces to keep, and eyes of their own that see all there is to see of one."""

import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from nono_mcp.snapshots.snapshots import Snapshots

Seen = dict[bytes, tuple[object, ...]]


def runs(path: bytes, size: int) -> list[tuple[int, int]]:
    """Return where a file has data."""
    found, at = [], 0
    fd = os.open(path, os.O_RDONLY)
    try:
        while at < size:
            start = os.lseek(fd, at, os.SEEK_DATA)
            at = os.lseek(fd, start, os.SEEK_HOLE)
            found.append((start, at))
    except OSError:
        pass
    finally:
        os.close(fd)
    return found


def _one(path: bytes, inodes: dict[int, list[bytes]], *, times: bool) -> tuple[object, ...]:
    status = os.lstat(path)
    content: object = None
    if stat.S_ISREG(status.st_mode):
        content = (Path(os.fsdecode(path)).read_bytes(), runs(path, status.st_size))
        if status.st_nlink > 1:
            inodes.setdefault(status.st_ino, []).append(path)
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    attributes = {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in (os.listxattr(path, follow_symlinks=False) if sys.platform == "linux" else ())
    }
    mtime = status.st_mtime_ns if times else 0
    return (status.st_mode, status.st_uid, status.st_gid, mtime, content, attributes)


def seen(root: Path, *, times: bool = True) -> Seen:
    """Return all of a tree: bytes, types, modes, owners, times, links, holes, xattrs."""
    top = os.fsencode(root)
    inodes: dict[int, list[bytes]] = {}
    found: Seen = {b".": _one(top, inodes, times=times)}
    pending = [top]
    while pending:
        directory = pending.pop()
        for entry in os.scandir(directory):
            relative = os.path.relpath(entry.path, top)
            found[relative] = _one(entry.path, inodes, times=times)
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
    for paths in inodes.values():
        for path in paths:
            relative = os.path.relpath(path, top)
            together = sorted(os.path.relpath(each, top) for each in paths)
            found[relative] = (*found[relative], together if len(together) > 1 else None)
    return found


@dataclass
class Place:
    """A workspace, and a store outside it."""

    base: Path

    def __post_init__(self) -> None:
        self.workspace = self.base / "workspace"
        self.state = self.base / "state"
        self.workspace.mkdir()

    def open(self, *exclusions: str) -> Snapshots:
        return Snapshots.open(str(self.state), str(self.workspace), exclusions=exclusions)

    def write(self, name: str, content: bytes | str = b"content\n") -> Path:
        path = self.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path
