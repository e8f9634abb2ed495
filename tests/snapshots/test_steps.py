"""What a step of a restore does: whether a file stays, and what has to be changeable for that."""

from __future__ import annotations

import pytest

from nono_mcp.snapshots import encoding, fixed, steps
from nono_mcp.snapshots.encoding import Entry

FILE = Entry(b"a", encoding.FILE, 0o644, 1, 1, 1, 1, b"content", b"")


@pytest.mark.parametrize("has_another_name", [False, True])
def test_what_only_metadata_is_set_of_needs_no_directory_that_can_be_changed(
    monkeypatch: pytest.MonkeyPatch, *, has_another_name: bool
) -> None:
    node = steps.Node(steps.Node(None, b""), b"a")
    replaced = frozenset({node.key} if has_another_name else ())
    looked_at = []
    monkeypatch.setattr(fixed, "_is_fixed", lambda _, path: looked_at.append(path))
    step = steps.Step(steps.PUT, node, FILE._replace(mode=0), FILE)
    assert fixed.fixed(-1, [step], replaced) is None
    assert looked_at == ([b"a", b""] if has_another_name else [b"a"])


@pytest.mark.parametrize(
    ("before", "is_in_place"),
    [
        (FILE._replace(mode=0, mtime_ns=2, gid=2, xattrs=b"more"), True),
        (FILE._replace(target=b"other"), False),
        (FILE._replace(kind=encoding.SYMLINK), False),
        (FILE._replace(size=2), False),
        # Whoever isn't its owner can set nothing of it.
        (FILE._replace(uid=2), False),
        (None, False),
    ],
)
def test_a_file_stays_where_nothing_but_metadata_differs(
    before: Entry | None, *, is_in_place: bool
) -> None:
    node = steps.Node(None, b"")
    assert steps.in_place(steps.Step(steps.PUT, node, before, FILE), frozenset()) is is_in_place
    assert not steps.in_place(steps.Step(steps.PUT, node, before, FILE), frozenset({node.key}))
