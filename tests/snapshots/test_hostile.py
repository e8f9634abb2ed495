"""While it's restored a workspace is somebody else's: nothing outside is ever written."""

import errno
import os
import shutil
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nono_mcp.snapshots import staging
from nono_mcp.snapshots.errors import SnapshotError
from nono_mcp.snapshots.reading import Reader
from tests.snapshots.state import Place, seen


class Outside:
    """A directory that must stay as it is, whatever is planted or swapped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in ("victim", "sub/victim", "sub/sub/victim"):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text("outside")
        self._before = seen(path)

    def check(self) -> None:
        assert seen(self.path) == self._before


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    return Outside(tmp_path / "outside")


@contextmanager
def swapper(acts: list[Callable[[], object]]) -> Iterator[None]:
    """Do *acts* over and over in a process of its own."""
    pid = os.fork()
    if pid == 0:
        try:
            while True:
                for act in acts:
                    try:
                        act()
                    except OSError:
                        continue
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("level", ["sub", "sub/sub", "victim", "sub/sub/victim"])
def test_a_planted_symlink_is_replaced_and_not_followed(
    place: Place, outside: Outside, level: str
) -> None:
    for name in ("victim", "sub/victim", "sub/sub/victim"):
        place.write(name, "inside")
    before = seen(place.workspace)
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        path = place.workspace / level
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        path.symlink_to(outside.path / level)
        assert snapshots.restore(snapshots.plan(taken.id)).verified
    assert seen(place.workspace) == before
    outside.check()


NAMES = [f"{directory}/file-{n}" for directory in ("sub", "sub/sub") for n in range(40)]


def swaps(directory: Path, outside: Path) -> list[Callable[[], object]]:
    """Return what puts a symlink in a directory's place, and the directory back."""
    aside = directory.with_name("aside")

    def away() -> None:
        directory.rename(aside)
        directory.symlink_to(outside)

    def back() -> None:
        directory.unlink()
        aside.rename(directory)

    return [away, back]


def filled(place: Place, content: str) -> None:
    for left in ("sub", "aside"):
        path = place.workspace / left
        path.unlink() if path.is_symlink() else shutil.rmtree(path, ignore_errors=True)
    for name in NAMES:
        place.write(name, content)


@pytest.mark.claim("undo.inside")
def test_whoever_swaps_directories_for_symlinks_meanwhile_gets_nothing_written_outside(
    place: Place, outside: Outside
) -> None:
    filled(place, "before")
    acts = [
        *swaps(place.workspace / "sub", outside.path / "sub"),
        *swaps(place.workspace / "sub/sub", outside.path / "sub/sub"),
    ]
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        for number in range(12):
            filled(place, f"after {number}")
            with swapper(acts):
                try:
                    outcome = snapshots.restore(snapshots.plan(taken.id))
                except (SnapshotError, OSError):
                    outside.check()
                else:
                    assert outcome.verified or outcome.conflicts
            outside.check()
            snapshots.recover()
            outside.check()


