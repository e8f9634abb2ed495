"""What doctor says of a Mac."""

from __future__ import annotations

import pytest

from nono_sandbox.seatbelt.table import FULLY, NOT, PARTLY, ROWS, Facts, doctor

MAC = Facts("15.6.1", sandbox_exec=True, compiles=True)


def test_a_mac_shows_the_table() -> None:
    assert doctor(MAC) == ROWS


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (Facts("", sandbox_exec=False, compiles=False), "isn't macOS"),
        (MAC.replace(release="12.7"), "12.7"),
        (MAC.replace(release="beta"), "beta"),
        (MAC.replace(sandbox_exec=False), "missing"),
        (MAC.replace(nested=True), "second profile"),
        (MAC.replace(compiles=False), "doesn't take"),
    ],
)
def test_where_nothing_can_be_applied_nothing_is_claimed(facts: Facts, why: str) -> None:
    rows = doctor(facts)
    assert [row.id for row in rows] == [row.id for row in ROWS]
    assert all(row.enforced == NOT and why in row.missing and not row.mechanism for row in rows)


def test_what_isnt_fully_held_says_what_is_missing() -> None:
    for row in ROWS:
        assert row.enforced in (FULLY, PARTLY, NOT)
        assert bool(row.missing) is (row.enforced != FULLY), row.id
    assert len({row.id for row in ROWS}) == len(ROWS)
