"""Where events in the workspace tell of all that calls do to it, and where they may not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from nono_mcp.policy.document import SnapshotsSection
from nono_mcp.undo.rules import Rules
from nono_sandbox.confinement import LANDLOCK, NAMESPACES, READ, WRITE, Grant

if TYPE_CHECKING:
    from pathlib import Path

    from nono_mcp.policy.request import Prepared, Request

pytestmark = pytest.mark.linux


def rules_of(tmp_path: Path, tier: str, *grants: Grant, home: str = "/nowhere") -> Rules:
    (tmp_path / "work" / "within").mkdir(parents=True, exist_ok=True)
    (tmp_path / "beside").mkdir(exist_ok=True)
    request = SimpleNamespace(
        workspace=str(tmp_path / "work"), state_dir="/state", home=home, owner=None
    )
    prepared = SimpleNamespace(
        confinement=SimpleNamespace(grants=grants, tier=tier),
        document=SimpleNamespace(snapshots=SnapshotsSection()),
    )
    return Rules.of(cast("Request", request), cast("Prepared", prepared))


@pytest.mark.parametrize(
    ("tier", "granted", "access", "watched"),
    [
        (NAMESPACES, "work", WRITE, True),
        (NAMESPACES, "beside", WRITE, True),
        # By another way to it, on one mount with it.
        (NAMESPACES, ".", WRITE, False),
        (LANDLOCK, "work", WRITE, True),
        (LANDLOCK, "work/within", WRITE, True),
        # To where a file can be linked.
        (LANDLOCK, "beside", WRITE, False),
        (LANDLOCK, "beside", READ, True),
        (LANDLOCK, "gone", WRITE, False),
        (LANDLOCK, "/proc", WRITE, True),
    ],
)
def test_events_are_relied_on_where_nothing_is_linked_out_of_the_workspace(
    tmp_path: Path, tier: str, granted: str, access: int, *, watched: bool
) -> None:
    grant = Grant(str((tmp_path / granted).resolve()), access)
    assert rules_of(tmp_path, tier, grant).watched is watched


def test_what_holds_a_home_is_more_than_a_piece_of_work(tmp_path: Path) -> None:
    assert rules_of(tmp_path, LANDLOCK, home=str(tmp_path / "work")).is_broad
    assert rules_of(tmp_path, LANDLOCK, home=str(tmp_path / "work" / "within")).is_broad
    assert not rules_of(tmp_path, LANDLOCK, home=str(tmp_path)).is_broad
