"""What the processes of a call use between them, looked up in /proc.

Limits of the kernel's own (rlimits) bound a single process. These are for the whole call, and
approximate: what happens between two looks is not seen.

Architecture invariant: reads only; ends nothing.
"""

from __future__ import annotations

import os

from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nono_sandbox.confinement import Limits

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LEVELS_MAX = 100_000


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
    )


def exceeded(limits: Limits, usage: Usage, reaped_cpu_s: float) -> str:
    """Return the name of the limit that *usage* is over, or nothing."""
    if limits.processes_max is not None and usage.processes_count > limits.processes_max:
        return "processes"
    if limits.memory_bytes_max is not None and usage.memory_bytes > limits.memory_bytes_max:
        return "memory"
    if limits.cpu_s is not None and usage.cpu_s + reaped_cpu_s > limits.cpu_s:
        return "cpu"
    return ""


def usage(*, own_pids: bool, proportional: bool = False) -> Usage:
    """Look at every process below this one; with *own_pids*, /proc holds no others.

    A page that several processes share counts for each of them, unless *proportional*, which
    makes the kernel walk every page table.
    """
    count, memory, ticks = 0, 0, 0
    for pid in _namespace() if own_pids else _descendants():
        try:
            rest = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
            memory += _proportional_bytes(pid) if proportional else _resident_bytes(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended since it was listed
        count += 1
        ticks += sum(int(field) for field in rest[11:15])
    return Usage(count, memory, ticks / _TICKS_PER_S)


def _resident_bytes(pid: str) -> int:
    """Return private and shared resident memory; file pages are the page cache's."""
    fields = _read(f"/proc/{pid}/statm").split()
    resident, shared = int(fields[1]), int(fields[2])
    if not shared:
        return resident * _PAGE_BYTES
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"RssFile:"):
            return resident * _PAGE_BYTES - int(line.split()[1]) * 1024
    return resident * _PAGE_BYTES


def _proportional_bytes(pid: str) -> int:
    try:
        lines = _read(f"/proc/{pid}/smaps_rollup").splitlines()
    except PermissionError:  # it made itself non-dumpable
        return _resident_bytes(pid)
    sums = {line.split()[0]: line.split()[1] for line in lines[1:]}
    return (int(sums.get(b"Pss_Anon:", 0)) + int(sums.get(b"Pss_Shmem:", 0))) * 1024


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
