"""What is known of one directory that calls may write in."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from nono_mcp.guard import spots
from nono_mcp.guard.baseline import Baseline
from nono_mcp.guard.closed_paths import ClosedPaths
from nono_mcp.guard.quarantine import Quarantine
from nono_mcp.guard.root import Root
from nono_mcp.guard.spots import Spot

if TYPE_CHECKING:
    from pathlib import Path

    from nono_mcp.guard.register import Register

pytestmark = pytest.mark.linux


def test_what_is_closed_to_our_calls_is_left_out_only_if_it_is_to_everybodys(
    tmp_path: Path,
) -> None:
    root = Root(str(tmp_path), None, cast("Register", None), Quarantine(str(tmp_path / "state")))
    spot = Spot((), ".npmrc", spots.AS_IT_WAS, "settings")
    closed = ClosedPaths([root.path_of(spot)])
    root.close(closed)
    left_out = {(): True, (closed,): True, (closed, ClosedPaths()): False}
    for others, is_open in left_out.items():
        root.others_closed = others
        assert root.is_open(spot) is is_open


def test_of_too_many_those_that_were_there_are_the_persons(tmp_path: Path) -> None:
    baseline = Baseline(str(tmp_path))
    before = baseline.version
    there, came = (Spot(("many",), name, spots.TOO_MANY, "one of many") for name in "ab")
    baseline.learn(there, -1, -1, None)
    assert baseline.version != before
    assert (baseline.is_crowded(there), baseline.is_crowded(came)) == (True, False)
