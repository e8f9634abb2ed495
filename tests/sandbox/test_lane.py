"""What a lane counts."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from nono_sandbox import resource_usage
from nono_sandbox.confinement import LANDLOCK, NAMESPACES, Limits
from nono_sandbox.namespaces import bounds_pids
from nono_sandbox.resource_usage import Usage

pytestmark = pytest.mark.linux
MIB = 1 << 20


@pytest.mark.parametrize(
    ("limits", "usage", "reaped_cpu_s", "over"),
    [
        (Limits(), Usage(10**6, 10**12, 10.0**6), 10.0**6, ""),
        (Limits(memory_bytes_max=100), Usage(1, 100, 0.0), 0.0, ""),
        (Limits(memory_bytes_max=100), Usage(1, 101, 0.0), 0.0, "memory"),
        (Limits(cpu_s=1), Usage(1, 0, 0.6), 0.4, ""),
        (Limits(cpu_s=1), Usage(1, 0, 0.6), 0.5, "cpu"),
        (Limits(cpu_s=1), Usage(1, 0, 0.0), 1.1, "cpu"),
        (Limits(wall_s=1, file_size_bytes_max=1, open_files_max=1), Usage(9, 9, 9.0), 9.0, ""),
    ],
)
def test_a_limit_is_named_when_what_is_used_is_over_it(
    limits: Limits, usage: Usage, reaped_cpu_s: float, over: str
) -> None:
    assert resource_usage.exceeded(limits, usage, reaped_cpu_s) == over
    assert not over or resource_usage.needed(limits)


HOLDER = """
import os, signal
kept = bytearray(b"x" * (16 << 20))
os.write(1, b"x")
signal.pause()
"""
# Of a process of its own: of what other tests left, some may be collected between the two looks.
HOLDING = """
import json, os, subprocess, sys
sys.path[:0] = json.loads(sys.argv[1])
from nono_sandbox import resource_usage
def usage():
    return resource_usage.usage(own_pids=False, proportional=sys.argv[2] == "proportional")
before = usage()
memfd = os.memfd_create("held")
os.write(memfd, bytes(32 << 20))
argv = [sys.executable, "-I", "-S", "-c", sys.argv[3]]
holders = [subprocess.Popen(argv, stdout=subprocess.PIPE, pass_fds=[memfd]) for _ in range(2)]
for holder in holders:
    assert holder.stdout.read(1) == b"x"
after = usage()
for holder in holders:
    holder.kill()
    holder.communicate()
counts = before.processes_count, after.processes_count
print(json.dumps([*counts, after.memory_bytes - before.memory_bytes]))
"""


@pytest.mark.parametrize("how", ["resident", "proportional"])
def test_what_descendants_hold_is_counted_once(how: str) -> None:
    """Memory of their own, and a file in memory that both have open."""
    script = [HOLDING, json.dumps(sys.path), how, HOLDER]
    argv = [sys.executable, "-I", "-S", "-c", *script]
    finished = subprocess.run(argv, capture_output=True, check=True, text=True, timeout=60)
    before, after, grown = json.loads(finished.stdout)
    assert (before, after) == (0, 2)
    assert 64 * MIB <= grown < 96 * MIB


SHORT = """
import json, os, sys
sys.path[:0] = json.loads(sys.argv[1])
from nono_sandbox import _uapi
from nono_sandbox.call_monitor import CallMonitor
from nono_sandbox.confinement import LANDLOCK, Limits
from nono_sandbox.spawning import WorkerProcess
read_end, write_end = os.pipe2(os.O_NONBLOCK)
signals = _uapi.signalfd(_uapi.SIGCHLD)
pid = os.fork()
if pid == 0:
    os._exit(int(sys.argv[2]))
os.close(write_end)
monitor = CallMonitor(WorkerProcess(pid, read_end), signals, LANDLOCK)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
monitor.reap()
told = [monitor.over]
monitor.begin(Limits(cpu_s=1))
print(json.dumps([*told, monitor.over, monitor.report(gone=True)[:3]]))
"""


@pytest.mark.parametrize(
    ("status", "limit"),
    [(0, ""), (128 + signal.SIGXFSZ, "file-size"), (128 + signal.SIGXCPU, "cpu")],
)
def test_a_call_that_ends_before_its_limits_are_heard_of_ends_by_them(
    status: int, limit: str
) -> None:
    argv = [sys.executable, "-I", "-S", "-c", SHORT, json.dumps(sys.path), str(status)]
    finished = subprocess.run(argv, capture_output=True, check=True, text=True, timeout=60)
    assert json.loads(finished.stdout) == [False, True, ["ended", status << 8, limit]]


ENDING = """
import json, os, sys, time
sys.path[:0] = json.loads(sys.argv[1])
from nono_sandbox.call_monitor import CallMonitor
from nono_sandbox.spawning import WorkerProcess
from nono_sandbox.confinement import LANDLOCK, Limits
kill = ["sh", "-c", "kill -" + sys.argv[2] + " $$"]
# Python ignores two signals, and what it starts would too.
pid = os.posix_spawn("/bin/sh", kill, {}, setsigdef=range(1, 32))
monitor = CallMonitor(WorkerProcess(pid, os.pipe()[0]), -1, LANDLOCK)
monitor.begin(Limits(cpu_s=5, memory_bytes_max=1 << 40))
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
time.sleep(monitor.timeout_ms() / 1000)
monitor.reap()
monitor.look()
print(monitor.limit)
"""


@pytest.mark.parametrize(("name", "limit"), [("XCPU", "cpu"), ("XFSZ", "file-size"), ("TERM", "")])
def test_what_ended_a_program_is_not_forgotten_at_the_next_look(name: str, limit: str) -> None:
    argv = [sys.executable, "-I", "-S", "-c", ENDING, json.dumps(sys.path), name]
    finished = subprocess.run(argv, capture_output=True, check=True, text=True, timeout=60)
    assert finished.stdout == f"{limit}\n"


SEALING = """
import json, sys
sys.path[:0] = json.loads(sys.argv[1])
from nono_sandbox import _uapi, landlock, sealing
from nono_sandbox.errors import UnsupportedError
landlock.signal_scope = lambda: landlock.create_ruleset(1, 0, 0)
nothing = [b"" for field in sealing.Plan._fields[3:]]
try:
    sealing.seal(sealing.Plan(sys.argv[2], -1, b"", *nothing))
except UnsupportedError as error:
    print(error)
"""


@pytest.mark.claim("process.unreachable")
@pytest.mark.parametrize("tier", [NAMESPACES, LANDLOCK])
def test_nobody_becomes_a_lane_whose_signals_would_reach_others(tier: str) -> None:
    """It kills all it can reach, at the end of each call."""
    argv = [sys.executable, "-I", "-S", "-c", SEALING, json.dumps(sys.path), tier]
    finished = subprocess.run(argv, capture_output=True, check=True, text=True, timeout=60)
    assert "signals aren't confined" in finished.stdout


@pytest.mark.parametrize(
    ("release", "bounds"),
    [
        ("6.14.0-37-generic", True),
        ("6.14", True),
        ("6.18.44-fc", True),
        ("10.0", True),
        ("6.13.12-arch1-1", False),
        ("5.15.0", False),
        ("4.19.0", False),
        ("6", False),
        ("six.fourteen", False),
    ],
)
def test_pid_max_is_set_only_where_it_is_the_namespaces_own(release: str, *, bounds: bool) -> None:
    """Elsewhere it would be the whole machine's."""
    assert bounds_pids(release) == bounds
