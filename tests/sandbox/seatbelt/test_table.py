"""What is said of a Mac, guarantee by guarantee, beside what is said of Linux."""

from __future__ import annotations

import pytest

from nono_mcp.policy.keys import GUARANTEES
from nono_sandbox import support
from nono_sandbox.confinement import CLOSED, OPEN, PORTS, SEATBELT
from nono_sandbox.seatbelt.table import ENFORCED, HELD, NOT, PARTLY, Facts, unusable

MAC = Facts("15.6.1", sandbox_exec=True)


def a_mac(facts: Facts = MAC) -> support.Support:
    return support.Support("24.6.0", "arm64", 0, 0, "", macos=facts)


def test_a_mac_answers_for_every_guarantee_that_a_policy_may_require() -> None:
    assert set(HELD) == set(GUARANTEES)
    given = support.guarantees(a_mac(), SEATBELT)
    assert [one.id for one in given] == list(GUARANTEES)
    assert [one.state for one in given].count(NOT) == 0


@pytest.mark.parametrize("guarantee", HELD)
def test_what_isnt_wholly_held_says_what_is_missing(guarantee: str) -> None:
    state, mechanism, reason = HELD[guarantee]
    assert state in (ENFORCED, PARTLY, NOT)
    assert bool(reason) is (state != ENFORCED)
    assert bool(mechanism) is (state != NOT)


def test_what_macos_has_no_means_for_is_said() -> None:
    reason = HELD["limits"][2]
    assert "memory and disk have none" in reason
    assert "root stays root" in HELD["privilege"][2]


@pytest.mark.parametrize(("network", "state"), [(CLOSED, PARTLY), (PORTS, PARTLY), (OPEN, NOT)])
def test_the_network_is_as_held_as_the_policy_says(network: str, state: str) -> None:
    given = {one.id: one for one in support.guarantees(a_mac(), SEATBELT, network)}
    assert given["network"].state == state


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        (Facts("", sandbox_exec=False), "isn't macOS"),
        (MAC.replace(release="12.7"), "12.7"),
        (MAC.replace(release="beta"), "beta"),
        (MAC.replace(sandbox_exec=False), "missing"),
        (MAC.replace(reason="it ended with 71"), "71"),
    ],
)
def test_where_nothing_can_be_applied_nothing_is_claimed(facts: Facts, why: str) -> None:
    assert why in unusable(facts)
    for one in support.guarantees(a_mac(facts), SEATBELT):
        assert one.state == NOT
        assert why in one.reason
        assert not one.mechanism


def test_linux_has_no_seatbelt() -> None:
    linux = support.Support("6.18", "x86_64", 7, 0, "")
    assert support.unavailable(linux, SEATBELT) == "this isn't macOS"
