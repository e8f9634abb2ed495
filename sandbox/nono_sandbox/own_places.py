"""What every fresh root has of its own: /dev, /dev/shm, /dev/pts and /tmp.

Architecture invariant: nothing in them is the machine's but devices, whose nodes are mounted
read-only: nobody in there changes their modes or owners.
"""

from __future__ import annotations

import _stat as stat
import posix as os

from nono_sandbox import _mounting, _uapi, mount_points

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
"""All a program gets of /dev besides its own terminals and shared memory."""
_DEVICE_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)
SCRATCH_SIZE = "25%"
"""Of the machine's memory: the most that /tmp, and again /dev/shm, of a session may hold."""
SCRATCH_FILES_MAX = 500_000
"""And in how many files, which take memory that no limit counts; on small machines fewer."""
_NOTHING_GAINED = _mounting.MOUNT_ATTR_NOSUID | _mounting.MOUNT_ATTR_NODEV


def add(root: int, *, ours: bool) -> None:
    """Mount /dev, /dev/shm, /dev/pts and /tmp; link /var/tmp.

    Unless the root is *ours*, it is the machine's own: nothing is made there.
    """
    dev = _mounting.new_mount("tmpfs", _mounting.MOUNT_ATTR_NOSUID, mode="0755")
    mount_points.put(root, "/dev", dev, directory=True, may_make=ours)
    # Nobody else has been in there: what is made by its name is what has it.
    for name in DEVICES:
        tree = _mounting.open_tree_clone_of(f"/dev/{name}")
        # Read-only is about the node, whose mode root would otherwise still own.
        _mounting.mount_setattr(tree, _mounting.MOUNT_ATTR_NOSUID | _mounting.MOUNT_ATTR_RDONLY)
        os.mknod(name, 0o600 | stat.S_IFREG, dir_fd=dev)
        mount_points.attach_in(dev, name, tree)
    for name, target in _DEVICE_LINKS:
        os.symlink(target, name, dir_fd=dev)
    noexec = _mounting.MOUNT_ATTR_NOSUID | _mounting.MOUNT_ATTR_NOEXEC
    terminals = _mounting.new_mount("devpts", noexec, ptmxmode="0666", mode="0620")
    for name, mount in (("pts", terminals), ("shm", _scratch())):
        os.mkdir(name, 0o755, dir_fd=dev)
        mount_points.attach_in(dev, name, mount)
    os.close(dev)
    mount_points.attach_at(root, "/tmp", _scratch(), may_make=ours)  # noqa: S108 - ours
    if ours:
        mount_points.symlink(root, "/var/tmp", "/tmp")  # noqa: S108 - ours


def _scratch() -> int:
    """Return a mount for temporary files, which live in memory and so may not fill it."""
    quarter = os.sysconf("SC_PHYS_PAGES") // 4
    files_max = str(min(SCRATCH_FILES_MAX, quarter))
    return _mounting.new_mount(
        "tmpfs", _NOTHING_GAINED, mode="1777", size=SCRATCH_SIZE, nr_inodes=files_max
    )


def close_dev(root: int) -> None:
    """Make /dev itself read-only; what is mounted in it stays as it is."""
    dev = _uapi.open_beneath(root, "dev", os.O_PATH)
    _mounting.mount_setattr(dev, _mounting.MOUNT_ATTR_RDONLY, 0)
    os.close(dev)
