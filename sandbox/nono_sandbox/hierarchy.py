"""Where this process may make control groups: found, judged, and made ready.

Specified by Documentation/admin-guide/cgroup-v2.rst of the kernel. A group with processes in it
can't hand its controllers on to groups beneath it, unless it's the root. So what is used is a group
that is this user's to change and has nobody in it but one process of ours, which moves down.

Architecture invariant: a group that we didn't make is entered by nobody and loses nobody but that
one process. All that is made lies in a directory whose name says whose it is.
"""

from __future__ import annotations

import contextlib
import os
import re
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CONTROLLERS = ("memory", "pids")
NEEDED = ("cgroup.kill", "memory.max", "memory.swap.max", "memory.events", "pids.max")
"""What a kernel may lack that is old, or was told to: all there since 5.14."""
KEEPER = "keeper"
"""The group of the process that moved out of the way, and of what it starts."""
_UNITS = (".scope", ".service", ".slice")
"""What systemd names its own groups by; it marks those that it leaves to others (since 251)."""
SYSTEMCTL = "/usr/bin/systemctl"
_ANSWER_S_MAX = 5.0
_OURS = re.compile(r"nono-(?P<pid>[1-9][0-9]*)-(?P<began>[0-9]+)", re.ASCII)
_REMOVAL_S_MAX = 2.0
_START_TIME = 19
"""The column of /proc/PID/stat after the name (proc(5): 22nd of all)."""
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


def judge(directory: str, pid: int) -> None:
    """See whether groups can be made in *directory* once *pid*, which is in it, has moved down.

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
        others = set(_read(f"{directory}/cgroup.procs").split()) - {str(pid)}
    except OSError as error:
        raise UnavailableError(f"{directory} can't be read: {error.strerror}") from error
    if others and not _is_root(directory):
        raise UnavailableError(f"other programs are in {directory}; try {WRAPPED} nono ...")
    _see_delegated(directory)


def _see_delegated(directory: str) -> None:
    if directory.endswith(_UNITS) and not _is_delegated(directory):
        raise UnavailableError(f"{directory} isn't delegated; try {WRAPPED} nono ...")


def see(directory: str, pid: int) -> str:
    """Return the directory of ours that *pid* has been moved to already; else `judge`.

    Raises:
        UnavailableError: There can be none.
    """
    parent, name = os.path.split(directory)
    if (os.path.basename(parent), name) == (_name_of(pid), KEEPER):
        return parent
    judge(directory, pid)
    return ""


def make(directory: str, pid: int) -> str:
    """Return a directory of ours in *directory*, ready for groups with limits.

    *pid*, which is in *directory*, is moved down. What is left there by processes of ours that have
    ended is removed.

    Raises:
        UnavailableError: There can be none.
    """
    ours = see(directory, pid)
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
            write(f"{top}/{KEEPER}/cgroup.procs", str(pid))
        for each in (directory, top):
            _control(each, "+", CONTROLLERS)
        for name in NEEDED:
            os.stat(f"{top}/{name}")
    except OSError as error:
        _undo(directory, top, pid, before)
        raise UnavailableError(f"{directory} can't be divided: {error.strerror}") from error
    return top


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
        write(f"{directory}/cgroup.subtree_control", text)


def _undo(directory: str, top: str, pid: int, before: Iterable[str]) -> None:
    """Let all be as it was before *directory*, whose groups had these controllers, was divided.

    Nothing is killed: where *pid* can't be moved back it is in *top* yet, and stays there.
    """
    added = [name for name in CONTROLLERS if name not in before]
    # A group can't take from those in it what one of them hands on, nor be entered while it does.
    for each, names in ((top, CONTROLLERS), (directory, added)):
        with contextlib.suppress(OSError):
            _control(each, "-", names)
    with contextlib.suppress(OSError):
        write(f"{directory}/cgroup.procs", str(pid))
    discard(top)


def remove(top: str) -> bool:
    """Kill what is in a group of ours and beneath it, and remove it; tell whether it's gone."""
    with contextlib.suppress(OSError):
        write(f"{top}/cgroup.kill", "1")
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
        found = _OURS.fullmatch(os.path.basename(path))
        if not found or os.stat(path).st_uid != os.geteuid():
            continue
        if _began(found["pid"]) != found["began"] and not _has_strangers(path):
            yield path


def _has_strangers(top: str) -> bool:
    """Tell whether processes of another PID namespace are in a group; their number is told as 0."""
    try:
        return any("0" in _read(f"{one}/cgroup.procs").split() for one in (top, *_directories(top)))
    except OSError:
        return True


def _name_of(pid: int) -> str:
    return f"nono-{pid}-{_began(str(pid))}"


def _began(pid: str) -> str:
    """Return when a process began, in ticks since the machine did; nothing if there is none."""
    try:
        return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()[_START_TIME]
    except OSError:
        return ""


def _directories(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [one.path for one in entries if one.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _is_delegated(directory: str) -> bool:
    """Tell whether systemd, whose unit has that group, leaves what is in it to the unit."""
    try:
        return os.getxattr(directory, "user.delegate") == b"1"
    except OSError:
        # A user's manager marks nothing (252), but answers.
        return f"/user@{os.geteuid()}.service/" in directory and _says_delegated(directory)


def _says_delegated(directory: str) -> bool:
    unit = os.path.basename(directory)
    argv = [SYSTEMCTL, "--user", "show", "--property=Delegate", "--value", "--", unit]
    environment = {"XDG_RUNTIME_DIR": f"/run/user/{os.geteuid()}"}
    # Only who is in such a unit, alone, pays for the import.
    import subprocess

    try:
        asked = subprocess.run(  # noqa: S603 - systemd's own program, and our own unit
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ANSWER_S_MAX,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.stdout.strip() == b"yes"


def _is_root(directory: str) -> bool:
    return not os.path.exists(f"{directory}/cgroup.type")


def write(path: str, text: str) -> None:
    """Write to a file of a group, which is there."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as stream:
        return stream.read()
