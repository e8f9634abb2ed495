"""What a lane on macOS remembers of a call: who forked whom, when those have gone.

The table of processes is what macOS's says: of each the one that forked it, whoever adopted it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from nono_sandbox.confinement import Call, Confinement, Limits
from nono_sandbox.seatbelt import lane, launcher
from nono_sandbox.seatbelt.exits import Exit
from nono_sandbox.seatbelt.tree import Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.linux, pytest.mark.claim("process.nothing-survives")]

# Each but the first in a session of its own, and the next one's parent.
CHAIN = """
import os, sys, time
for level in range(int(sys.argv[1])):
    if os.fork():
        break
    os.setsid()
    os.write(1, b"%d %d\\n" % (os.getpid(), os.getppid()))
time.sleep(1000)
"""


class Chain:
    """The processes of a call, and what the lane's system says of them."""

    def __init__(self) -> None:
        self.parents: dict[int, int] = {}
        self.on_start: Callable[[], None] = lambda: None
        self.on_wait: Callable[[], None] = lambda: None
        self.on_look: Callable[[], None] = lambda: None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pids(self) -> list[int]:
        """All of them, the first one's descendants in order."""
        return list(self.parents)

    def start(self) -> int:
        self._process = subprocess.Popen(
            [sys.executable, "-IS", "-c", CHAIN, "3"],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.parents[self._process.pid] = os.getpid()
        return self._process.pid

    def hear(self, count: int) -> None:
        """Wait until so many more have begun."""
        assert self._process is not None
        assert self._process.stdout is not None
        for _ in range(count):
            pid, parent = map(int, self._process.stdout.readline().split())
            self.parents[pid] = parent

    def end(self, *levels: int) -> None:
        """End the process at each of *levels*, and wait until it has."""
        for level in levels:
            pid = self.pids[level]
            os.kill(pid, signal.SIGKILL)
            while alive(pid):
                continue

    def table(self) -> list[Process]:
        found = [
            Process(pid, os.getsid(pid), pid, parent)
            for pid, parent in self.parents.items()
            if alive(pid)
        ]
        self.on_look()
        return found

    def close(self) -> None:
        for pid in self.pids[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
            self._process.kill()
            self._process.wait()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chain]:
    found = Chain()

    def launch(*_: object, began: Callable[[int], None]) -> int:
        pid = found.start()
        began(pid)
        found.on_start()
        return pid

    class Waited(Exit):
        def __enter__(self) -> Self:
            found.on_wait()
            return super().__enter__()

    monkeypatch.setattr(launcher, "launch", launch)
    monkeypatch.setattr(lane, "Exit", Waited)
    with contextlib.closing(found):
        yield found


def ended(chain: Chain, limits: Limits) -> list[int]:
    """See a call to its end; return those that are alive then."""
    call = Call(("/bin/true",), (), "/").replace(limits=limits)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        attended = lane.Attended(theirs, -1, lane.Means("", chain.table), call)
        attended.start(Confinement("/"), (0, 1, 2))
        attended.outcome()
    return [pid for pid in chain.pids if alive(pid)]


def test_who_was_forked_by_a_program_that_is_gone_is_found(chain: Chain) -> None:
    def start() -> None:
        chain.hear(3)
        chain.end(0)

    chain.on_start = start
    assert ended(chain, Limits()) == []


def test_who_was_seen_as_it_began_tells_whose_its_children_are(chain: Chain) -> None:
    chain.on_start = lambda: chain.hear(3)
    chain.on_wait = lambda: chain.end(1, 0)
    assert ended(chain, Limits()) == []


def test_who_was_seen_while_it_ran_tells_whose_its_children_are(chain: Chain) -> None:
    def look() -> None:
        chain.on_look = lambda: None
        chain.end(1, 0)

    def wait() -> None:
        chain.hear(3)
        chain.on_look = look

    chain.on_wait = wait
    assert ended(chain, Limits(processes_max=100)) == []