def test_a_directory_swapped_once_all_is_prepared_is_not_followed(
    place: Place, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(place, "before")
    away, _ = swaps(place.workspace / "sub/sub", outside.path / "sub/sub")
    sync = staging.Staging.sync

    def swapped(self: staging.Staging) -> None:
        sync(self)
        away()

    monkeypatch.setattr(staging.Staging, "sync", swapped)
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        filled(place, "after")
        outcome = snapshots.restore(snapshots.plan(taken.id))
    assert not outcome.verified
    assert b"sub/sub" in {conflict.path for conflict in outcome.conflicts}
    outside.check()


def test_a_file_swapped_for_a_symlink_meanwhile_is_not_written_through(
    place: Place, outside: Outside
) -> None:
    w = place.workspace
    victim = outside.path / "victim"

    def swap() -> None:
        (w / "mode").unlink()
        (w / "mode").symlink_to(victim)

    def back() -> None:
        (w / "mode").unlink(missing_ok=True)
        (w / "mode").write_text("inside")
        (w / "mode").chmod(0o600)

    place.write("mode", "inside").chmod(0o644)
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        for _ in range(20):
            back()
            with swapper([swap, back]):
                try:
                    snapshots.restore(snapshots.plan(taken.id))
                except (SnapshotError, OSError):
                    snapshots.recover()
            outside.check()


def test_hard_links_from_outside_keep_their_content_and_mode(
    place: Place, outside: Outside
) -> None:
    victim = outside.path / "victim"
    place.write("linked", "before")
    place.write("mode", "outside")
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        (place.workspace / "linked").unlink()
        (place.workspace / "linked").hardlink_to(victim)
        (place.workspace / "mode").unlink()
        (place.workspace / "mode").hardlink_to(outside.path / "sub/victim")
        assert snapshots.restore(snapshots.plan(taken.id)).verified
        assert (place.workspace / "linked").read_text() == "before"
        assert victim.stat().st_nlink == 1
    found = seen(outside.path)
    assert found[b"victim"][4] == (b"outside", [(0, 7)])


def test_metadata_is_not_set_through_a_name_inside_of_a_file_outside(place: Place) -> None:
    path = place.write("a", "content")
    path.chmod(0o644)
    other = place.base / "other"
    other.hardlink_to(path)
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        path.chmod(0o600)
        assert snapshots.restore(snapshots.plan(taken.id)).verified
        # Chmodding it changed both; to put it back for one must not reach the other.
        assert stat.S_IMODE(other.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_restore_into_a_root_that_was_replaced_is_refused(place: Place, outside: Outside) -> None:
    place.write("victim", "before")
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        place.write("victim", "after")
        plan = snapshots.plan(taken.id)
        place.workspace.rename(place.base / "aside")
        place.workspace.symlink_to(outside.path)
        with pytest.raises(SnapshotError):
            snapshots.restore(plan)
        outside.check()
        assert (place.base / "aside/victim").read_text() == "after"


def test_a_snapshot_of_what_changes_all_the_time_is_one_of_something_that_was(
    place: Place,
) -> None:
    path = place.write("busy", b"\0" * 100_000)
    stop = threading.Event()

    def busy() -> None:
        number = 0
        while not stop.is_set():
            number = (number + 1) % 256
            path.write_bytes(bytes([number]) * 100_000)

    thread = threading.Thread(target=busy)
    with place.open() as snapshots:
        thread.start()
        try:
            taken = [snapshots.take("auto") for _ in range(10)]
        finally:
            stop.set()
            thread.join()
        for each in taken:
            kept_out = [found.why for found in each.unprotected]
            assert kept_out in ([], ["kept changing"])


def test_a_directory_with_very_many_files(place: Place) -> None:
    count = 5_000
    fd = os.open(place.workspace, os.O_RDONLY)
    for number in range(count):
        os.close(os.open(f"{number}", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        assert taken.files_count == count
        for number in range(0, count, 10):
            os.unlink(f"{number}", dir_fd=fd)
        outcome = snapshots.restore(snapshots.plan(taken.id))
        assert (outcome.verified, outcome.restored_count) == (True, count // 10)
    os.close(fd)


def test_a_directory_closed_while_it_is_read_is_looked_at_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write("d/a")
    read = Reader.read
    closed: list[bytes] = []

    def closing(self: Reader, dir_fd: int, name: bytes, status: os.stat_result) -> object:
        if not closed:
            closed.append(name)
            # What an ordinary user's next call meets, once its owner has shut the directory.
            raise PermissionError(errno.EACCES, "Permission denied", name)
        return read(self, dir_fd, name, status)

    monkeypatch.setattr(Reader, "read", closing)
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        assert closed
        assert (taken.files_count, taken.unprotected_count) == (1, 0)
        assert snapshots.take("auto").root == taken.root


def test_a_file_that_becomes_a_directory_while_it_is_read_is_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place.write("d/a")
    read = Reader.read

    def becoming(self: Reader, dir_fd: int, name: bytes, status: os.stat_result) -> object:
        if path.is_file():
            path.unlink()
            path.mkdir()
            (path / "inside").write_text("1")
        return read(self, dir_fd, name, status)

    monkeypatch.setattr(Reader, "read", becoming)
    with place.open() as snapshots:
        snapshots.take("auto")
        taken = snapshots.take("auto")
        assert taken.files_count == 1
        assert taken.root == snapshots.take("auto").root
