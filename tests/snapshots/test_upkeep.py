"""A store stays within bounds, loses nothing that is needed, and knows when it's damaged."""

import os
import threading
from pathlib import Path

import pytest

from nono_mcp.snapshots import packs, upkeep
from nono_mcp.snapshots.errors import NoSuchSnapshotError, QuotaError
from nono_mcp.snapshots.retention import Kept, expendable, over_quota
from nono_mcp.snapshots.snapshots import Snapshots
from nono_mcp.snapshots.values import Dirty, Retention
from tests.snapshots.state import Place, seen

HOUR_NS = 3600 * 10**9
ONE = Retention(recent_count=1, hourly=0, daily=0)


def kept(*hours: float, named: bool = False, workspace: int = 1) -> list[Kept]:
    return [Kept(f"{workspace}-{hour}", workspace, int(hour * HOUR_NS), named) for hour in hours]


def ids(snapshots: list[Kept]) -> list[str]:
    return [each.id for each in snapshots]


def test_the_newest_of_each_hour_and_day_stay_beside_the_recent_ones() -> None:
    all_of_them = kept(0.1, 0.2, 1.1, 1.9, 2.5, 30.1, 30.2, 50.5, 50.6, 50.7)
    retention = Retention(recent_count=2, hourly=3, daily=3)
    # Recent: 50.7, 50.6; hours: 50.7, 30.2, 2.5; days: 50.7, 30.2, 2.5.
    assert ids(expendable(all_of_them, retention)) == [
        "1-0.1", "1-0.2", "1-1.1", "1-1.9", "1-30.1", "1-50.5",
    ]  # fmt: skip


def test_the_newest_and_the_named_stay_whatever_is_asked() -> None:
    found = [*kept(1, 2), *kept(0.5, named=True), *kept(3, workspace=2)]
    nothing = Retention(recent_count=0, hourly=0, daily=0)
    assert ids(expendable(found, nothing)) == ["1-1"]
    assert ids(over_quota(found)) == ["1-1"]


def fill(place: Place, snapshots: Snapshots, count: int, size: int = 200_000) -> list[str]:
    taken = []
    for number in range(count):
        place.write(f"file-{number % 3}", os.urandom(size))
        taken.append(snapshots.take("auto").id)
    return taken


def test_what_stays_can_be_restored_and_what_goes_gives_back_its_space(place: Place) -> None:
    place.write("constant/file", os.urandom(100_000))
    place.write("big", os.urandom(9 << 20))
    with place.open() as snapshots:
        named = snapshots.take("named", name="start")
        before = seen(place.workspace)
        taken = fill(place, snapshots, 12, 400_000)
        pruned = upkeep.prune(str(place.state), ONE)
        assert pruned.removed == tuple(taken[:-1])
        assert pruned.freed_bytes > 8 * 400_000
        assert {each.id for each in snapshots.list()} == {named.id, taken[-1]}
        assert upkeep.verify(str(place.state)).whole
        # The index knows no object that went, nor does what was last seen need one.
        assert snapshots.take("auto", dirty=Dirty()).root == snapshots.get(taken[-1]).root
        assert snapshots.take("auto").root == snapshots.get(taken[-1]).root
        assert snapshots.restore(snapshots.plan("start")).verified
        assert seen(place.workspace) == before
        assert upkeep.verify(str(place.state)).whole


def test_what_was_collected_is_stored_again_when_it_comes_back(place: Place) -> None:
    content = os.urandom(300_000)
    with place.open() as snapshots:
        place.write("a", content)
        snapshots.take("auto")
        place.write("a", "other")
        snapshots.take("auto")
        upkeep.prune(str(place.state), ONE)
        place.write("a", content)
        taken = snapshots.take("auto")
        place.write("a", "other")
        assert upkeep.verify(str(place.state)).whole
        assert snapshots.restore(snapshots.plan(taken.id)).verified
        assert (place.workspace / "a").read_bytes() == content


def test_what_two_workspaces_share_is_stored_once(place: Place, tmp_path: Path) -> None:
    content = os.urandom(1 << 20)
    place.write("a", content)
    with place.open() as snapshots:
        snapshots.take("auto")
        alone = upkeep.usage(str(place.state))
    other = Place.__new__(Place)
    other.base = tmp_path
    other.workspace = tmp_path / "other"
    other.state = place.state
    other.workspace.mkdir()
    other.write("b/c", content)
    with other.open() as snapshots:
        snapshots.take("auto")
        both = upkeep.usage(str(place.state))
    assert both.store_bytes - alone.store_bytes < 100_000
    assert [each.snapshots_count for each in both.workspaces] == [1, 1]
    assert (both.snapshots_count, both.objects_bytes >= 1 << 20) == (2, True)


