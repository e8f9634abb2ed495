"""Masks over what is denied inside a grant, and pins that keep the way to them in place.

A mask is a mount over the denied object, so no link, renaming or descriptor leads past it. A mount
goes along when a directory above it is renamed, but the next session looks for what it denies
by path. So every directory between a mask and its grant is pinned: mounted on itself, it can
be neither renamed nor replaced.

Architecture invariant: nothing is made or left beneath a grant.
"""

from __future__ import annotations

import errno
import os
import stat

from nono_sandbox import _uapi
from nono_sandbox.confinement import READ, WRITE, Denial, Grant
from nono_sandbox.errors import ConfinementError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_INERT = _uapi.MOUNT_ATTR_NOSUID | _uapi.MOUNT_ATTR_NODEV
_DIRECTORY, _FILE = ".denied", ".denied-file"


def cover_of(path: str, mounted: Mapping[str, Grant]) -> Grant | None:
    """Return the nearest grant at or above *path*."""
    while True:
        found = mounted.get(path)
        if found or path == "/":
            return found
        path = path.rpartition("/")[0] or "/"


def pin(root: int, path: str, top: str, pinned: set[str]) -> None:
    """Mount each directory above *path* and beneath *top* on itself; *pinned* are done already.

    Raises:
        OSError: One of them isn't there, or is a symlink.
    """
    steps = path.removeprefix(top.rstrip("/")).strip("/").split("/")[:-1]
    at = top.rstrip("/")
    for step in steps:
        at = f"{at}/{step}"
        if at not in pinned:
            target = _uapi.open_beneath(root, at.lstrip("/"), os.O_PATH)
            _put_on(target, _uapi.open_tree_clone(target))
            pinned.add(at)


def mask_all(root: int, denials: Sequence[Denial], mounted: Mapping[str, Grant]) -> None:
    """Cover each denied path: with nothing that can be opened, or with itself read-only.

    What covers it is made in the root's own /dev, which must be writable still.
    """
    if not denials:
        return
    dev = _uapi.open_beneath(root, "dev", os.O_PATH)
    # No access for anybody: the worker has no capability to look past a mode, not even as root.
    os.mkdir(_DIRECTORY, 0, dir_fd=dev)
    os.mknod(_FILE, stat.S_IFREG, dir_fd=dev)
    hidden = {
        True: _uapi.open_beneath(dev, _DIRECTORY, os.O_PATH),
        False: _uapi.open_beneath(dev, _FILE, os.O_PATH),
    }
    pinned: set[str] = set()
    for denial in sorted(denials, key=lambda denial: denial.path.split("/")):
        _deny(root, denial, cover_of(denial.path, mounted), hidden, pinned)
    for fd in hidden.values():
        os.close(fd)
    os.rmdir(_DIRECTORY, dir_fd=dev)
    os.unlink(_FILE, dir_fd=dev)
    os.close(dev)


def _deny(
    root: int, denial: Denial, cover: Grant | None, hidden: Mapping[bool, int], pinned: set[str]
) -> None:
    if cover is None:
        return  # not granted: nothing there to cover
    try:
        if cover.access & WRITE:
            pin(root, denial.path, cover.path, pinned)
        target = _uapi.open_beneath(root, denial.path.lstrip("/"), os.O_PATH)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
            return  # nothing there to cover, or beneath another mask
        raise ConfinementError(
            f"can't deny {denial.path}: {error.strerror}; name the path it leads to"
        ) from error
    directory = stat.S_ISDIR(os.fstat(target).st_mode)
    tree = _uapi.open_tree_clone(hidden[directory] if denial.access & READ else target)
    _uapi.mount_setattr(tree, _INERT | _uapi.MOUNT_ATTR_RDONLY)
    _put_on(target, tree)


def _put_on(target: int, tree: int) -> None:
    _uapi.move_mount(tree, target)
    os.close(tree)
    os.close(target)
