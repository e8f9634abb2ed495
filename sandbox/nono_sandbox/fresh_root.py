"""The fresh root: a file system tree that holds what is granted and nothing else.

A tmpfs, binds of the grants, masks over the denials, /dev, /tmp and /proc of its own, and
pivot_root(2). What no grant names isn't there: neither its content, name, size, attributes nor
activity. All but the write grants is mounted read-only, so metadata can't be changed either.

Architecture invariant: a bind is made from a descriptor whose object was compared with what
policy judged, never from a name; and nothing is ever created beneath a grant that is a
person's own directory.
"""

from __future__ import annotations

import _stat as stat
import errno
import posix as os

from nono_sandbox import _mounting, _uapi, mount_points, own_places
from nono_sandbox.confinement import READ, WRITE, Confinement, Grant, Link
from nono_sandbox.errors import ConfinementError
from nono_sandbox.granted import open_judged
from nono_sandbox.masks import around, cover_of, mask_all, pin
from nono_sandbox.opath import is_directory
from nono_sandbox.private import Unmasked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nono_sandbox.ways import Ways

_BASES = ("/tmp", "/mnt", "/media", "/srv", "/run", "/opt", "/proc")  # noqa: S108 - mount points
_COVERED = "/proc"
"""Where a root is begun before the grants are known: nothing of it is ever granted."""
_INERT = _mounting.MOUNT_ATTR_NOSUID | _mounting.MOUNT_ATTR_NODEV
_OWN = ("/dev", "/proc", "/tmp")  # noqa: S108 - ours
_SCRATCH = ("/tmp", "/dev/shm")  # noqa: S108 - ours


def build(confinement: Confinement, ways: Ways | None = None) -> None:
    """Make the fresh root of *confinement* the root of this mount namespace.

    The machine's /proc stays at /proc, for a lane to put its own in its place. *ways* are laid.

    Raises:
        ConfinementError: A grant isn't what was judged, or can't be mounted. Exit.
        OSError: The kernel refused. Exit.
    """
    whole = _whole(confinement)
    with Unmasked():
        root = _hang(_copy(whole) if whole else _empty(), _base(confinement.grants))
        own_places.add(root, ours=whole is None)
        _bind(root, "/proc", "/proc", 0, may_make=whole is None)
        _fill(root, confinement, whole, ways)


def begin(proc_mount: int) -> int:
    """Begin a fresh root for whatever confinement, and return it for `finish`.

    *proc_mount* becomes its /proc. From here to there the machine's /proc is covered.

    Raises:
        OSError: The kernel refused. Exit.
    """
    with Unmasked():
        root = _hang(_empty(), _COVERED)
        own_places.add(root, ours=True)
        mount_points.attach_at(root, "/proc", proc_mount)
    return root


def finish(root: int, confinement: Confinement, ways: Ways | None = None) -> bool:
    """Make the fresh root that was begun the root of this mount namespace; *ways* are laid.

    Where the whole of the machine is granted it isn't fit, is taken away, and False returned.

    Raises:
        ConfinementError: A grant isn't what was judged, or can't be mounted. Exit.
        OSError: The kernel refused. Exit.
    """
    if _whole(confinement):
        os.close(root)
        _mounting.umount_detach(_COVERED)
        return False
    with Unmasked():
        _fill(root, confinement, None, ways)
    return True


def _whole(confinement: Confinement) -> Grant | None:
    """Return the grant of the machine's root, if there is one."""
    return next((grant for grant in confinement.grants if grant.path == "/"), None)


def _empty() -> int:
    return _mounting.new_mount("tmpfs", _INERT, mode="0755")


def _hang(mount: int, path: str) -> int:
    """Mount the new root at *path* and return a descriptor of it."""
    _attach(mount, path)
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _fill(root: int, confinement: Confinement, whole: Grant | None, ways: Ways | None) -> None:
    """Add to the new root what *confinement* is about, and make it the root."""
    os.chdir(root)
    mounted = {} if whole is None else _hold_kernels_own(root, whole)
    bound = _bind_all(root, confinement, mounted, ways)
    for path in around(confinement.denials).intersection(_OWN if whole else ()):
        bound[path] = _uapi.open_beneath(root, path[1:], os.O_PATH)
    mask_all(root, confinement.denials, mounted, bound)
    for fd in bound.values():
        os.close(fd)
    own_places.close_dev(root)
    for link in confinement.links:
        _repeat_link(root, link, mounted, ways)
    os.close(root)
    _mounting.pivot_root(".", ".")
    _mounting.umount_detach(".")
    os.chdir("/")
    _set_attributes("/", _INERT | _mounting.MOUNT_ATTR_RDONLY, flags=0)
    if ways is not None:
        ways.finish()


