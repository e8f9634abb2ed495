"""A single run whose lane is killed alone: what it started ends before the run answers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import LONG_ENOUGH_S, NONO, Person, running

SOURCES = Path(__file__).parents[2] / "sandbox"

GRANDCHILD = """
import os, signal, sys, time
mark, hook = sys.argv[1:]
end = time.monotonic() + 20
if os.fork():
    time.sleep(1000)
os.setsid()
if os.fork():
    os._exit(0)
for number in set(range(1, 32)) - {9, 17, 19}:
    signal.signal(number, signal.SIG_IGN)
# Besides, two that are another process whenever somebody has looked at them; no faster than who
# collects those that ended can keep up with, or all would be ended for being too many.
for _ in range(2):
    if not os.fork():
        while time.monotonic() < end:
            time.sleep(0.003)
            if os.fork():
                os._exit(0)
        os._exit(0)
print("ready", flush=True)
while time.monotonic() < end:
    try:
        with open(hook, "w") as stream:
            stream.write("#!/bin/sh\\n")
    except OSError:
        time.sleep(0.01)
"""
BEFORE = """
import os, sys, time
path, mark, *command = sys.argv[1:]
sys.path[:0] = path.split(":")
from nono_sandbox import _uapi
read_end, write_end = os.pipe()
for has_filter in (False, True):
    if not os.fork():
        if has_filter:
            _uapi.prctl(_uapi.PR_SET_NO_NEW_PRIVS, 1)
            _uapi.seccomp_filter(bytes([6, 0, 0, 0]) + (0x7FFF0000).to_bytes(4, "little"))
        os.write(write_end, b".")
        time.sleep(1000)
begun = os.read(read_end, 1)
while len(begun) < 2:
    begun += os.read(read_end, 1)
os.execv(command[0], command)
"""
"""A program that has started two others, one with a filter, before it becomes a `nono run`."""


def lane_of(pid: int) -> int:
    """Return the last child of a `nono run` that has neither a proxy nor ports: its lane."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[-1])


@pytest.mark.claim("process.nothing-survives")
def test_killing_its_lane_alone_leaves_nothing_and_nothing_planted(
    person: Person, tier: str, tmp_path: Path
) -> None:
    mark = f"mark-of-{tmp_path}"
    subprocess.run(["/usr/bin/git", "init", "-q", person.workspace], check=True)
    hook = person.workspace / ".git/hooks/post-checkout"
    script = ("/usr/bin/python3", "-c", GRANDCHILD, mark, str(hook))
    with person.start("run", "--tier", tier, "--allow-cwd", "--", *script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(lane_of(process.pid), signal.SIGKILL)
        assert process.wait(LONG_ENOUGH_S) == 125
        assert not running(mark)
        assert not hook.exists()
        assert process.stderr is not None
        assert "the sandbox died; what it ran was killed" in process.stderr.read()


def test_what_it_had_started_before_lives_on(person: Person, tier: str, tmp_path: Path) -> None:
    mark = f"mark-of-{tmp_path}"
    before = [sys.executable, "-I", "-S", "-c", BEFORE, str(SOURCES), mark]
    command = [str(NONO), "run", "--tier", tier, "--", "sh", "-c", "echo ready; exec sleep 1000"]
    try:
        with subprocess.Popen(
            [*before, *command],
            cwd=person.workspace,
            env=person.environment(),
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            os.kill(lane_of(process.pid), signal.SIGKILL)
            assert process.wait(LONG_ENOUGH_S) == 125
            assert len(running(mark)) == 2
    finally:
        for pid in running(mark):
            os.kill(pid, signal.SIGKILL)
