"""Invariant: whatever system calls a worker makes, nothing outside changes.

Random calls with random arguments: numbers, descriptors, and pointers to what a call may want,
among it the paths of what lies outside. Not bounded to what makes sense, but weighed towards it.
"""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_sandbox.confinement import LANDLOCK, Limits

if TYPE_CHECKING:
    from tests.sandbox.conftest import Confine, Sandbox, Yard

pytestmark = pytest.mark.linux
FUZZ_S = 8.0
CALLS_MIN = 500
RUN_S = 1.5
"""Of one process that fuzzes: sooner or later it stops itself."""
METADATA = ("chmod", "chown", "utime")
"""In the second tier these are tried where no path or descriptor leads to the machine's own files:
root owns those, and this may run before a mistake is mended."""
MACHINE = ("/dev/null", "/etc/passwd", "/sys/kernel", "/")
LIMITS = Limits(
    wall_s=RUN_S + 1,
    memory_bytes_max=512 << 20,
    processes_max=64,
    file_size_bytes_max=1 << 20,
    open_files_max=256,
)

FUZZER = """
    import random, time
    seed, budget_s, outside, reading, sockets, pid, port, left_out, with_machine = ARGUMENTS
    # What would end or hold up the machine's disk or this process and test nothing.
    LEFT_OUT = {"exit", "exit_group", "sync", "syncfs", "rt_sigreturn", "sigreturn", "vfork",
                "fork", "clone"}
    names = [name for name in sorted(set(NUMBERS) - LEFT_OUT)
             if not any(word in name for word in left_out)]
    about_files = [name for name in names if any(word in name for word in (
        "open", "chmod", "chown", "link", "rename", "mk", "rm", "xattr", "utime", "trunc", "mount",
        "connect", "bind", "send", "socket", "kill", "pid", "ptrace", "ioctl", "exec", "at"))]
    paths = [outside, outside + "/secret", outside + "/sub", reading, reading + "/kept", *sockets,
             "/proc/self/root" + outside, "notes", ".", "new", "../outside/secret",
             "/proc/self/fd/5", "/proc/self/fd/3"]
    if with_machine:
        paths += ["/", f"/proc/{pid}/mem", "/proc/1/root", "/etc/passwd", "/dev/mem",
                  "/sys/kernel", "/proc/sys/kernel"]
    random = random.Random(seed)
    kept = [ctypes.create_string_buffer(os.fsencode(path), 4096) for path in paths]
    import mmap, struct
    counted = mmap.mmap(-1, 4096)
    for path in sockets:
        kept.append(ctypes.create_string_buffer(struct.pack("=H", 1) + os.fsencode(path), 4096))
    kept.append(ctypes.create_string_buffer(
        struct.pack("=H", 2) + struct.pack("!H4s", port, bytes((127, 0, 0, 1))), 4096))
    kept += [ctypes.create_string_buffer(random.randbytes(4096), 4096) for _ in range(4)]
    kept.append(ctypes.create_string_buffer(4096))
    pointers = [ctypes.addressof(one) for one in kept]
    def argument():
        kind = random.random()
        if kind < 0.35:
            return random.choice(pointers)
        if kind < 0.55:
            return random.randrange(0, 24)
        if kind < 0.65:
            return AT_FDCWD
        if kind < 0.75:
            return 1 << random.randrange(64)
        if kind < 0.80:
            return random.choice((pid, -pid, -1, os.getpid(), 1, 0o777, 0o4755, 4096, 110, 16))
        if kind < 0.95:
            return random.choice((0, 1, 2, 0o102, 0o1102, 0x100, 0x1000, 9, 19))
        return random.getrandbits(64)
    def fuzz():
        os.setpgid(0, 0)
        nothing = os.open("/dev/null", os.O_RDWR) if with_machine else os.memfd_create("")
        for fd in range(3):
            os.dup2(nothing, fd)
        for fd, path in enumerate(("notes", ".", reading, outside), 3):
            try:
                os.dup2(os.open(path, os.O_PATH if path == outside else os.O_RDONLY), fd)
            except OSError:
                pass
        import socket
        for family, kind in ((1, 1), (1, 5), (1, 2), (2, 1), (2, 2), (10, 1)):
            try:
                socket.socket(family, kind).detach()
            except OSError:
                pass
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        for _ in range(100):
            counted[:8] = struct.pack("=Q", struct.unpack("=Q", counted[:8])[0] + 1)
            name = random.choice(about_files if random.random() < 0.6 else names)
            try:
                syscall(name, *(argument() for _ in range(6)))
            except OSError:
                pass
            except ctypes.ArgumentError:
                pass
    end = time.monotonic() + budget_s
    count = 0
    while time.monotonic() < end:
        random.seed(random.getrandbits(64))
        child = os.fork()
        if child == 0:
            try:
                fuzz()
            finally:
                os._exit(0)
        late = time.monotonic() + 0.3
        while os.waitpid(child, os.WNOHANG)[0] == 0:
            if time.monotonic() > late:
                try:
                    os.killpg(child, signal.SIGKILL)
                except OSError:
                    pass
                os.kill(child, signal.SIGKILL)
            time.sleep(0.002)
        random.getrandbits(64)
        say("count", struct.unpack("=Q", counted[:8])[0])
    """


