"""What a session says by its file, to who looks now and to who looks after a power cut."""

from __future__ import annotations

import fcntl
import os
import posix
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_mcp.guard import presence, write_through
from nono_mcp.guard.announcement import Announcement
from nono_mcp.guard.presence import ENDING
from nono_mcp.guard.register import ALONE, LEFT, OTHERS, Register
from nono_mcp.guard.write_through import WriteThrough

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.linux, pytest.mark.claim("guard.shared")]

LONG_ENOUGH_S = 60
BOOT = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
ANOTHER = b"another boot".ljust(36)
SINCE = b"1".rjust(20)


def a_register(
    state: Path, path: str, seeing: WriteThrough | None = None, wait_s: float = 10.0
) -> Register:
    """Return the register of a guard that has no other."""
    return Register(str(state), "top", path, Announcement(str(state), seeing), wait_s)


def run(register: Register) -> None:
    """Say that calls run; it has to be our turn."""
    register.join()
    register.announcement.run()


def eventually(true: Callable[[], bool]) -> bool:
    until = time.monotonic() + LONG_ENOUGH_S
    while not true() and time.monotonic() < until:
        time.sleep(0.01)
    return true()


def said(directory: Path) -> bytes:
    """Return what the only session there says."""
    (path,) = directory.rglob("calls-*")
    return path.read_bytes()[:2]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"rr" + BOOT + b" ".ljust(21) + b"\n", ENDING),
        (b"rr" + BOOT + b" " + SINCE + b"\n", ENDING),
        (b"rr" + BOOT + b" " + (b"9" * 20) + b"\n", ENDING),
        (b"ir" + BOOT + b" ".ljust(21) + b"\n", ALONE),
        (b"ii" + BOOT + b" ".ljust(21) + b"\n", ALONE),
        (b"rr" + ANOTHER + b" ".ljust(21) + b"\n", LEFT),
        (b"ir" + ANOTHER + b" ".ljust(21) + b"\n", LEFT),
        (b"ii" + ANOTHER + b" ".ljust(21) + b"\n", ALONE),
        (b"", ALONE),
        (b"of a version to come", LEFT),
    ],
    ids=range(10),
)
def test_what_a_file_says_whose_session_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: bytes, found: int
) -> None:
    monkeypatch.setattr(presence, "GRACE_NS", 10**18)
    (tmp_path / "calls-x").write_bytes(line)
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        assert presence.look("calls-x", directory, "") == found
    finally:
        os.close(directory)
    assert (tmp_path / "calls-x").exists() == (found != ALONE)


def test_what_was_found_long_ago_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "GRACE_NS", 0)
    (tmp_path / "calls-x").write_bytes(b"rr" + BOOT + b" " + SINCE + b"\n")
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        assert presence.look("calls-x", directory, "") == LEFT
    finally:
        os.close(directory)


@pytest.mark.parametrize("since", [b" " * 20, b"9" * 20])
def test_what_tells_no_time_is_over_some_time_after_it_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, since: bytes
) -> None:
    monkeypatch.setattr(presence, "GRACE_NS", 0)
    (tmp_path / "calls-x").write_bytes(b"rr" + BOOT + b" " + since + b"\n")
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        assert [presence.look("calls-x", directory, "") for _ in range(2)] == [ENDING, LEFT]
    finally:
        os.close(directory)


def test_where_boots_arent_told_apart_both_bytes_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "_boot", lambda: b" " * 36)
    (tmp_path / "calls-x").write_bytes(b"ir" + b" " * 57 + b"\n")
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        assert presence.look("calls-x", directory, "") == ENDING
    finally:
        os.close(directory)


def test_others_are_told_apart_from_those_that_are_gone(tmp_path: Path) -> None:
    one, other = (a_register(tmp_path, "/a b/%2F") for _ in range(2))
    with one:
        assert one.company() == ALONE
        run(one)
    with other:
        assert other.company() == OTHERS
        run(other)
    one.announcement.own.rest()
    with other:
        assert other.company() == ALONE
    other.announcement.own.rest()
    one.close()
    other.close()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["arrived"]


def test_the_disk_says_that_a_call_runs_until_none_has_for_some_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    sync = os.fsync

    def fsync(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        sync(fd)

    monkeypatch.setattr(posix, "fsync", fsync)
    monkeypatch.setattr(write_through, "QUIET_S", 0.01)
    seeing = WriteThrough()
    register = a_register(tmp_path, "/a", seeing)
    with register:
        register.publish(("known",))
        run(register)
    assert eventually(lambda: "known" in synced and any(n.startswith("calls-") for n in synced))
    assert said(tmp_path) == b"rr"
    register.announcement.own.rest()
    assert said(tmp_path)[:1] == b"i"
    assert eventually(lambda: said(tmp_path) == b"ii")
    with register:
        run(register)
    assert said(tmp_path) == b"rr"
    register.announcement.own.rest()
    register.close()
    seeing.close()


def test_who_doesnt_get_its_turn_runs_nothing(tmp_path: Path) -> None:
    register = a_register(tmp_path, "/a", wait_s=0.05)
    with register:
        run(register)
    held = os.open(tmp_path / "guard" / "top" / "+%2Fa", os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError), register:
            pass
        assert not register.take_turn()
    finally:
        os.close(held)
    with register:
        assert register.company() == ALONE


@pytest.mark.parametrize("path", ["/" + "é" * 900, "/a\n%", "/\udcff" * 150])
def test_any_path_has_a_register_of_its_own(tmp_path: Path, path: str) -> None:
    one, other = a_register(tmp_path, path), a_register(tmp_path, path)
    longer = a_register(tmp_path, f"{path}/x")
    with one:
        run(one)
    with other:
        assert other.company() == OTHERS
    with longer:
        assert longer.company() == ALONE
        run(longer)
        longer.announcement.own.rest()
    longer.close()
    one.announcement.own.rest()
    one.close()


def test_who_removes_our_state_by_hand_is_told_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seeing = WriteThrough()
    register, emptied = a_register(tmp_path, "/a", seeing), a_register(tmp_path, "/b", seeing)
    for one in (register, emptied):
        with one:
            run(one)
    shutil.rmtree(tmp_path / "guard")
    register.announcement.own.write_through()
    for one in (register, emptied):
        one.announcement.own.rest()
        one.close()
    seeing.close()
    assert caplog.text == ""


def test_what_has_another_name_meanwhile_is_on_the_disk_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()
    sync = os.fsync

    def fsync(fd: int) -> None:
        for fresh in tmp_path.rglob("known.new"):
            fresh.rename(fresh.with_name("known"))
        synced.add(Path(f"/proc/self/fd/{fd}").readlink().name)
        sync(fd)

    register = a_register(tmp_path, "/a")
    with register:
        run(register)
    (tmp_path / "guard" / "top" / "+%2Fa" / "known.new").touch()
    monkeypatch.setattr(posix, "fsync", fsync)
    register.announcement.own.write_through()
    register.close()
    assert "known" in synced
