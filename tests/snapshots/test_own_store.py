"""What isn't surely a store of ours isn't used, and what is wrong with one is said as it is."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

from nono_mcp.snapshots import collecting, database, place
from nono_mcp.snapshots.errors import StoreError
from nono_mcp.snapshots.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.snapshots.state import Place


def of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    os.close(place.open_store(str(tmp_path)))
    return tmp_path / place.DIRECTORY


def test_a_directory_that_others_get_at_is_no_store(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = str(store.parent)
    for mode in (0o750, 0o701):
        store.chmod(mode)
        with pytest.raises(StoreError, match="others have access"):
            place.open_store(state)
    store.chmod(0o700)
    os.close(place.open_store(state))
    with monkeypatch.context() as patched:
        of_others(patched)
        with pytest.raises(StoreError, match="others have access"):
            place.open_store(state)
    store.rename(store.with_name("elsewhere"))
    store.symlink_to("elsewhere")
    with pytest.raises(StoreError, match="can't be opened"):
        place.open_store(state)


def another_name(file: Path) -> None:
    os.link(file, file.with_name("other"))


def symlink(file: Path) -> None:
    file.rename(file.with_name("other"))
    file.symlink_to("other")


def fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


def directory(file: Path) -> None:
    file.unlink()
    file.mkdir(0o700)


FILES: dict[str, Callable[[Path], None]] = {
    "open to a group": lambda file: file.chmod(0o640),
    "open to all": lambda file: file.chmod(0o602),
    "with another name": another_name,
    "a symlink": symlink,
    "a FIFO": fifo,
    "a directory": directory,
}


@pytest.mark.parametrize("become", FILES.values(), ids=FILES)
def test_a_file_that_is_not_surely_the_stores_own_is_not_opened(
    store: Path, become: Callable[[Path], None]
) -> None:
    file = store / "file"
    file.touch(0o600)
    fd = os.open(store, os.O_RDONLY)
    try:
        os.close(place.open_private(fd, "file", os.O_RDONLY))
        become(file)
        with pytest.raises(StoreError):
            place.open_private(fd, "file", os.O_RDONLY)
    finally:
        os.close(fd)


def test_a_file_of_others_is_not_opened(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (store / "file").touch(0o600)
    fd = os.open(store, os.O_RDONLY)
    try:
        with monkeypatch.context() as patched:
            of_others(patched)
            with pytest.raises(StoreError):
                place.open_private(fd, "file", os.O_RDONLY)
    finally:
        os.close(fd)


def test_an_index_that_is_damaged_or_another_versions_is_told_as_that(store: Path) -> None:
    state = str(store.parent)
    database.connect(state).close()
    index = store / database.NAME
    with sqlite3.connect(index) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="version 99"):
        database.connect(state)
    for left in store.glob(f"{database.NAME}*"):
        left.unlink()
    index.write_bytes(b"no index at all" * 1000)
    index.chmod(0o600)
    with pytest.raises(StoreError, match="begin anew"):
        database.connect(state)


def test_an_index_that_took_the_place_of_ours_is_not_used_as_ours(place: Place) -> None:
    with place.open() as snapshots:
        snapshots.take("auto")
        index = place.state / "snapshots" / database.NAME
        index.rename(index.with_name("old"))
        (index.with_name(database.NAME)).write_bytes(index.with_name("old").read_bytes())
        with pytest.raises(StoreError, match="put in their place"):
            snapshots.take("auto")


def test_two_at_once_write_into_packs_of_their_own(place: Place) -> None:
    """Or one would write over what the other's index says is there."""
    with Store(str(place.state)) as one, Store(str(place.state)) as other:
        frames = [(each.packs.append(frame), frame) for each, frame in ((one, b"1"), (other, b"2"))]
        assert len({number for (number, _), _ in frames}) == len(frames)
        for (number, offset), frame in frames:
            assert one.packs.read(number, offset, len(frame)) == frame


def test_what_is_to_survive_a_loss_of_power_is_waited_for(place: Place) -> None:
    """The index's log is synchronised then, and is not where nothing depends on it."""
    full, normal = (2,), (1,)
    with Store(str(place.state)) as store:

        def synchronous() -> object:
            return store.db.execute("PRAGMA synchronous").fetchone()

        assert synchronous() == normal
        with database.durable(store.db):
            assert synchronous() == full
        with pytest.raises(ZeroDivisionError), database.durable(store.db):
            raise ZeroDivisionError
        assert synchronous() == normal


def test_what_others_collected_and_wrote_anew_is_not_read_as_it_was(place: Place) -> None:
    """The number of a frame that is gone is the next one's."""
    state = str(place.state)

    def put(store: Store, data: bytes) -> tuple[bytes, int]:
        with store.using(), store.objects.writing():
            name = store.objects.put_blob(data)
        query = "SELECT frame FROM objects WHERE id = ?"
        return name, store.db.execute(query, (name,)).fetchone()[0]

    with Store(state) as reader, Store(state) as other:
        first, number = put(other, b"first")
        with reader.using():
            assert reader.objects.blob(first) == b"first"
        collecting.collect(other, None)
        second, again = put(other, b"second")
        assert again == number
        with reader.using():
            assert reader.objects.blob(second) == b"second"