def things_of(yard: Yard) -> set[object]:
    """Return what may not change outside."""
    found: set[object] = set()
    for path in MACHINE:
        status = Path(path).stat()
        found.add((path, status.st_mode, status.st_uid, status.st_gid))
    for directory in (yard.outside, yard.reading):
        found |= {(directory, name, facts) for name, facts in yard.seen(directory).items()}
    return found


def fuzz(sandbox: Sandbox, seed: int, budget_s: float, *arguments: object) -> int:
    """Run the fuzzer once; it may well have ended itself. Return how many calls it told of."""
    running = sandbox.begin_attack(
        FUZZER, seed, budget_s, *arguments, limits=LIMITS, lane=sandbox.new_lane()
    )
    # A signal of its own may have had it say something else.
    told = re.findall(rb'^\["count", (\d+)\]$', running.wait().output, re.MULTILINE)
    return int(told[-1]) if told else 0


@pytest.mark.slow
def test_random_calls_change_nothing_outside(confine: Confine, yard: Yard, tier: str) -> None:
    # The same each time, so that what is found can be found again; by hand, any other will do.
    seed = int(os.environ.get("NONO_FUZZ_SEED", "1"))
    paths = [str(yard.outside / "socket"), str(yard.workspace / "socket")]
    with (
        socket.socket(socket.AF_UNIX) as one,
        socket.socket(socket.AF_UNIX) as other,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        subprocess.Popen(["/bin/sleep", "600"]) as bystander,  # ours
    ):
        for sock, path in zip((one, other), paths, strict=True):
            sock.bind(path)
            sock.listen()
        watched = [one, other, tcp]
        before = things_of(yard)
        sandbox = confine()
        count, end = 0, time.monotonic() + FUZZ_S
        try:
            while time.monotonic() < end or count < CALLS_MIN:
                arguments = (yard.outside, yard.reading, paths, bystander.pid)
                bounded = tier == LANDLOCK and seed % 2 == 1
                left_out = METADATA if tier == LANDLOCK and not bounded else ()
                more = tcp.getsockname()[1], left_out, not bounded
                count += fuzz(sandbox, seed, RUN_S, *arguments, *more)
                # What it took away from the modes there, the next one couldn't start without.
                chmod = ["/bin/chmod", "-R", "u+rwX", str(yard.workspace)]
                subprocess.run(chmod, check=True, timeout=60)
                seed += 1
            assert bystander.poll() is None, seed
            stat = Path(f"/proc/{bystander.pid}/stat").read_text(encoding="ascii")
            state = stat.rpartition(")")[2].split()[0]
            assert state in "SR", (seed, state)
        finally:
            bystander.kill()
        changed = before ^ things_of(yard)
        assert changed == set(), seed
        assert select.select(watched, [], [], 0)[0] == [], seed
        assert sandbox.server.alive(), seed
