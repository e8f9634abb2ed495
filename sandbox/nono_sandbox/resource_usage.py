"""What the processes of a call use between them, looked up in /proc.

Limits of the kernel's own (rlimits) bound a single process. These are for the whole call, and
approximate: what happens between two looks is not seen.

Architecture invariant: reads only; ends nothing.
"""

from __future__ import annotations

import posix as os

from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nono_sandbox.confinement import Limits

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LEVELS_MAX = 100_000
_BLOCK_BYTES = 512
THREADS_SPARE = 256
"""Threads that a call may have on top of the processes it may have."""
_CREATOR, _ATTACHMENTS, _RESIDENT = 4, 6, 14
"""Columns of /proc/sysvipc/shm (proc_sysvipc(5))."""
_SEGMENTS_BYTES_MAX = 8 << 20
"""Of the kernel's most of them, 32,768 (IPCMNI), each a line of some 160."""
_FDS_MAX = 2048
"""Descriptors of a process that are looked at; a look must not take longer than the next."""


class Usage(Value):
    """Sums over the living processes of a call."""

    processes_count: int
    memory_bytes: int
    cpu_s: float


def needed(limits: Limits) -> bool:
    """Tell whether any of *limits* has to be looked after from here."""
    return (
        limits.memory_bytes_max is not None
        or limits.processes_max is not None
        or limits.cpu_s is not None
        or limits.disk_bytes_max is not None
        or limits.disk_free_bytes_min is not None
    )


def exceeded(limits: Limits, usage: Usage, reaped_cpu_s: float) -> str:
    """Return the limit that *usage* is over, or nothing; of processes `crowded` tells."""
    if limits.memory_bytes_max is not None and usage.memory_bytes > limits.memory_bytes_max:
        return "memory"
    if limits.cpu_s is not None and usage.cpu_s + reaped_cpu_s > limits.cpu_s:
        return "cpu"
    return ""


def crowded(processes_max: int, *, own_pids: bool) -> bool:
    """Tell whether a call has more processes than it may, or more threads than go with them.

    This is the quick look: of a fork bomb every look is late, and none may wait for a full count.
    """
    pids: list[str] = []
    for pid in processes(own_pids=own_pids):
        pids.append(pid)
        if len(pids) > processes_max:
            return True
    tasks_count = 0
    for pid in pids:
        try:
            # Two links are the directory's own.
            tasks_count += os.stat(f"/proc/{pid}/task").st_nlink - 2
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended since it was listed
    return tasks_count > processes_max + THREADS_SPARE


def usage(*, own_pids: bool, proportional: bool = False) -> Usage:
    """Look at every process below this one; with *own_pids*, /proc holds no others.

    A page that several processes share counts for each of them, and one of a memfd that is
    mapped too counts twice, unless *proportional*, which makes the kernel walk every page table.
    """
    count, private, shared, ticks = 0, 0, 0, 0
    files: dict[int, int] = {}
    device = _memfd_device()
    for pid in processes(own_pids=own_pids):
        try:
            rest = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
            its_private, its_shared = (_proportional if proportional else _resident)(pid)
            _note_memfds(pid, device, files)
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended since it was listed
        count += 1
        private += its_private
        shared += its_shared
        ticks += sum(int(field) for field in rest[11:15])
    if own_pids:
        private += sum(size for _, attached, size in segments() if not attached)
    in_files = sum(files.values())
    memory = private + (max(shared, in_files) if proportional else shared + in_files)
    return Usage(count, memory, ticks / _TICKS_PER_S)


def segments() -> Iterator[tuple[int, int, int]]:
    """Yield (id, attachments, resident bytes) of the System V segments made in our namespaces.

    One that nobody is attached to is no process's memory, and stays when all have ended.
    """
    # Of no process of ours, as it is told here, is what another call made.
    try:
        text = _read_whole("/proc/sysvipc/shm", _SEGMENTS_BYTES_MAX)
    except FileNotFoundError:
        return  # a kernel without any
    for line in text.splitlines()[1:]:
        fields = line.split()
        if int(fields[_CREATOR]):
            yield int(fields[1]), int(fields[_ATTACHMENTS]), int(fields[_RESIDENT])


def _resident(pid: str) -> tuple[int, int]:
    """Return private and shared resident bytes; file pages are the page cache's."""
    fields = _read(f"/proc/{pid}/statm").split()
    resident, shared = int(fields[1]) * _PAGE_BYTES, int(fields[2]) * _PAGE_BYTES
    if not shared:
        return resident, 0
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"RssShmem:"):
            return resident - shared, int(line.split()[1]) * 1024
    return resident, 0


def _proportional(pid: str) -> tuple[int, int]:
    try:
        lines = _read(f"/proc/{pid}/smaps_rollup").splitlines()
    except PermissionError:  # it made itself non-dumpable
        return _resident(pid)
    sums = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines[1:]}
    return sums.get(b"Pss_Anon:", 0), sums.get(b"Pss_Shmem:", 0)


def _memfd_device() -> int:
    """Return the number of the file system that every memfd is on."""
    fd = os.memfd_create("probe")
    try:
        return os.fstat(fd).st_dev
    finally:
        os.close(fd)


def _note_memfds(pid: str, device: int, files: dict[int, int]) -> None:
    """Add the size of each memfd that a process has open: memory that no mapping may show."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except PermissionError:  # it made itself non-dumpable
        return
    for name in names[:_FDS_MAX]:
        try:
            status = os.stat(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue  # closed since, or of a file system that has gone away
        if status.st_dev == device:
            files[status.st_ino] = status.st_blocks * _BLOCK_BYTES


def processes(*, own_pids: bool) -> Iterator[str]:
    """Yield the process ids of all below this one; with *own_pids*, /proc holds no others."""
    return _namespace() if own_pids else _descendants()


def _namespace() -> Iterator[str]:
    own = str(os.getpid())
    return (name for name in os.listdir("/proc") if name.isdigit() and name != own)


def _descendants() -> Iterator[str]:
    waiting = [str(os.getpid())]
    for _ in range(_LEVELS_MAX):
        if not waiting:
            return
        pid = waiting.pop()
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                found = _read(f"/proc/{pid}/task/{thread}/children").decode().split()
                waiting.extend(found)
                yield from found
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended since it was listed


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 65536)
    finally:
        os.close(fd)


def _read_whole(path: str, bytes_max: int) -> bytes:
    """Return a list of the kernel's, of which a read gives a page or so."""
    data = b""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while len(data) < bytes_max and (more := os.read(fd, 65536)):
            data += more
        return data
    finally:
        os.close(fd)
