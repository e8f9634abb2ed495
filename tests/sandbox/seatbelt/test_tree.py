"""Ending a tree that doesn't want to end, with the process table of the machine at hand."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_sandbox.errors import UnsupportedError
from nono_sandbox.seatbelt import libproc
from nono_sandbox.seatbelt.tree import Process, SurvivorsError, end_tree, family

if TYPE_CHECKING:
    from collections.abc import Iterator


def stat_of(pid: str) -> Process | None:
    try:
        fields = Path("/proc", pid, "stat").read_bytes().rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in (b"Z", b"X"):
        return None
    return Process(int(pid), int(fields[3]), int(pid), int(fields[1]))


def proc() -> Iterator[Process]:
    """Linux's table; a number stands for an identity, and a parent is whoever adopted."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            found = stat_of(entry.name)
            if found is not None:
                yield found


NOBODY = 2**22
"""Above every pid there can be."""


def alive(pid: int) -> bool:
    return stat_of(str(pid)) is not None


STUBBORN = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
def leave(action):
    if os.fork() == 0:
        action()
        print(os.getpid(), flush=True)
        while True:
            time.sleep(60)
def orphan():
    os.setpgid(0, 0)
leave(lambda: None)
leave(orphan)
leave(os.setsid)
middle = os.fork()
if middle == 0:
    leave(orphan)      # its parent dies: only the session tells
    os._exit(0)
os.waitpid(middle, 0)
leave(lambda: None)
print(os.getpid(), flush=True)
if sys.argv[1] == "exits":
    os._exit(0)
while True:
    time.sleep(60)
"""


@pytest.fixture
def left() -> Iterator[list[int]]:
    """Pids that the test doesn't expect to be dead, and that mustn't outlive it."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.linux
@pytest.mark.parametrize("root", ["stays", "exits"])
def test_nothing_of_a_call_is_left(root: str, left: list[int]) -> None:
    with subprocess.Popen(
        [sys.executable, "-IS", "-c", STUBBORN, root],
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as started:
        assert started.stdout is not None
        pids = [int(started.stdout.readline()) for _ in range(6)]
        left += pids
        if root == "exits":
            os.waitid(os.P_PID, started.pid, os.WEXITED | os.WNOWAIT)
            # Linux's table forgets who forked an orphan: the one that has a session of its own
            # is out of its sight, as the module says of such.
            gone = [pid for pid in pids if alive(pid) and os.getsid(pid) != started.pid]
            assert len(gone) == 1
            pids = [pid for pid in pids if pid not in gone]
        end_tree(started.pid, proc)
        assert [pid for pid in pids if alive(pid)] == []
        assert [one.pid for one in proc() if one.session == started.pid] == []


def test_the_family_is_found_by_session_parent_and_memory() -> None:
    table = [
        Process(10, 10, 100, 1),  # the root
        Process(11, 10, 101, 100),  # a child
        Process(12, 12, 102, 101),  # a grandchild with a session of its own
        Process(13, 10, 103, 999),  # an orphan in the session
        Process(14, 14, 104, 555),  # forked by one that was seen and is gone
        Process(15, 14, 105, 104),  # and its child
        Process(20, 20, 200, 1),  # somebody else's
        Process(21, 20, 201, 200),
    ]
    assert [one.pid for one in family(10, frozenset(), table)] == [10, 11, 12, 13]
    assert [one.pid for one in family(10, frozenset({555}), table)] == [10, 11, 12, 13, 14, 15]


def test_order_in_the_table_doesnt_matter() -> None:
    table = [Process(pid, pid, pid, pid - 1) for pid in range(10, 60)] + [Process(99, 99, 99, 1)]
    shuffled = random.Random(1)  # noqa: S311 - reproducible
    for _ in range(20):
        shuffled.shuffle(table)
        assert [one.pid for one in family(10, frozenset(), table)] == list(range(10, 60))


def test_a_child_whose_parent_was_seen_once_is_still_killed(left: list[int]) -> None:
    """A table as macOS gives it: the forker's identity stays when launchd adopts."""
    root = NOBODY - 1
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as mine:
        left.append(mine.pid)
        first = [Process(NOBODY, root, identity=1, parent_identity=0)]
        looks = iter([first])

        def table() -> list[Process]:
            orphan = Process(mine.pid, mine.pid, identity=3, parent_identity=1)
            return next(looks, [orphan] if alive(mine.pid) else [])

        end_tree(root, table)
        assert mine.wait(timeout=60) == -signal.SIGKILL


def test_a_process_that_wont_die_is_an_error() -> None:
    with pytest.raises(SurvivorsError, match="4194304"):
        end_tree(NOBODY + 1, lambda: [Process(NOBODY, NOBODY + 1, 5, 4)], timeout_s=0.05)


def test_an_empty_table_is_the_end() -> None:
    end_tree(NOBODY + 1, list)


def test_the_layout_is_that_of_the_header() -> None:
    info = libproc.ProcUniqIdentifierInfo
    assert ctypes.sizeof(info) == 56
    assert (info.p_uniqueid.offset, info.p_puniqueid.offset) == (16, 24)


def test_elsewhere_it_says_that_there_is_no_libproc() -> None:
    with pytest.raises(UnsupportedError, match="macOS"):
        list(libproc.processes("/nowhere/libproc.dylib"))


FAKE_LIBPROC = """
#include <string.h>
#include <stdint.h>
#include <unistd.h>
struct info { uint8_t uuid[16]; uint64_t own, parent; int32_t a, b; uint64_t c, d; };
int proc_listpids(uint32_t kind, uint32_t info, void *buffer, int size) {
    int pids[3] = { (int)getpid(), 0, 4194304 };
    if (kind != 1 || info != 0) return -1;
    if (buffer == 0) return (int)sizeof pids;
    if (size < (int)sizeof pids) return -1;
    memcpy(buffer, pids, sizeof pids);
    return (int)sizeof pids;
}
int proc_pidinfo(int pid, int flavor, uint64_t argument, void *buffer, int size) {
    struct info it = { {0}, 1ull << 40, (1ull << 40) + pid, 0, 0, 0, 0 };
    if (flavor != 17 || argument != 0 || size != (int)sizeof it) return 0;
    memcpy(buffer, &it, sizeof it);
    return size;
}
"""


def test_it_is_called_as_the_header_declares(tmp_path: Path) -> None:
    source, library = tmp_path / "libproc.c", tmp_path / "libproc.so"
    source.write_text(FAKE_LIBPROC)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    own = os.getpid()
    found = list(libproc.processes(str(library)))
    assert found == [Process(own, os.getsid(0), 2**40, 2**40 + own)]