def _hold_kernels_own(root: int, whole: Grant) -> dict[str, Grant]:
    """Make /sys read-only beneath *whole*; return what is mounted, our own places among it."""
    try:
        sys = _uapi.open_beneath(root, "sys", os.O_PATH)
        # Root without a capability still owns its files, and some name programs to run.
        _mounting.mount_setattr(sys, _mounting.MOUNT_ATTR_RDONLY)
        os.close(sys)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):  # there is none, or nothing mounted
            raise
    own = {path: Grant(path, READ | WRITE, source=path) for path in _OWN}
    return {whole.path: whole, **own}


def replace_proc(proc_mount: int) -> None:
    """Take the machine's /proc out of this mount namespace and put *proc_mount* there."""
    _mounting.umount_detach("/proc")
    _attach(proc_mount, "/proc")


def _base(grants: Sequence[Grant]) -> str:
    """Return a directory to hang the new root on that hides no source of a grant."""
    sources = [grant.source or grant.path for grant in grants]
    for base in _BASES:
        hides = any(source == base or source.startswith(base + "/") for source in sources)
        if not hides and is_directory(base):
            return base
    raise ConfinementError(f"no directory to build in: every one of {', '.join(_BASES)} is granted")


def _attach(mount: int, path: str) -> None:
    target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    _mounting.move_mount(mount, target)
    os.close(target)
    os.close(mount)


def _set_attributes(path: str, attributes: int, flags: int = _mounting.AT_RECURSIVE) -> None:
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    _mounting.mount_setattr(fd, attributes, flags)
    os.close(fd)


def _bind(root: int, path: str, source: str, attributes: int, *, may_make: bool = True) -> None:
    fd = os.open(source, os.O_PATH | os.O_CLOEXEC)
    directory = stat.S_ISDIR(os.fstat(fd).st_mode)
    tree = _mounting.open_tree_clone(fd)
    os.close(fd)
    _mounting.mount_setattr(tree, attributes)
    mount_points.attach_at(root, path, tree, directory=directory, may_make=may_make)


def _bind_all(
    root: int, confinement: Confinement, mounted: dict[str, Grant], ways: Ways | None
) -> dict[str, int]:
    """Bind each grant that adds something to the grants above it; note those bound.

    Returns those that something is denied in, open.
    """
    pinned: set[str] = set()
    bound: dict[str, int] = {}
    denied = around(confinement.denials)
    for grant in sorted(confinement.grants, key=lambda grant: grant.path.split("/")):
        cover = cover_of(grant.path, mounted)
        # Beneath a source the tree is another one: what is granted of the machine's adds to it.
        shown = cover if cover and not cover.source else None
        access = grant.access | (shown.access if shown else 0)
        if shown and access == shown.access and not grant.source:
            continue
        effective = grant.replace(access=access)
        is_beneath = ways is not None and ways.starts_at(cover)
        if not is_beneath and (cover is None or cover.source):
            _hold_in_scratch(root, grant, pinned)
        tree = _bind_grant(root, effective, cover, ways if is_beneath else None)
        if ways is not None and ways.starts_at(grant):
            ways.begin(tree)
        mounted[grant.path] = effective
        if grant.path in bound:
            os.close(bound.pop(grant.path))
        if grant.path in denied:
            bound[grant.path] = tree
        else:
            os.close(tree)
    return bound


def _hold_in_scratch(root: int, grant: Grant, pinned: set[str]) -> None:
    """See to it that no call can put something else where later ones look for a grant in /tmp."""
    parent = grant.path.rpartition("/")[0]
    for scratch in _SCRATCH:
        if parent.startswith(scratch + "/") and parent not in pinned:
            os.close(mount_points.point(root, parent, directory=True, may_make=True))
            base = _uapi.open_beneath(root, scratch[1:], os.O_PATH)
            pin(base, grant.path, scratch, pinned)
            os.close(base)


def _bind_grant(root: int, grant: Grant, cover: Grant | None, ways: Ways | None) -> int:
    """Mount what *grant* names, by *ways* if there are any; return a descriptor of that mount."""
    tree = _copy(grant)
    directory = not grant.exact
    may_make = cover is None or cover.source is not None
    try:
        if ways is not None:
            ways.lay(tree, grant.path, directory=directory)
        else:
            mount_points.put(root, grant.path, tree, directory=directory, may_make=may_make)
    except OSError as error:
        raise ConfinementError(
            f"can't mount the grant of {grant.path}: {error.strerror}"
        ) from error
    return tree


def _copy(grant: Grant) -> int:
    """Return a detached copy of the mounts at and below what *grant* names."""
    tree = open_judged(grant, _mounting.open_tree_clone_at)
    writable = grant.access & WRITE
    _mounting.mount_setattr(tree, _INERT if writable else _INERT | _mounting.MOUNT_ATTR_RDONLY)
    return tree


def _repeat_link(root: int, link: Link, mounted: dict[str, Grant], ways: Ways | None) -> None:
    cover = cover_of(link.path, mounted)
    if cover is None:
        mount_points.symlink(root, link.path, link.target)
    elif ways is not None and ways.starts_at(cover):
        ways.repeat(link)
