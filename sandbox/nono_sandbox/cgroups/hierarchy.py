"""Where this process may make control groups: found, judged, and made ready.

Specified by Documentation/admin-guide/cgroup-v2.rst of the kernel. A group with processes in it
can't hand its controllers on to groups beneath it, unless it's the root. So what is used is a group
that is this user's to change and has nobody in it but one process of ours, which moves down.

Architecture invariant: a group that we didn't make is entered by nobody and loses nobody but that
one process and, of a single run, its lane. All that is made lies in a directory whose name says
whose it is.
"""

from __future__ import annotations

import contextlib
import os
import time

from nono_sandbox import kernel_file
from nono_sandbox.cgroups import ancestry, delegation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CONTROLLERS = ("memory", "pids")
NEEDED = ("cgroup.kill", "memory.max", "memory.swap.max", "memory.events", "pids.max")
"""What a kernel may lack that is old, or was told to: all there since 5.14."""
KEEPER = "keeper"
"""The group of the process that moved out of the way, and of what it starts."""
_OURS = "nono"
_REMOVAL_S_MAX = 2.0
_LOOKS_MAX = 10
"""For whom those who move down have forked meanwhile."""
WRAPPED = "systemd-run --user --scope -p Delegate=yes"


class UnavailableError(Exception):
    """There can be no control groups of ours; nothing was changed."""


def own_directory(membership: str, mounts: str) -> str:
    """Return the directory of the group that /proc/PID/cgroup and mountinfo tell of, or nothing."""
    path = next((line[3:] for line in membership.splitlines() if line.startswith("0::/")), "")
    if not path or "/.." in path:
        return ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        root, point = fields[3], fields[4]
        if fields[fields.index("-") + 1] != "cgroup2" or "\\" in root + point:
            continue
        if root in ("/", path) or path.startswith(f"{root}/"):
            return (point + (path if root == "/" else path[len(root) :])).rstrip("/")
    return ""


def directory_of() -> str:
    """Return the directory of this process's group.

    Raises:
        UnavailableError: It has none that can be seen.
    """
    try:
        membership, mounts = _read("/proc/self/cgroup"), _read("/proc/self/mountinfo")
    except OSError as error:
        raise UnavailableError(f"/proc can't be asked: {error.strerror}") from error
    directory = own_directory(membership, mounts)
    if not directory:
        raise UnavailableError("control groups version 2 aren't mounted")
    return directory


def judge(directory: str, pid: int, child: int = 0) -> None:
    """See whether groups can be made in *directory* once *pid*, which is in it, has moved down.

    So may *child*, if there is one, and who descends from that.

    Raises:
        UnavailableError: They can't.
    """
    try:
        missing = set(CONTROLLERS) - set(_read(f"{directory}/cgroup.controllers").split())
        if missing:
            raise UnavailableError(
                f"{directory} has no {' and no '.join(sorted(missing))} controller"
            )
        for name in ("", "cgroup.procs", "cgroup.subtree_control"):
            if not os.access(f"{directory}/{name}", os.W_OK, effective_ids=True):
                raise UnavailableError(f"{directory} isn't ours to change; try {WRAPPED} nono ...")
        members = set(_members(directory))
        others = members.difference(ancestry.family(members, pid, child))
    except OSError as error:
        raise UnavailableError(f"{directory} can't be read: {error.strerror}") from error
    if others and not _is_root(directory):
        raise UnavailableError(f"other programs are in {directory}; try {WRAPPED} nono ...")
    if not delegation.is_left_to_us(directory):
        raise UnavailableError(f"{directory} isn't delegated; try {WRAPPED} nono ...")


def _members(directory: str) -> list[str]:
    return _read(f"{directory}/cgroup.procs").split()


def see(directory: str, pid: int, child: int = 0) -> str:
    """Return the directory of ours that *pid* has been moved to already; else `judge`.

    Raises:
        UnavailableError: There can be none.
    """
    parent, name = os.path.split(directory)
    if (os.path.basename(parent), name) == (_name_of(pid), KEEPER):
        return parent
    judge(directory, pid, child)
    return ""


