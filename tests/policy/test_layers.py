from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nono_mcp.policy import files, layers
from nono_mcp.policy.document import Document, FilesystemSection, NetworkSection
from nono_mcp.policy.errors import PolicyError
from nono_mcp.policy.profiles import SHIPPED

if TYPE_CHECKING:
    from tests.policy.conftest import Machine


def names(machine: Machine, **changes: object) -> list[str]:
    request = machine.request(**changes)
    return [layer.name for layer in layers.layers_of(request, str(machine.workspace))[0]]


def test_without_a_word_it_is_the_default(machine: Machine) -> None:
    assert names(machine) == ["profile system", "profile default"]


def test_what_is_extended_comes_first_and_once(machine: Machine) -> None:
    assert names(machine, profile="claude-code") == [
        "profile system",
        "profile default",
        "profile python",
        "profile node",
        "profile claude-code",
    ]


def test_the_command_line_comes_last(machine: Machine) -> None:
    flags = Document(network=NetworkSection("closed"))
    assert names(machine, profile="open", flags=flags)[-2:] == ["profile open", "the command line"]


def test_a_persons_profile_extends_the_default_unless_it_says_otherwise(machine: Machine) -> None:
    machine.profile("mine", "")
    machine.profile("bare", "extends = []")
    machine.profile("both", 'extends = ["bare", "mine"]')
    system = ["profile system", "profile default"]
    assert names(machine, profile="mine") == [*system, "profile mine"]
    assert names(machine, profile="bare") == ["profile bare"]
    assert names(machine, profile="both") == [
        "profile bare",
        *system,
        "profile mine",
        "profile both",
    ]


def test_a_profile_may_be_a_file(machine: Machine) -> None:
    path = machine.profile("mine", "extends = []")
    assert names(machine, profile=str(path)) == [f"profile {path}"]


@pytest.mark.parametrize(
    ("profiles", "chosen", "message"),
    [
        ({}, "defualt", r"no profile defualt \(did you mean default\?\)"),
        ({}, "zzz", r"no profile zzz \(known are default, read-only, python, .*system\)"),
        ({"mine": ""}, "mien", r"no profile mien \(did you mean mine\?\)"),
        ({}, "/none/../x", "no profile /none/../x"),
        ({}, "X", "X isn't a profile's name"),
        ({}, "", "'' isn't a profile's name"),
        ({}, "/none/x.toml", "no profile /none/x.toml"),
        ({"a": '\nextends = "nope"'}, "a", r"a\.toml:2: no profile nope"),
        (
            {"a": 'extends = "b"', "b": '# b\nextends = ["default", "a"]'},
            "a",
            r"b\.toml:2: extends itself: a -> b -> a",
        ),
        ({"a": 'extends = "a"'}, "a", r"a\.toml:1: extends itself: a -> a"),
        ({"a": 'extends = "b"', "b": "\n\n[x]"}, "a", r"b\.toml:3: unknown key x"),
    ],
)
def test_a_profile_that_cant_be_had_says_why(
    machine: Machine, profiles: dict[str, str], chosen: str, message: str
) -> None:
    for name, text in profiles.items():
        machine.profile(name, text)
    with pytest.raises(PolicyError, match=message):
        names(machine, profile=chosen)


def test_a_chain_has_an_end(machine: Machine) -> None:
    for number in range(70):
        machine.profile(f"p{number}", f'extends = "p{number + 1}"')
    machine.profile("p70", "extends = []")
    with pytest.raises(PolicyError, match="extends over 64 profiles"):
        names(machine, profile="p0")


def trusted(machine: Machine, text: str) -> str:
    path = machine.workspace / "nono.toml"
    path.write_text(text)
    files.trust(str(path), str(machine.config))
    return str(path)


def test_a_trusted_workspace_chooses_the_profile(machine: Machine) -> None:
    trusted(machine, 'extends = "node"')
    assert names(machine)[-2:] == ["profile node", "nono.toml"]


def test_a_chosen_profile_stays_chosen_over_a_trusted_workspaces(machine: Machine) -> None:
    path = trusted(machine, 'extends = "open"\n[filesystem]\nread = ["/srv"]')
    request = machine.request(profile="read-only")
    found, notices = layers.layers_of(request, str(machine.workspace))
    assert [layer.name for layer in found] == ["profile system", "profile read-only", "nono.toml"]
    assert notices == [
        f"{path} is applied",
        "its extends is passed over: --profile read-only was chosen",
    ]


def test_nobody_is_said_to_have_chosen_the_profile_of_a_run_without_a_workspace(
    machine: Machine,
) -> None:
    trusted(machine, 'extends = "default"')
    _, notices = layers.layers_of(machine.request(profile="system"), str(machine.workspace))
    assert notices[-1] == (
        "its extends is passed over: profile system is in force (--allow-cwd applies it)"
    )


def test_an_untrusted_workspace_is_told_of_and_counts_nothing(machine: Machine) -> None:
    (machine.workspace / "nono.toml").write_text('extends = "open"')
    found, notices = layers.layers_of(machine.request(), str(machine.workspace))
    assert [layer.name for layer in found] == ["profile system", "profile default"]
    assert len(notices) == 1
    assert "is ignored" in notices[0]


def test_a_workspaces_mistake_is_told_with_its_place(machine: Machine) -> None:
    path = trusted(machine, "")
    text = '[filesystem]\nread = ["$WORKSPACE/none"]\n'
    trusted(machine, text)
    with pytest.raises(PolicyError) as caught:
        machine.prepare()
    assert str(caught.value).startswith(f"{path}:2: read {machine.workspace}/none: doesn't exist")


def test_a_shipped_profile_cant_be_replaced_by_the_persons(machine: Machine) -> None:
    machine.profile("default", "extends = []")
    assert layers.profile("default", str(machine.config)).document == SHIPPED["default"]


def test_flags_that_say_nothing_are_no_layer(machine: Machine) -> None:
    assert names(machine, flags=Document(filesystem=FilesystemSection()))[-1] == "profile default"


def test_a_profile_that_a_worker_could_write_isnt_taken(machine: Machine) -> None:
    (machine.workspace / "mine.toml").write_text("extends = []")
    (machine.root / "way").symlink_to(machine.workspace)
    machine.profile("mine", "")
    linked = machine.config / "profiles" / "linked.toml"
    linked.symlink_to(machine.workspace / "mine.toml")
    for name in (f"{machine.workspace}/mine.toml", f"{machine.root}/way/mine.toml", "linked"):
        with pytest.raises(PolicyError, match="lies in the workspace"):
            names(machine, profile=name)
