"""What somebody changes while a snapshot is put back stays as they have it, and is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nono_mcp.snapshots import staging

if TYPE_CHECKING:
    import pytest

    from tests.snapshots.state import Place


def test_what_was_to_be_removed_or_set_or_made_way_for_is_not_if_it_is_another_by_then(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write("mode", "as it was")
    (place.workspace / "directory").mkdir()
    place.write("directory/file", "as it was")
    with place.open() as snapshots:
        taken = snapshots.take("auto")
        place.write("removed", "by the agent")
        (place.workspace / "mode").chmod(0o640)
        (place.workspace / "directory" / "file").unlink()
        (place.workspace / "directory").rmdir()
        plan = snapshots.plan(taken.id)
        sync = staging.Staging.sync

        def meanwhile(self: staging.Staging) -> None:
            sync(self)
            place.write("removed", "of the person's")
            place.write("mode", "of the person's")
            place.write("directory", "of the person's")

        monkeypatch.setattr(staging.Staging, "sync", meanwhile)
        outcome = snapshots.restore(plan)
    assert not outcome.verified
    said = {conflict.path: conflict.why for conflict in outcome.conflicts}
    assert said[b"removed"] == said[b"mode"] == "was changed meanwhile"
    assert said[b"directory"] == "appeared meanwhile"
    for name in ("removed", "mode", "directory"):
        assert (place.workspace / name).read_text() == "of the person's"
    assert (place.workspace / "mode").stat().st_mode & 0o777 == 0o640
