"""When a snapshot is taken without a look, and when a look is needed all the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nono_mcp.guard.below import Below
from nono_mcp.policy.document import SnapshotsSection
from nono_mcp.undo.keeping import Keeping
from nono_mcp.undo.rules import Rules
from nono_mcp.undo.values import Kept

pytestmark = pytest.mark.linux


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Keeping]:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "f").write_text("1")
    rules = Rules(
        workspace=str(tmp_path / "work"),
        state_dir=str(tmp_path / "state"),
        may_be_written=True,
        watched=True,
        section=SnapshotsSection(),
        is_broad=False,
        broad=False,
    )
    keeping = Keeping(rules, Below(rules.state_dir), lambda: False)
    yield keeping
    keeping.close()


def test_what_others_read_while_a_call_ran_wants_a_look_at_its_end(keeping: Keeping) -> None:
    kept = Kept()
    before = keeping.take("before-call", "call", kept=kept)
    after = keeping.again("after-call", "call", kept)
    assert after is not None
    assert after.root == before.root
    kept.unsure.add(b"f")
    assert keeping.again("after-call", "call", kept) is None
    kept.unsure.paths.clear()
    kept.unsure.is_full = True
    assert keeping.again("after-call", "call", kept) is None


def test_whoever_runs_is_told_what_was_read_meanwhile(keeping: Keeping, tmp_path: Path) -> None:
    runs, ends = Kept(), Kept()
    keeping.take("before-call", "1", kept=runs)
    keeping.take("before-call", "2", kept=ends)
    (tmp_path / "work" / "f").write_text("22")
    keeping.take("after-call", "2", kept=ends)
    assert (runs.unsure.paths, ends.unsure.paths) == ({b"f"}, set())
    keeping.end(ends)
    (tmp_path / "work" / "g").write_text("1")
    keeping.take("auto", None)
    assert (runs.unsure.paths, ends.unsure.paths) == ({b"f", b"g"}, set())
