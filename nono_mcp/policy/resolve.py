"""The one look at the file system: where a path leads, and what stands there.

A path is opened once (O_PATH), and what is said of it is said of that object: its real
location, its kind, its identity. Whoever enforces opens the real location again and compares
the identity, so what was swapped in between is an error there.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

from nono_mcp.policy import spelling
from nono_mcp.policy.paths import Place
from nono_sandbox.confinement import Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SYMLINKS_MAX = 40
"""As many as the kernel follows in one path (path_resolution(7))."""

_DELETED = " (deleted)"
if sys.platform == "darwin":
    # For events alone, which needs no right to read and waits for no writer of a FIFO.
    _LOOK = os.O_EVTONLY | os.O_NONBLOCK | os.O_CLOEXEC
else:
    _LOOK = os.O_PATH | os.O_CLOEXEC
_NEVER_OPENED = (errno.ENXIO, errno.EOPNOTSUPP)
"""What macOS says of a socket, of which there is no descriptor to look by."""


def resolve(text: str) -> Place:
    """Return where the absolute path *text* leads.

    A path that can't be opened has no kind; its *errno* says why, and its location is what the
    part that exists leads to, with the rest as written.
    """
    try:
        descriptor = os.open(text, _LOOK)
    except OSError as error:
        found = _by_name(text) if error.errno in _NEVER_OPENED else None
        return found or Place(text, _missing(text), "", None, (), error.errno or errno.EINVAL)
    except ValueError:
        return Place(text, text, "", None, (), errno.EINVAL)
    try:
        status = os.fstat(descriptor)
        location = _location(descriptor, text, status)
        is_loose = False
        if sys.platform != "darwin" and spelling.is_found_otherwise(location, status):
            is_loose = spelling.is_loose(location, descriptor)
            location = spelling.as_written(location)
    finally:
        os.close(descriptor)
    if not location:
        return Place(text, text, "", None, (), errno.ENOENT)
    links = () if location == text else tuple(_walk(text)[1])
    identity = (status.st_dev, status.st_ino)
    kind = _kind(status.st_mode)
    return Place(text, location, kind, identity, links, is_loose=is_loose)


def _by_name(text: str) -> Place | None:
    """Return what stands where *text* leads, looked at by its names alone."""
    location, links = _walk(text)
    try:
        status = os.lstat(location)
    except OSError:
        return None
    identity = (status.st_dev, status.st_ino)
    return Place(text, location, _kind(status.st_mode), identity, tuple(links))


def children(directory: str) -> Iterator[Place]:
    """Yield what stands in *directory*, symlinks left out: they lead where something else is."""
    try:
        entries = os.scandir(directory)
    except PermissionError:
        return
    with entries:
        for entry in entries:
            if entry.is_symlink():
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            identity = (status.st_dev, status.st_ino)
            yield Place(entry.path, entry.path, _kind(status.st_mode), identity)


def private(directory: str) -> Iterator[Place]:
    """Yield what stands in *directory* and isn't readable for everybody."""
    with os.scandir(directory) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # what useradd works on, say
            if not status.st_mode & stat.S_IROTH and not stat.S_ISLNK(status.st_mode):
                identity = (status.st_dev, status.st_ino)
                yield Place(entry.path, entry.path, _kind(status.st_mode), identity)


def is_out_of_reach(place: Place) -> bool:
    """Tell whether this user has no access at all to *place*, and couldn't give themselves any."""
    try:
        if os.stat(place.path).st_uid == os.geteuid():
            return False
    except OSError:
        return True
    return not any(os.access(place.path, mode) for mode in (os.R_OK, os.W_OK, os.X_OK))


def names(directory: str) -> tuple[str, ...] | None:
    """Return the names in *directory*, none if it isn't there, None if they can't be listed."""
    try:
        return tuple(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError:
        return None


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "directory"
    return "file" if stat.S_ISREG(mode) else "other"


def _location(descriptor: int, text: str, status: os.stat_result) -> str:
    """Return where the open object is, or nothing if it's nowhere any more."""
    if sys.platform == "darwin":
        from nono_sandbox.seatbelt.places import kernel_name

        # As it is stored, whatever the case and the normal form that it was asked for by.
        try:
            location = kernel_name(descriptor)
        except OSError:
            return ""
        return location if _is_at(location, status) else ""
    try:
        location = os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        # No /proc, so by its names; it's the object only if it's still found there.
        location = _walk(text)[0]
        return location if _is_at(location, status) else ""
    # The kernel marks what was removed with a suffix that a name may also have.
    if location.endswith(_DELETED) and not _is_at(location, status):
        return ""
    return location if location.startswith("/") else ""


def _is_at(location: str, status: os.stat_result) -> bool:
    try:
        there = os.lstat(location)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino)


def _missing(text: str) -> str:
    """Return where the absent *text* would be: its nearest directory's location, and the rest."""
    head, rest = text, ""
    while head and not os.path.lexists(head):
        head, _, name = head.rpartition("/")
        rest = f"/{name}{rest}"
    if rest and not head:
        return rest
    if rest and os.path.isdir(head):
        return resolve(head).path.rstrip("/") + rest
    return _walk(text)[0]


def _walk(text: str) -> tuple[str, list[Link]]:
    """Return where *text* leads by its names, and every symlink on the way."""
    location = "/"
    links: list[Link] = []
    pending = text.split("/")[::-1]
    while pending:
        name = pending.pop()
        if name in ("", "."):
            continue
        if name == "..":
            location = location.rpartition("/")[0] or "/"
            continue
        here = f"{location}/{name}" if location != "/" else f"/{name}"
        try:
            target = os.readlink(here)
        except (OSError, ValueError):
            location = here
            continue
        if len(links) == SYMLINKS_MAX:
            return text, links
        links.append(Link(here, target))
        if target.startswith("/"):
            location = "/"
        pending.extend(target.split("/")[::-1])
    return location, links
