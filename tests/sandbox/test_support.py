"""What is said of a Linux; of a Mac, seatbelt/test_table.py has it."""

from __future__ import annotations

import pytest

from nono_sandbox import support
from nono_sandbox.confinement import CLOSED, LANDLOCK, NAMESPACES, OPEN, PORTS
from nono_sandbox.domain import ABI_REQUIRED
from nono_sandbox.support import ENFORCED, NOT, PARTLY, Guarantee, Support
from nono_sandbox.system import LINUX

pytestmark = pytest.mark.linux
FACTS = Support(
    kernel="6.18", machine="x86_64", landlock_abi=7, landlock_errata=7, namespaces_reason=""
)


def of(given: tuple[Guarantee, ...], name: str) -> Guarantee:
    (found,) = [one for one in given if one.id == name]
    return found


@pytest.mark.parametrize(
    ("changes", "tier"),
    [
        ({}, NAMESPACES),
        ({"namespaces_reason": "EPERM"}, LANDLOCK),
        ({"namespaces_reason": "EPERM", "landlock_abi": 5}, ""),
        ({"landlock_abi": 5}, NAMESPACES),
        ({"landlock_abi": ABI_REQUIRED[NAMESPACES] - 1}, ""),
        ({"landlock_abi": 0}, ""),
        ({"filter_known": False}, ""),
    ],
)
def test_the_best_tier_is_the_first_that_can_be_had(changes: dict[str, object], tier: str) -> None:
    assert support.best_tier(FACTS.replace(**changes)) == tier


@pytest.mark.parametrize("tier", [NAMESPACES, LANDLOCK])
@pytest.mark.parametrize("network", [CLOSED, PORTS, OPEN])
def test_what_isnt_enforced_has_a_reason(tier: str, network: str) -> None:
    given = support.guarantees(FACTS, tier, network)
    for one in given:
        assert (one.state == ENFORCED) == (not one.reason)
        assert one.mechanism or one.state == NOT


@pytest.mark.parametrize("tier", [NAMESPACES, LANDLOCK])
def test_a_tier_that_cant_be_had_gives_nothing(tier: str) -> None:
    facts = FACTS.replace(landlock_abi=0)
    for one in support.guarantees(facts, tier):
        assert one.state == NOT
        assert "Landlock" in one.reason


@pytest.mark.parametrize("tier", [NAMESPACES, LANDLOCK])
def test_each_tier_gives_all_in_part_at_least(tier: str) -> None:
    assert all(one.state != NOT for one in support.guarantees(FACTS, tier))


@pytest.mark.parametrize("tier", [NAMESPACES, LANDLOCK])
def test_what_is_required_and_not_given_is_named(tier: str) -> None:
    given = support.guarantees(FACTS, tier, OPEN)
    assert [one.id for one in given if one.state == NOT] == ["network"]
    assert support.lacking(["files", "network"], given) == (of(given, "network"),)
    assert support.lacking(["files"], given) == ()


@pytest.mark.parametrize("tier", [NAMESPACES, LANDLOCK])
def test_a_network_that_is_opened_isnt_closed(tier: str) -> None:
    assert of(support.guarantees(FACTS, tier, CLOSED), "network").state == ENFORCED
    assert of(support.guarantees(FACTS, tier, PORTS), "network").state == PARTLY
    assert of(support.guarantees(FACTS, tier, OPEN), "network").state == NOT


def test_abstract_sockets_need_a_network_or_a_kernel_that_confines_them() -> None:
    old = FACTS.replace(landlock_abi=5)
    assert of(support.guarantees(old, NAMESPACES, CLOSED), "unix-sockets").state == PARTLY
    assert of(support.guarantees(old, NAMESPACES, OPEN), "unix-sockets").state == NOT
    assert of(support.guarantees(FACTS, NAMESPACES, OPEN), "unix-sockets").state == PARTLY


@pytest.mark.parametrize("tier", [NAMESPACES, LANDLOCK])
@pytest.mark.parametrize("kernel", ["6.12", "6.18"])
def test_limits_say_by_what_they_are_held(tier: str, kernel: str) -> None:
    facts = FACTS.replace(kernel=kernel)
    without = of(support.guarantees(facts, tier), "limits")
    assert "control groups" not in without.mechanism
    assert "memory" in without.reason
    given = of(support.guarantees(facts.replace(groups_reason=""), tier), "limits")
    assert "control groups" in given.mechanism
    assert given.state == PARTLY
    assert "memory" not in given.reason


def test_this_machine_is_found_out_about() -> None:
    facts = support.probe()
    assert facts.kernel
    assert facts.landlock_abi > 0
    assert facts.filter_known
    assert support.best_tier(facts) in LINUX.tiers
