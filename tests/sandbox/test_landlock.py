"""Landlock, version by version: what a kernel lacks is refused, and what it has is handled."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from nono_sandbox import _uapi, domain, landlock
from nono_sandbox.confinement import (
    LANDLOCK,
    NAMESPACES,
    READ,
    WRITE,
    Confinement,
    Denial,
    Grant,
    Network,
)
from nono_sandbox.errors import ConfinementError, UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.conftest import Confine, Yard

pytestmark = pytest.mark.linux


@pytest.mark.parametrize(
    ("abi", "rights", "ports", "scopes"),
    [
        (0, 0, 0, 0),
        (1, 0x1FFF, 0, 0),
        (2, 0x3FFF, 0, 0),
        (3, 0x7FFF, 0, 0),
        (4, 0x7FFF, 3, 0),
        (5, 0xFFFF, 3, 0),
        (6, 0xFFFF, 3, 3),
        (7, 0xFFFF, 3, 3),
        (8, 0xFFFF, 3, 3),
        (9, 0x1FFFF, 3, 3),
        (99, 0x1FFFF, 3, 3),
    ],
)
def test_a_version_handles_what_it_and_those_before_it_brought(
    abi: int, rights: int, ports: int, scopes: int
) -> None:
    assert landlock.handled(abi) == (rights, ports, scopes)


def test_the_kernel_takes_all_that_its_version_is_said_to_handle() -> None:
    os.close(landlock.create_ruleset(*landlock.handled(landlock.abi_version())))


@pytest.mark.claim("support.required")
@pytest.mark.parametrize(("tier", "least"), [(NAMESPACES, 3), (LANDLOCK, 6)])
def test_a_kernel_too_old_for_a_tier_is_refused_it(
    monkeypatch: pytest.MonkeyPatch, tier: str, least: int
) -> None:
    for abi in range(least):
        monkeypatch.setattr(landlock, "abi_version", lambda abi=abi: abi)
        with pytest.raises(UnsupportedError, match=f"ABI {abi}"):
            domain.ruleset(Confinement("/"), tier)


@pytest.mark.parametrize("abi", [6, 7])
def test_an_older_kernel_is_asked_for_no_right_it_doesnt_know(
    monkeypatch: pytest.MonkeyPatch, abi: int, tmp_path: Path
) -> None:
    asked = []

    def created(attr: bytes | None, flags: int) -> int:
        asked.append(attr)
        return real(attr, flags)

    real = _uapi.landlock_create_ruleset
    monkeypatch.setattr(landlock, "abi_version", lambda: abi)
    monkeypatch.setattr(_uapi, "landlock_create_ruleset", created)
    confinement = Confinement("/", (Grant(str(tmp_path), READ | WRITE),))
    os.close(domain.ruleset(confinement, LANDLOCK))
    rights, ports, scopes = landlock.handled(abi)
    expected = b"".join(value.to_bytes(8, "little") for value in (rights, ports, scopes))
    assert asked == [expected]


def test_no_grant_gives_a_device_or_the_driving_of_one() -> None:
    for access in (READ, WRITE, READ | WRITE):
        rights = landlock.rights_for(access)
        assert not rights & (landlock.MAKE_CHAR | landlock.MAKE_BLOCK | landlock.IOCTL_DEV)
    assert not landlock.rights_for(READ) & landlock.ON_WRITE
    assert not landlock.rights_for(WRITE) & landlock.ON_READ


def test_ports_are_ruled_on_unless_the_network_is_open_or_the_sandboxs_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    real = landlock.create_ruleset

    def created(rights: int, ports: int, scopes: int) -> int:
        made.append(ports)
        return real(rights, ports, scopes)

    monkeypatch.setattr(landlock, "create_ruleset", created)
    for mode in ("closed", "ports", "open"):
        os.close(domain.ruleset(Confinement("/", network=Network(mode)), LANDLOCK))
    assert made == [3, 3, 0]


@pytest.mark.claim("fs.denied-inside")
@pytest.mark.parametrize(
    ("granted", "access", "denied", "denied_access", "refused"),
    [
        ("/a", READ, "/a/b", READ | WRITE, True),
        ("/a", READ, "/a", READ | WRITE, True),
        ("/a", READ, "/a/b", WRITE, False),
        ("/a", WRITE, "/a/b", WRITE, True),
        ("/a/b", READ, "/a", READ | WRITE, False),
        ("/a", READ, "/ab", READ | WRITE, False),
        ("/", READ, "/a", READ | WRITE, True),
    ],
)
def test_without_mounts_a_denial_is_refused_just_where_a_grant_would_break_it(
    granted: str, access: int, denied: str, denied_access: int, *, refused: bool
) -> None:
    confinement = Confinement("/", (Grant(granted, access),), (Denial(denied, denied_access),))
    with pytest.raises(ConfinementError) as caught:
        domain.ruleset(confinement, LANDLOCK)
    assert ("can't be denied" in str(caught.value)) == refused


def test_five_thousand_grants_are_kept_apart(confine: Confine, yard: Yard) -> None:
    for number in range(5000):
        (yard.outside / f"{number}").mkdir()
    grants = [yard.granted(yard.outside / f"{number}", READ) for number in range(0, 5000, 2)]
    outcome = confine(*grants).attack(
        """
        outside, = ARGUMENTS
        for number in (0, 1, 2500, 2501, 4998, 4999):
            attempt(f"{number}", lambda: os.listdir(f"{outside}/{number}"))
        """,
        yard.outside,
    )
    assert outcome.done == ["0", "2500", "4998"]
