"""Directories of a watched tree, opened one after the other with few of them open.

Architecture invariant: directories are opened one component at a time and never through a symlink.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nono_mcp.snapshots.watched_node import Node

OPEN_MAX = 64
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_VANISHED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Way:
    """The open directories on the way to the last one that was gone into."""

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        self._open: list[tuple[Node, int]] = []

    def into(self, node: Node) -> int | None:
        """Return the directory's descriptor, kept here; -1 if it's unreadable, None if gone."""
        if node.parent is None:
            return self._kept(node, os.open(".", _DIRECTORY, dir_fd=self._root_fd))
        while self._open and self._open[-1][0] is not node.parent:
            os.close(self._open.pop()[1])
        try:
            if not self._open:
                self._kept(node.parent, self._reopened(node.parent))
            return self._kept(node, os.open(node.name, _DIRECTORY, dir_fd=self._open[-1][1]))
        except PermissionError:
            return -1
        except OSError as error:
            if error.errno in _VANISHED:
                return None
            raise

    def _reopened(self, node: Node) -> int:
        fd = os.open(".", _DIRECTORY, dir_fd=self._root_fd)
        for name in [one.name for one in (node, *node.ancestors())][-2::-1]:
            try:
                inner = os.open(name, _DIRECTORY, dir_fd=fd)
            finally:
                os.close(fd)
            fd = inner
        return fd

    def _kept(self, node: Node, fd: int) -> int:
        self._open.append((node, fd))
        if len(self._open) > OPEN_MAX:
            os.close(self._open.pop(0)[1])
        return fd

    def close(self) -> None:
        """Close them all."""
        for _, fd in self._open:
            os.close(fd)