def test_a_quota_is_never_exceeded_and_the_snapshot_that_is_wanted_stays(place: Place) -> None:
    quota_bytes = 4 << 20
    keep = Retention(quota_bytes=quota_bytes)

    def used() -> int:
        return upkeep.usage(str(place.state)).store_bytes

    with Snapshots.open(str(place.state), str(place.workspace), keep=keep) as snapshots:
        place.write("a", os.urandom(1 << 20))
        first = snapshots.take("auto")
        before = seen(place.workspace)
        place.write("a", os.urandom(1 << 20))
        snapshots.take("auto")
        place.write("a", os.urandom(1 << 20))
        last = snapshots.take("auto")
        # It's the oldest and would go first, but for that it's what is gone back to.
        place.write("a", os.urandom(1 << 20))
        plan = snapshots.plan(first.id)
        assert used() <= quota_bytes
        assert [each.id for each in snapshots.list()] == [last.id, first.id]
        assert snapshots.restore(plan).verified
        assert seen(place.workspace) == before
        # What can't be kept at all is refused, and leaves what was.
        place.write("b", os.urandom(quota_bytes))
        count = len(snapshots.list())
        with pytest.raises(QuotaError, match="quota"):
            snapshots.take("auto")
        assert used() <= quota_bytes
        assert 0 < len(snapshots.list()) <= count
        (place.workspace / "b").unlink()
        assert snapshots.take("auto").files_count == 1
        assert upkeep.verify(str(place.state)).whole


def test_a_full_store_is_thinned_and_then_refuses(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "PACK_BYTES_MAX", 1 << 20)
    quota = Retention(recent_count=3, quota_bytes=6 << 20)

    def opened() -> Snapshots:
        return Snapshots.open(str(place.state), str(place.workspace), keep=quota)

    with opened() as snapshots:
        for _ in range(30):
            place.write("a", os.urandom(700_000))
            snapshots.take("auto")
        assert upkeep.usage(str(place.state)).store_bytes < 7 << 20
        assert 1 < len(snapshots.list()) < 10
        assert upkeep.verify(str(place.state)).whole
        for number in range(30):
            place.write("a", os.urandom(700_000))
            try:
                snapshots.take("named", name=str(number))
            except QuotaError:
                break
        else:
            pytest.fail("it was never full")
        assert upkeep.verify(str(place.state)).whole
        named = [each for each in snapshots.list() if each.name]
        for each in named[1:]:
            upkeep.delete(str(place.state), each.id)
        assert snapshots.take("auto", dirty=Dirty()).root != named[0].root
        with pytest.raises(NoSuchSnapshotError):
            upkeep.delete(str(place.state), named[1].id)


def test_each_way_to_damage_a_store_is_found_and_names_what_is_hit(place: Place) -> None:
    place.write("a/one", os.urandom(50_000))
    place.write("two", "small")
    with place.open() as snapshots:
        taken = snapshots.take("auto")
    assert upkeep.verify(str(place.state)).whole
    [pack] = (place.state / "snapshots/packs").iterdir()
    whole = pack.read_bytes()
    ways = {
        "changed": whole[:20_000] + bytes([whole[20_000] ^ 1]) + whole[20_001:],
        "cut": whole[: len(whole) // 2],
        "zeroed": bytes(len(whole)),
        "moved": whole[1:] + whole[:1],
    }
    for way, damaged in ways.items():
        pack.write_bytes(damaged)
        found = upkeep.verify(str(place.state))
        assert not found.whole, way
        paths = {path for each in found.damage for path in each.paths}
        assert any(path.startswith(f"{taken.id}:") for path in paths), way
        if way == "changed":
            assert f"{taken.id}:a/one" in paths
    pack.unlink()
    assert not upkeep.verify(str(place.state)).whole
    pack.touch(0o600)
    pack.write_bytes(whole)
    assert upkeep.verify(str(place.state)).whole


def test_pruning_and_taking_at_once_lose_nothing(place: Place) -> None:
    stop = threading.Event()
    failed: list[BaseException] = []

    def pruning() -> None:
        try:
            while not stop.is_set():
                upkeep.prune(str(place.state), Retention(recent_count=2, hourly=0, daily=0))
        except BaseException as error:  # noqa: BLE001 - said by the test
            failed.append(error)

    with place.open() as snapshots:
        place.write("start")
        taken = snapshots.take("auto")
        thread = threading.Thread(target=pruning)
        thread.start()
        try:
            for number in range(40):
                place.write(f"{number % 5}", os.urandom(20_000 + number))
                taken = snapshots.take("auto")
        finally:
            stop.set()
            thread.join()
        assert failed == []
        assert upkeep.verify(str(place.state)).whole
        before = seen(place.workspace)
        place.write("0", "changed")
        assert snapshots.restore(snapshots.plan(taken.id)).verified
        assert seen(place.workspace) == before
