"""What a restore puts back is what it was, whatever the directory it's prepared in gives it."""

import os
import struct
import sys
from pathlib import Path

import pytest

from nono_mcp.snapshots import preparing
from nono_mcp.snapshots.errors import DamagedStoreError
from tests.snapshots.state import Place, seen

MODES = (0o400, 0o600, 0o644, 0o755, 0o1777, 0o4711)


def populate(w: Path) -> None:
    for number, mode in enumerate(MODES):
        path = w / f"d{number % 2}" / f"f{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_text("the same" if number % 2 else str(number))
        path.chmod(mode)
        (w / f"{number}").hardlink_to(path)
    os.mkfifo(w / "fifo", 0o640)


def everything_gone(w: Path) -> None:
    for path in sorted(w.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def restored(place: Place, umask: int = 0o022) -> None:
    """Lose everything, and have it back."""
    before = seen(place.workspace)
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        everything_gone(place.workspace)
        old = os.umask(umask)
        try:
            outcome = snapshots.roll_back(taken.id, begin=lambda _: None)
        finally:
            os.umask(old)
    assert outcome.verified
    assert seen(place.workspace) == before
    assert not [path for path in place.base.rglob("*") if "restore" in path.name]


@pytest.mark.parametrize("umask", [0, 0o077, 0o277, 0o777])
def test_a_umask_takes_nothing_from_what_comes_back(place: Place, umask: int) -> None:
    populate(place.workspace)
    restored(place, umask)
    with place.open() as snapshots:
        assert snapshots.take("auto").files_count == len(seen(place.workspace)) - 3


@pytest.mark.skipif(sys.platform != "linux", reason="Python has no words for macOS's ACLs")
def test_what_is_above_gives_nothing_to_what_comes_back(place: Place) -> None:
    populate(place.workspace)
    entries = [(1, 7, -1), (2, 4, 12345), (4, 5, -1), (16, 5, -1), (32, 0, -1)]
    packed = b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(place.base, "system.posix_acl_default", struct.pack("<I", 2) + packed)
    place.base.chmod(0o2755)
    restored(place)


def test_links_are_made_to_what_was_written_with_others_before(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "_TOGETHER_MAX", 2)
    populate(place.workspace)
    restored(place)


def test_what_is_damaged_among_others_is_named_and_so_are_its_other_names(place: Place) -> None:
    w = place.workspace
    for number in range(8):
        place.write(f"{number}", os.urandom(300_000))
    (w / "link").hardlink_to(w / "5")
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        (pack,) = (place.state / "snapshots/packs").iterdir()
        whole = pack.read_bytes()
        at = whole.index((w / "5").read_bytes()[:1000])
        everything_gone(w)
        w.joinpath("new").touch()
        before = seen(w)
        overwrite(pack, at + 5000, bytes(9))
        with pytest.raises(DamagedStoreError) as caught:
            snapshots.roll_back(taken.id, begin=lambda _: None)
        assert [damage.paths for damage in caught.value.damage] == [("5",)]
        assert seen(w) == before
        overwrite(pack, at + 5000, whole[at + 5000 : at + 5009])
        assert snapshots.roll_back(taken.id, begin=lambda _: None).verified
    assert (w / "link").samefile(w / "5")
