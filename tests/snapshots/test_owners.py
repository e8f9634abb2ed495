"""Whose a snapshot is, where several share a workspace: theirs who took it."""

import sqlite3

import pytest

from nono_mcp.snapshots.errors import NoSuchSnapshotError
from nono_mcp.snapshots.place import DIRECTORY
from nono_mcp.snapshots.snapshots import Snapshots
from nono_mcp.snapshots.values import NOBODY, Snapshot
from tests.snapshots.state import Place


def opened(place: Place, owner: str | None) -> Snapshots:
    found = place.open()
    found.be_of(owner)
    return found


@pytest.mark.claim("shared.clients-apart")
@pytest.mark.parametrize("other", ["bob", NOBODY])
def test_anothers_snapshot_is_found_by_all_of_its_id_alone(place: Place, other: str) -> None:
    place.write("file", "1")
    with opened(place, "alice") as mine, opened(place, other) as theirs, place.open() as person:
        first = mine.take("named", name="mine")
        again = mine.again(first, "before-call", "0" * 16)
        assert again is not None
        mine.commit()
        second = mine.get(again.id)
        place.write("file", "2")
        own = theirs.take("named", name="theirs")
        assert [one.owner for one in person.list()] == [other, "alice", "alice"]
        assert mine.list() == (second, first)
        assert theirs.list() == (() if other == NOBODY else (own,))
        for text in ("mine", first.id[:4], first.id[:15], second.id[:8], f"{first.id[:14]}??"):
            with pytest.raises(NoSuchSnapshotError):
                theirs.get(text)
        with pytest.raises(NoSuchSnapshotError):
            mine.get("theirs")
        assert theirs.get(first.id) == first
        assert mine.get("latest") == second
        assert mine.get("mine") == first
        assert len({person.get(text).id for text in ("mine", first.id[:8], first.id)}) == 1
        # What a rollback keeps is theirs who asked for it.
        safety = theirs.roll_back(first.id, begin=lambda _: None).safety
        assert safety.owner == other
        assert safety not in mine.list()


def test_nobody_finds_even_what_they_took_by_less_than_its_id(place: Place) -> None:
    place.write("file")
    with opened(place, NOBODY) as store:
        taken = store.take("named", name="it")
        for text in ("latest", "it", taken.id[:8]):
            with pytest.raises(NoSuchSnapshotError):
                store.get(text)
        assert store.get(taken.id) == taken


def test_an_index_from_before_there_were_owners_is_taken_over(place: Place) -> None:
    place.write("file")
    with place.open() as store:
        taken = store.take("auto")
    index = sqlite3.connect(place.state / DIRECTORY / "index.db", isolation_level=None)
    index.execute("ALTER TABLE snapshots DROP COLUMN owner")
    index.execute("PRAGMA user_version = 1")
    index.close()
    with place.open() as store, opened(place, "alice") as mine:
        found: tuple[Snapshot, ...] = store.list()
        assert found == (taken,)
        assert not mine.list()
        assert store.take("auto").owner is None
