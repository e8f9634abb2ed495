"""What a call adds to the disk: told from what was there, and from what others add."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from nono_sandbox import disk_growth
from nono_sandbox.disk_growth import INODE_BYTES, Growth, taken

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.linux, pytest.mark.claim("limits.disk")]
MIB = 1 << 20
SLACK_NS = 40 * 10**6


def nobody() -> Iterator[str]:
    return iter(())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_growth, "_SLACK_NS", SLACK_NS)
    monkeypatch.setattr(disk_growth, "IDLE", 0)
    monkeypatch.setattr(disk_growth, "UNTOLD", 1 << 30)  # whatever others write meanwhile


@pytest.fixture
def place(tmp_path: Path) -> Path:
    found = tmp_path / "place"
    found.mkdir()
    (tmp_path / "tick").touch()
    (found / "old").write_bytes(os.urandom(4 * MIB))
    # By the clock of files, which is coarse.
    written_ns = (found / "old").stat().st_ctime_ns
    while (tmp_path / "tick").stat().st_ctime_ns < written_ns + 2 * SLACK_NS:
        (tmp_path / "tick").write_text("")
    return found


def test_what_was_there_isnt_counted(place: Path) -> None:
    found = Growth([str(place)], ())
    assert not found.over(2 * MIB, nobody)
    (place / "new").write_bytes(os.urandom(3 * MIB))
    assert found.over(2 * MIB, nobody)
    assert not found.over(8 * MIB, nobody)


def test_a_file_counts_for_its_inode(place: Path) -> None:
    found = Growth([str(place)], ())
    (place / "d").mkdir()
    for number in range(100):
        (place / "d" / str(number)).touch()
    assert found.over(100 * INODE_BYTES, nobody)
    assert not found.over(200 * INODE_BYTES, nobody)


def test_links_to_one_file_count_once(place: Path) -> None:
    found = Growth([str(place)], ())
    (place / "new").write_bytes(os.urandom(MIB))
    for number in range(10):
        (place / str(number)).hardlink_to(place / "new")
    assert not found.over(2 * MIB, nobody)


def test_a_place_within_another_counts_once(place: Path) -> None:
    (place / "d").mkdir()
    found = Growth([str(place), str(place / "d"), str(place / "gone")], ())
    (place / "d" / "new").write_bytes(os.urandom(MIB))
    assert not found.over(3 * MIB // 2, nobody)


def test_a_link_that_leads_out_isnt_followed(place: Path, tmp_path: Path) -> None:
    found = Growth([str(place)], ())
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "new").write_bytes(os.urandom(4 * MIB))
    (place / "link").symlink_to(tmp_path / "outside")
    assert not found.over(2 * MIB, nobody)


def test_what_was_removed_and_is_held_open_counts(place: Path) -> None:
    found = Growth([str(place)], ())
    with (place / "new").open("wb") as file:
        file.write(os.urandom(4 * MIB))
        (place / "new").unlink()
        assert found.over(2 * MIB, lambda: iter([str(os.getpid())]))
        assert not found.over(2 * MIB, nobody)


HIDING = """
import ctypes, mmap, os, socket, sys, threading, time
how, path, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
fd = os.open(path, os.O_RDWR | os.O_CREAT)
os.write(fd, os.urandom(size))
os.unlink(path)
def ready():
    print("ready", flush=True)
    time.sleep(1000)
def end_first_thread():
    def wait():
        stat = f"/proc/self/task/{os.getpid()}/stat"
        while open(stat).read().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.001)
        ready()
    threading.Thread(target=wait).start()
    ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
if how.startswith("mapped"):
    kept = mmap.mmap(fd, 4096)
    os.close(fd)
    # It keeps a descriptor of its own.
    for number in range(3, 100):
        try:
            os.close(number)
        except OSError:
            pass
    if how != "mapped":
        end_first_thread()
elif how == "in flight":
    kept = socket.socketpair()
    socket.send_fds(kept[0], [b"x"], [fd])
    os.close(fd)
elif how == "not accepted":
    server, kept = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    kept.connect(path)
    socket.send_fds(kept, [b"x"], [fd])
    os.close(fd)
elif how == "open, of a process whose first thread has ended":
    end_first_thread()
elif how == "behind many others":
    import resource
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.dup2(fd, 2999)
    for number in range(3, 2999):
        os.dup2(0, number)
ready()
"""
HIDDEN = (
    "mapped",
    "mapped, of a process whose first thread has ended",
    "in flight",
    "not accepted",
)
FOUND = ("open, of a process whose first thread has ended", "behind many others")


@pytest.mark.parametrize("how", [*HIDDEN, *FOUND])
def test_what_a_process_hides_is_told_by_who_is_wary(
    place: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    plain, wary = Growth([str(place)], ()), Growth([str(place)], (), wary=True)
    used = taken(str(place))
    argv = [sys.executable, "-c", HIDING, how, str(place / "new"), str(4 * MIB)]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"

            def pids() -> Iterator[str]:
                return iter([str(process.pid)])

            monkeypatch.setattr(disk_growth, "taken", lambda _: used + 3 * MIB)
            assert wary.over(2 * MIB, pids)
            assert plain.over(2 * MIB, pids) == (how in FOUND)
            if how in HIDDEN:
                # What is gone is told by the file system alone.
                assert not wary.over(4 * MIB, pids)
        finally:
            process.kill()


def test_what_is_seen_elsewhere_isnt_hidden(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is memory that is mapped like a removed file."""
    used = taken(str(place))
    with (place / "new").open("w+b") as file, mmap.mmap(-1, 4096):
        file.write(bytes(4096))
        file.flush()
        memory = os.memfd_create("memory")
        os.ftruncate(memory, 4096)
        with mmap.mmap(file.fileno(), 4096), mmap.mmap(memory, 4096):
            os.close(memory)
            (place / "new").unlink()
            monkeypatch.setattr(disk_growth, "taken", lambda _: used + 3 * MIB)
            wary = Growth([str(place)], (), wary=True)
            monkeypatch.setattr(disk_growth, "taken", lambda _: used + 9 * MIB)
            assert not wary.over(2 * MIB, lambda: iter([str(os.getpid())]))


def test_what_cant_be_looked_at_is_told_by_the_file_system(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Growth([str(place)], ())
    used = taken(str(place))
    monkeypatch.setattr(disk_growth, "WALK_S_MAX", -1.0)
    monkeypatch.setattr(disk_growth, "taken", lambda _: used)
    assert not found.over(2 * MIB, nobody)
    monkeypatch.setattr(disk_growth, "taken", lambda _: used + 3 * MIB)
    assert found.over(2 * MIB, nobody)


def test_what_somebody_frees_makes_no_room(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Growth([str(place)], ())
    used = taken(str(place))
    monkeypatch.setattr(disk_growth, "UNTOLD", 4)
    monkeypatch.setattr(disk_growth, "taken", lambda _: used - 100 * MIB)
    assert not found.over(2 * MIB, nobody)
    monkeypatch.setattr(disk_growth, "taken", lambda _: used - 90 * MIB)
    assert found.over(2 * MIB, nobody)