def make(directory: str, pid: int, child: int = 0) -> str:
    """Return a directory of ours in *directory*, ready for groups with limits.

    *pid*, which is in *directory*, is moved down, and *child* with all who descend from it. What is
    left there by processes of ours that have ended is removed.

    Raises:
        UnavailableError: There can be none.
    """
    ours = see(directory, pid, child)
    if ours:
        return ours
    clear(directory)
    top = f"{directory}/{_name_of(pid)}"
    before = _enabled(directory)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(top)
        if not _is_root(directory):
            os.mkdir(f"{top}/{KEEPER}")
            _move_down(directory, f"{top}/{KEEPER}", pid, child)
        for each in (directory, top):
            _control(each, "+", CONTROLLERS)
        for name in NEEDED:
            os.stat(f"{top}/{name}")
    except OSError as error:
        _undo(directory, top, pid, before)
        raise UnavailableError(f"{directory} can't be divided: {error.strerror}") from error
    return top


def leave(directory: str, pid: int) -> None:
    """Undo what `make` did in *directory*, once there is no other group in what it made."""
    top = f"{directory}/{_name_of(pid)}"
    if is_kept(top):
        _undo(directory, top, pid, ())
    else:
        # Others may have groups in the root by now.
        discard(top)


def _move_down(directory: str, keeper: str, pid: int, child: int) -> None:
    for _ in range(_LOOKS_MAX):
        ours = ancestry.family(_members(directory), pid, child)
        for one in ours:
            with contextlib.suppress(ProcessLookupError):
                kernel_file.write(f"{keeper}/cgroup.procs", one)
        if not ours or not child:
            return


def _enabled(directory: str) -> list[str]:
    """Return which controllers the groups in *directory* have."""
    try:
        return _read(f"{directory}/cgroup.subtree_control").split()
    except OSError:
        return []


def _control(directory: str, sign: str, names: Iterable[str]) -> None:
    """Give the groups in *directory* controllers, or take them away."""
    text = " ".join(f"{sign}{name}" for name in names)
    if text:
        kernel_file.write(f"{directory}/cgroup.subtree_control", text)


def _undo(directory: str, top: str, pid: int, before: Iterable[str]) -> None:
    """Let all be as it was before *directory*, whose groups had these controllers, was divided.

    Nothing is killed: who can't be moved back is in *top* yet, and stays there.
    """
    kept = {str(pid)}
    with contextlib.suppress(OSError):
        kept.update(_members(f"{top}/{KEEPER}"))
    added = [name for name in CONTROLLERS if name not in before]
    # A group can't take from those in it what one of them hands on, nor be entered while it does.
    for each, names in ((top, CONTROLLERS), (directory, added)):
        with contextlib.suppress(OSError):
            _control(each, "-", names)
    for one in kept:
        with contextlib.suppress(OSError):
            kernel_file.write(f"{directory}/cgroup.procs", one)
    discard(top)


def remove(top: str) -> bool:
    """Kill what is in a group of ours and beneath it, and remove it; tell whether it's gone."""
    with contextlib.suppress(OSError):
        kernel_file.write(f"{top}/cgroup.kill", "1")
    deadline = time.monotonic() + _REMOVAL_S_MAX
    while not discard(top):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def discard(top: str) -> bool:
    """Remove a group with no process left in it or beneath; tell whether it's gone."""
    for child in _directories(top):
        with contextlib.suppress(OSError):
            os.rmdir(child)
    try:
        os.rmdir(top)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def is_kept(top: str) -> bool:
    """Tell whether a process that had to move is in a group of ours, and stays there."""
    return os.path.exists(f"{top}/{KEEPER}")


def clear(directory: str) -> None:
    """Kill and remove what processes of ours that were killed left in *directory*."""
    for left in list(_abandoned(directory)):
        remove(left)


def _abandoned(directory: str) -> Iterator[str]:
    """Yield the groups in *directory* that processes of ours left when they were killed."""
    for path in _directories(directory):
        ours, _, whose = os.path.basename(path).partition("-")
        pid, _, began = whose.partition("-")
        if ours != _OURS or not (_is_number(pid) and _is_number(began)):
            continue
        is_left = os.stat(path).st_uid == os.geteuid() and ancestry.began(pid) != began
        if is_left and not _has_strangers(path):
            yield path


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and text[0] != "0"


def _has_strangers(top: str) -> bool:
    """Tell whether processes of another PID namespace are in a group; their number is told as 0."""
    try:
        return any("0" in _members(one) for one in (top, *_directories(top)))
    except OSError:
        return True


def _name_of(pid: int) -> str:
    return f"{_OURS}-{pid}-{ancestry.began(str(pid))}"


def _directories(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [one.path for one in entries if one.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _is_root(directory: str) -> bool:
    return not os.path.exists(f"{directory}/cgroup.type")


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as stream:
        return stream.read()
