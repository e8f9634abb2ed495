"""Files that change without a new time: what is read again then, and what isn't."""

import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nono_mcp.snapshots import workspace
from nono_mcp.snapshots.snapshots import Snapshots
from nono_mcp.snapshots.trust import times_tell
from nono_mcp.snapshots.values import UNSURE_MAX, Dirty, Unsure
from nono_mcp.snapshots.visits import RACY_NS
from tests.snapshots.state import Place

pytestmark = pytest.mark.linux

EVERYTHING = frozenset({b""})


@pytest.fixture
def in_memory() -> Iterator[Place]:
    """Return a place where no store to a mapped page that was read first gives a new time."""
    path = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="nono-test-"))
    yield Place(path)
    shutil.rmtree(path)


class Mapped:
    """A file that stays mapped."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._path = path

    def store(self, byte: bytes) -> None:
        """Write to it, of which no time tells."""
        before = self._path.stat()
        assert self._map[0:1] != byte
        self._map[0:1] = byte
        after = self._path.stat()
        assert (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)


def await_times(path: Path) -> None:
    """Wait until what changes *path* from now on has to have another time."""
    while time.time_ns() <= path.stat().st_ctime_ns + RACY_NS:
        time.sleep(0.005)


def content(place: Place, snapshot: str) -> str:
    """Return how "f" differs from what it was at first, which was "1"."""
    with place.open() as snapshots:
        return snapshots.text_diff("first", snapshot, b"f").text


@pytest.mark.claim("undo.complete")
def test_a_store_to_a_mapped_page_in_memory_shows(in_memory: Place) -> None:
    path = in_memory.workspace / "f"
    path.write_text("1")
    await_times(path)
    with in_memory.open() as snapshots:
        snapshots.take("named", name="first")
        Mapped(path).store(b"2")
        after = snapshots.take("auto")
        assert "+2" in content(in_memory, after.id)
        snapshots.roll_back("first", begin=lambda _: None)
    assert path.read_text() == "1"


def test_whether_times_tell_is_tried_without_a_trace(place: Place) -> None:
    before = place.workspace.stat()
    fd = os.open(place.workspace, os.O_RDONLY)
    try:
        times_tell(fd)
        memory = os.open("/dev/shm", os.O_RDONLY)  # noqa: S108 - which is in memory
        try:
            assert not times_tell(memory)
        finally:
            os.close(memory)
    finally:
        os.close(fd)
    assert list(place.workspace.iterdir()) == []
    assert place.workspace.stat() == before


@pytest.mark.claim("undo.complete")
def test_all_names_of_a_file_are_read_again_where_one_is_told_of(in_memory: Place) -> None:
    place = in_memory
    names = ("f", "d/g", "e/h")
    for name in names:
        (place.workspace / name).parent.mkdir(exist_ok=True)
    (place.workspace / "f").write_text("1")
    for name in names[1:]:
        (place.workspace / name).hardlink_to(place.workspace / "f")
    await_times(place.workspace / "f")
    with place.open() as snapshots:
        first = snapshots.take("auto")
        Mapped(place.workspace / "f").store(b"2")
        found = snapshots.take("auto", dirty=Dirty(rehash=frozenset({b"d/g"})))
        changes = snapshots.diff(first.id, found.id).changes
        assert [change.path for change in changes] == sorted(map(os.fsencode, names))
        with Snapshots.open(str(place.base / "judge"), str(place.workspace)) as judge:
            assert judge.take("auto").root == found.root


@pytest.mark.claim("undo.complete")
def test_what_was_read_while_a_call_ran_is_read_again_once_none_does(
    in_memory: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a disk, where a page that was written before is written again.
    monkeypatch.setattr(workspace, "times_tell", lambda _: True)
    path = in_memory.workspace / "f"
    path.write_text("1")
    with in_memory.open() as snapshots:
        snapshots.take("named", name="first")
        path.write_text("x")
        await_times(path)
        unsure = Unsure()
        snapshots.take("auto", dirty=Dirty(rescan=EVERYTHING, unsure=unsure))
        assert unsure.paths == {b"f"}
        mapped = Mapped(path)
        mapped.store(b"2")
        # While it runs nothing is read for this alone: there may be much of it.
        meanwhile = Unsure()
        taken = snapshots.take("auto", dirty=Dirty(rescan=EVERYTHING, unsure=meanwhile))
        assert "+x" in content(in_memory, taken.id)
        assert meanwhile.paths == set()
    # The server was killed with the call; another one comes.
    with in_memory.open() as snapshots:
        assert "+2" in content(in_memory, snapshots.take("auto").id)
        mapped.store(b"3")
        assert "+2" in content(in_memory, snapshots.take("auto").id), "nothing is unsure any more"


def test_whoever_looked_meanwhile_has_all_looked_at(place: Place) -> None:
    path = place.workspace / "f"
    path.write_text("1")
    with place.open() as ours, place.open() as theirs:
        first = ours.take("named", name="first")
        theirs.take("auto")
        path.write_text("2")
        known = ours.take("auto", dirty=Dirty(generation=first.generation))
        assert "+2" in content(place, known.id)
        path.write_text("3")
        alone = ours.take("auto", dirty=Dirty(generation=known.generation))
        assert alone.root == known.root, "what isn't named isn't looked at"


def test_what_is_unsure_is_bounded() -> None:
    unsure, other = Unsure(), Unsure()
    for number in range(UNSURE_MAX):
        unsure.add(b"%d" % number)
    other.add(b"one more")
    filled = [unsure.is_full]
    unsure.merge(other)
    assert [*filled, unsure.is_full] == [False, True]
    assert len(unsure.paths) == UNSURE_MAX
