"""Masks over what is denied inside a grant, and pins that keep the way to them in place.

A mask is a mount over the denied object, so no link, renaming or descriptor leads past it. A mount
goes along when a directory above it is renamed, but the next session looks for what it denies
by path. So every directory between a mask and its grant is pinned: mounted on itself, it can
be neither renamed nor replaced.

Architecture invariant: nothing is made or left beneath a grant.
"""

from __future__ import annotations

import _stat as stat
import errno
import posix as os

from nono_sandbox import _mounting, _uapi
from nono_sandbox.confinement import READ, WRITE, Denial, Grant
from nono_sandbox.errors import ConfinementError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_INERT = _mounting.MOUNT_ATTR_NOSUID | _mounting.MOUNT_ATTR_NODEV
_DIRECTORY, _FILE = ".denied", ".denied-file"


def cover_of(path: str, mounted: Mapping[str, Grant]) -> Grant | None:
    """Return the nearest grant at or above *path*."""
    while True:
        found = mounted.get(path)
        if found or path == "/":
            return found
        path = path.rpartition("/")[0] or "/"


def around(denials: Sequence[Denial]) -> set[str]:
    """Return every path at or above what is denied, but for the root."""
    found: set[str] = set()
    for denial in denials:
        path = denial.path
        while path and path not in found:
            found.add(path)
            path = path.rpartition("/")[0]
    return found


def pin(base: int, path: str, top: str, pinned: set[str]) -> None:
    """Mount each directory above *path* and beneath *top* on itself; *pinned* are done already.

    *base* is *top*, open.

    Raises:
        OSError: One of them isn't there, or is a symlink.
    """
    steps = path.removeprefix(top.rstrip("/")).strip("/").split("/")[:-1]
    at = top.rstrip("/")
    for step in steps:
        at = f"{at}/{step}"
        if at not in pinned:
            target = _in(base, top, at)
            _put_on(target, _mounting.open_tree_clone(target))
            pinned.add(at)


def _in(base: int, top: str, path: str) -> int:
    """Open *path* in the open *base*, which is *top*."""
    beneath = path[len(top.rstrip("/")) :].lstrip("/")
    return _uapi.open_beneath(base, beneath, os.O_PATH) if beneath else os.dup(base)


def mask_all(
    root: int, denials: Sequence[Denial], mounted: Mapping[str, Grant], bound: Mapping[str, int]
) -> None:
    """Cover each denied path: with nothing that can be opened, or with itself read-only.

    *bound* are the grants of *mounted* that something is denied in, open as they were mounted (but
    for "/", which is *root*): the way to one may be others' to change, who have the same home.

    What covers it is made in the root's own /dev, which must be writable still.
    """
    if not denials:
        return
    dev = _uapi.open_beneath(root, "dev", os.O_PATH)
    # No access for anybody: the worker has no capability to look past a mode, not even as root.
    os.mkdir(_DIRECTORY, 0, dir_fd=dev)
    os.mknod(_FILE, stat.S_IFREG, dir_fd=dev)
    covers: dict[str, int] = {
        _DIRECTORY: _uapi.open_beneath(dev, _DIRECTORY, os.O_PATH),
        _FILE: _uapi.open_beneath(dev, _FILE, os.O_PATH),
    }
    scripts = {denial.says for denial in denials} - {""}
    covers.update((text, _script(dev, number, text)) for number, text in enumerate(scripts))
    pinned: set[str] = set()
    for denial in sorted(denials, key=lambda denial: denial.path.split("/")):
        cover = cover_of(denial.path, mounted)
        if cover is not None:  # else it's not granted: nothing there to cover
            base = root if cover.path == "/" else bound[cover.path]
            _deny(base, denial, cover, covers, pinned)
    for fd in covers.values():
        os.close(fd)
    os.rmdir(_DIRECTORY, dir_fd=dev)
    # What is mounted elsewhere stays; unlinked any sooner, it couldn't be.
    for name in (_FILE, *(f"{_FILE}-{number}" for number in range(len(scripts)))):
        os.unlink(name, dir_fd=dev)
    os.close(dev)


def _script(dev: int, number: int, text: str) -> int:
    """Make a file in the open directory *dev* that says *text* when it's executed; open it."""
    name = f"{_FILE}-{number}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(name, flags, 0o555, dir_fd=dev)
    os.fchmod(file, 0o555)
    os.write(file, text.encode(errors="surrogateescape"))
    os.close(file)
    return _uapi.open_beneath(dev, name, os.O_PATH)


def _deny(
    base: int, denial: Denial, cover: Grant, covers: Mapping[str, int], pinned: set[str]
) -> None:
    """Cover what *denial* names in *cover*, which is *base*, open."""
    try:
        if cover.access & WRITE:
            pin(base, denial.path, cover.path, pinned)
        target = _in(base, cover.path, denial.path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
            return  # nothing there to cover, or beneath another mask
        raise ConfinementError(
            f"can't deny {denial.path}: {error.strerror}; name the path it leads to"
        ) from error
    directory = stat.S_ISDIR(os.fstat(target).st_mode)
    hidden = covers[_DIRECTORY if directory else denial.says or _FILE]
    tree = _mounting.open_tree_clone(hidden if denial.access & READ else target)
    _mounting.mount_setattr(tree, _INERT | _mounting.MOUNT_ATTR_RDONLY)
    _put_on(target, tree)


def _put_on(target: int, tree: int) -> None:
    _mounting.move_mount(tree, target)
    os.close(tree)
    os.close(target)
