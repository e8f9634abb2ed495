"""What the log is told of a rollback, however it ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from nono_mcp.snapshots.errors import StagingError, StalePlanError
from nono_mcp.undo import rolling
from nono_mcp.undo.values import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nono_mcp.audit.session import Session as Log
    from nono_mcp.snapshots.snapshots import Snapshots
    from nono_mcp.snapshots.values import Plan


class Kept:
    """A log in memory."""

    def __init__(self) -> None:
        self.said: list[Mapping[str, object]] = []

    def append(self, kind: str, fields: Mapping[str, object]) -> None:
        self.said.append({"kind": kind, **fields})


def plan(current: str, target: str) -> Plan:
    found = SimpleNamespace(
        snapshot=SimpleNamespace(id="s"),
        scope="everything",
        current_root=current,
        target_root=target,
    )
    return cast("Plan", found)


class Failing:
    """A store that begins, and is stopped."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def roll_back(self, _: str, *, begin: Callable[[Plan], None], **__: object) -> None:
        begin(plan("1", "2"))
        raise self._error


@pytest.mark.parametrize(
    ("error", "reason"),
    [(KeyboardInterrupt(), "KeyboardInterrupt"), (StagingError("full"), "StagingError: full")],
)
def test_one_that_is_stopped_has_ended_and_the_log_says_why(
    error: BaseException, reason: str
) -> None:
    log = Kept()
    with pytest.raises(type(error)):
        rolling.roll_back(cast("Snapshots", Failing(error)), Wanted("s"), cast("Log", log))
    start, end = log.said
    assert start == {
        "kind": "rollback", "id": "s", "phase": "start", "scope": "everything", "root": "2",
    }  # fmt: skip
    assert end == {
        "kind": "rollback", "id": "s", "phase": "end", "outcome": "error", "reason": reason,
    }  # fmt: skip


@pytest.mark.parametrize("agreed", [plan("0", "2"), plan("1", "3")])
def test_what_nobody_agreed_to_is_not_begun(agreed: Plan) -> None:
    log = Kept()
    store = cast("Snapshots", Failing(AssertionError()))
    with pytest.raises(StalePlanError, match="nothing was put back"):
        rolling.roll_back(store, Wanted("s"), cast("Log", log), agreed=agreed)
    assert log.said == []
