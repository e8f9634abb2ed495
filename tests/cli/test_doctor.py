import json
import re

import pytest

from nono_mcp import doctor
from nono_mcp.cli import doctor as report
from nono_mcp.policy.keys import GUARANTEES
from nono_sandbox import forkserver
from nono_sandbox.support import Support

from .conftest import Person

pytestmark = pytest.mark.linux


def test_it_tells_of_every_guarantee_in_both_tiers(person: Person) -> None:
    done = person.nono("doctor", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 0
    assert document["id"] == "doctor"
    assert document["ok"] is True
    assert document["error"] is None
    assert document["landlock"]["abi"] > 0
    assert [tier["name"] for tier in document["tiers"]] == ["namespaces", "landlock"]
    for tier in document["tiers"]:
        assert tuple(one["id"] for one in tier["guarantees"]) == GUARANTEES
        for one in tier["guarantees"]:
            assert one["state"] in {"enforced", "partly", "not"}
            assert bool(one["reason"]) == (one["state"] != "enforced")
            assert tier["available"] or one["state"] == "not"


def test_the_tier_it_names_is_the_one_that_a_run_takes(person: Person) -> None:
    named = json.loads(person.nono("doctor", "--json").stdout)["tier"]
    taken = json.loads(person.nono("run", "--dry-run", "--json", "--", "true").stdout)["tier"]
    assert named == taken


def test_a_person_reads_a_table(person: Person) -> None:
    lines = person.nono("doctor").stdout.splitlines()
    for guarantee in GUARANTEES:
        pattern = rf" +{guarantee} +(enforced|partly|not) +\S"
        assert len([line for line in lines if re.match(pattern, line)]) == 2


def test_it_finds_a_keychain_or_says_why_not(person: Person) -> None:
    keychain = json.loads(person.nono("doctor", "--json").stdout)["keychain"]
    assert bool(keychain["name"]) != bool(keychain["reason"])


FACTS = Support(
    kernel="6.8.0",
    machine="x86_64",
    landlock_abi=4,
    landlock_errata=0,
    namespaces_reason="unshare: Operation not permitted",
)


@pytest.mark.parametrize(
    ("knobs", "files", "told"),
    [
        ({"user.max_user_namespaces": "0"}, (), "user namespaces are turned off"),
        ({"kernel.unprivileged_userns_clone": "0"}, (), "only root may have user namespaces"),
        ({"kernel.apparmor_restrict_unprivileged_userns": "1"}, (), "AppArmor"),
        ({}, ("/.dockerenv",), "container"),
        ({}, ("/run/.containerenv",), "container"),
    ],
)
def test_it_says_what_may_stand_in_the_way_of_namespaces(
    knobs: dict[str, str], files: tuple[str, ...], told: str
) -> None:
    remarks = doctor.remarks_on(FACTS, lambda name: knobs.get(name, ""), lambda path: path in files)
    assert any(told in remark for remark in remarks)


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (FACTS, "namespaces: not here: unshare: Operation not permitted"),
        (FACTS.replace(landlock_abi=0), "landlock: not here: Landlock isn't in this kernel, "),
    ],
)
def test_it_says_once_why_a_tier_isnt_here(facts: Support, told: str) -> None:
    tier = doctor._tier(facts, told.partition(":")[0])  # noqa: SLF001 - of such a machine
    assert report._tier(tier, chosen=False)[0].startswith(told)  # noqa: SLF001 - likewise


def test_why_no_namespaces_are_to_be_had_says_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(1, "unshare: Operation not permitted")

    monkeypatch.setattr("nono_sandbox.namespaces.enter", refuse)
    assert forkserver.trial() == "unshare: Operation not permitted"


def test_where_namespaces_are_to_be_had_nothing_stands_in_the_way() -> None:
    facts = FACTS.replace(namespaces_reason="")
    remarks = doctor.remarks_on(facts, lambda _: "0", lambda _: True)
    assert not any("namespace" in remark for remark in remarks)


def test_it_knows_wsl() -> None:
    facts = FACTS.replace(kernel="5.15.90.1-microsoft-standard-WSL2")
    remarks = doctor.remarks_on(facts, lambda _: "", lambda _: False)
    assert any("WSL" in remark for remark in remarks)
