"""What a workspace lies on, as /proc/self/mountinfo has it (proc_pid_mountinfo(5)).

Architecture invariant: what can't be told counts as a reason not to rely on events.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

# Where whatever changes a file goes by this kernel's own inodes. Not where another machine or a
# process serves them (nfs, 9p, fuse): what changes there raises nothing here.
LOCAL = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"}
)
_MOUNTINFO = "/proc/self/mountinfo"
_OCTAL = re.compile(rb"\\([0-7]{3})")
_MOUNT_ID = re.compile(rb"^mnt_id:\s*(\d+)$", re.MULTILINE)


def opened() -> int:
    """Return a descriptor that has POLLPRI once after mounts of this process's namespace changed.

    It's for who polled it to look at them.
    """
    return os.open(_MOUNTINFO, os.O_RDONLY | os.O_CLOEXEC)


def beneath(root_fd: int) -> tuple[str, frozenset[bytes]]:
    """Return why events beneath an open directory can't be relied on, or nothing; and its mounts.

    What is mounted there is on another file system, and no part of a snapshot. So it matters
    when it comes and goes, which raises no event.
    """
    found = _MOUNT_ID.search(Path(f"/proc/self/fdinfo/{root_fd}").read_bytes())
    root = os.fsencode(Path(f"/proc/self/fd/{root_fd}").readlink()).rstrip(b"/") + b"/"
    own = None
    points, devices = set(), set()
    for line in Path(_MOUNTINFO).read_bytes().splitlines():
        mount_id, _, device, _, point, *rest = line.split(b" ")
        if found and mount_id == found[1]:
            own = device, rest[rest.index(b"-") + 1].decode("ascii", "replace")
        elif (_unescaped(point) + b"/").startswith(root) and point != b"/":
            points.add(point)
            devices.add(device)
    return _doubt(own, devices), frozenset(points)


def _doubt(own: tuple[bytes, str] | None, devices: set[bytes]) -> str:
    if own is None:
        return "what it lies on can't be told"
    device, kind = own
    if kind not in LOCAL:
        return f"what changes on {kind} may raise no event"
    # Its own file system twice: an event on a directory doesn't say by which of its paths.
    return "a part of its file system is mounted beneath it" if device in devices else ""


def _unescaped(text: bytes) -> bytes:
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), text)
