"""The system calls that mount: as `_uapi` has the others, from the same headers.

Mounts are made detached, and attached when they are as they are to be (open_tree(2), fsopen(2),
move_mount(2)).

Architecture invariant: no policy and no state. Meaning belongs in the modules that call.
"""

from __future__ import annotations

import _struct as struct
import posix as os

from nono_sandbox import _foreign
from nono_sandbox._uapi import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    LIBC,
    checked,
    encoded,
    number_of,
    syscall,
)

SYS_OPEN_TREE = 428
SYS_MOVE_MOUNT = 429
SYS_FSOPEN = 430
SYS_FSCONFIG = 431
SYS_FSMOUNT = 432
SYS_MOUNT_SETATTR = 442

MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
OPEN_TREE_CLONE = 1
AT_SYMLINK_NOFOLLOW = 0x100
AT_NO_AUTOMOUNT = 0x800
AT_RECURSIVE = 0x8000
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_CMD_CREATE = 6


def mount_private() -> None:
    """Cut the propagation of every mount of this namespace."""
    flags = _foreign.ULong(MS_REC | MS_PRIVATE)
    checked(LIBC.call("mount", b"none", b"/", None, flags, None), "mount")


def umount_detach(path: str) -> None:
    """Take the mount at *path* away, now from sight and later from memory."""
    checked(LIBC.call("umount2", encoded(path), MNT_DETACH), "umount2")


def pivot_root(new_root: str, put_old: str) -> None:
    """Make *new_root* the root of this mount namespace."""
    old = encoded(put_old)
    syscall("pivot_root", number_of("pivot_root"), encoded(new_root), old)


def open_tree_clone(fd: int) -> int:
    """Return a detached copy of the mounts at and below the object *fd* refers to."""
    flags = _foreign.UInt(OPEN_TREE_CLONE | os.O_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE)
    return syscall("open_tree", SYS_OPEN_TREE, fd, b"", flags)


def open_tree_clone_at(path: str) -> int:
    """Return a detached copy of the mounts at and below what *path* names, itself if a symlink."""
    itself = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT
    flags = _foreign.UInt(OPEN_TREE_CLONE | os.O_CLOEXEC | AT_RECURSIVE | itself)
    return syscall("open_tree", SYS_OPEN_TREE, AT_FDCWD, encoded(path), flags)


def open_tree_clone_of(path: str) -> int:
    """Return a detached copy of the one mount at *path*, from there on."""
    flags = _foreign.UInt(OPEN_TREE_CLONE | os.O_CLOEXEC)
    return syscall("open_tree", SYS_OPEN_TREE, AT_FDCWD, encoded(path), flags)


def mount_setattr(fd: int, attributes: int, flags: int = AT_RECURSIVE) -> None:
    """Add mount attributes to the mount *fd* refers to and, by default, all below it."""
    attr = struct.pack("=QQQQ", attributes, 0, 0, 0)
    at = _foreign.UInt(AT_EMPTY_PATH | flags)
    syscall("mount_setattr", SYS_MOUNT_SETATTR, fd, b"", at, attr, _foreign.ULong(len(attr)))


def move_mount(from_fd: int, to_fd: int, name: str = "") -> None:
    """Attach the detached mount *from_fd* on the object *to_fd* refers to, or on *name* in it.

    A symlink of that name isn't followed.
    """
    flags = MOVE_MOUNT_F_EMPTY_PATH | (0 if name else MOVE_MOUNT_T_EMPTY_PATH)
    syscall("move_mount", SYS_MOVE_MOUNT, from_fd, b"", to_fd, encoded(name), flags)


def new_mount(filesystem: str, attributes: int, **options: str) -> int:
    """Return a detached mount of a new instance of *filesystem*."""
    context = syscall("fsopen", SYS_FSOPEN, filesystem.encode(), 1)
    try:
        for name, text in options.items():
            _fsconfig(context, FSCONFIG_SET_STRING if text else FSCONFIG_SET_FLAG, name, text)
        _fsconfig(context, FSCONFIG_CMD_CREATE, "", "")
        return syscall("fsmount", SYS_FSMOUNT, context, 1, attributes)
    finally:
        os.close(context)


def _fsconfig(context: int, command: int, name: str, text: str) -> None:
    key, value = name.encode() or None, text.encode() or None
    syscall("fsconfig", SYS_FSCONFIG, context, command, key, value, 0)
