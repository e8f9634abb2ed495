"""`nono policy` and `nono trust`."""

import json
import tomllib
from pathlib import Path

import pytest

from nono_mcp.policy.profiles import PROCESSES_MAX, SHIPPED
from nono_mcp.policy.schema import schema

from .conftest import Person


def policy(person: Person, *words: str) -> tuple[int, str, str]:
    done = person.nono("policy", *words)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", SHIPPED)
def test_a_profile_is_shown_as_a_policy_that_says_the_same(person: Person, name: str) -> None:
    status, output, _ = policy(person, "show", name)
    assert status == 0
    written = person.home / "shown.toml"
    written.write_text(output)
    assert policy(person, "show", str(written))[1].splitlines()[1:] == output.splitlines()[1:]


def test_options_are_shown_merged(person: Person) -> None:
    _, output, _ = policy(person, "show", "--allow-cwd", "--read", "/srv", "--timeout", "5")
    assert output.startswith("# made of: profile system, profile default, the command line\n")
    document = tomllib.loads(output)
    assert "/srv" in document["filesystem"]["read"]
    assert document["filesystem"]["allow"] == ["$WORKSPACE"]
    assert document["limits"] == {"timeout_s": 5.0, "processes_max": PROCESSES_MAX}


def test_a_program_is_shown_the_same(person: Person) -> None:
    _, output, _ = policy(person, "show", "--json", "read-only", "--env", "A=1")
    document = json.loads(output)
    assert document["id"] == "policy.show"
    assert document["ok"] is True
    assert document["layers"] == ["profile system", "profile read-only", "the command line"]
    assert document["policy"]["environment"] == {"set": {"A": "1"}}


def test_an_unknown_profile_is_refused_with_the_nearest(person: Person) -> None:
    assert policy(person, "show", "pyhton") == (
        126,
        "",
        "REFUSED no profile pyhton (did you mean python?)\n",
    )


def test_a_policy_is_validated(person: Person) -> None:
    good = person.workspace / "good.toml"
    good.write_text('extends = "python"\n[network]\nmode = "closed"\n')
    assert policy(person, "validate", "good.toml") == (0, "good.toml: a policy\n", "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[filesystem]\nraed = []\n", "bad.toml:2: unknown key raed in [filesystem]"),
        ("[filesystem\n", "bad.toml:1: not TOML"),
        ('\nextends = "pyhton"\n', "bad.toml: no profile pyhton (did you mean python?)"),
        ("[limits]\ntimeout_s = 0\n", "bad.toml:2: timeout_s must be"),
    ],
)
def test_a_mistake_is_told_with_its_line(person: Person, text: str, told: str) -> None:
    (person.workspace / "bad.toml").write_text(text)
    status, output, _ = policy(person, "validate", "bad.toml")
    assert status == 1
    (line,) = output.splitlines()
    assert line.startswith(told)


@pytest.mark.parametrize("path", ["missing.toml", ".", "/dev/zero", "/dev/null/x"])
def test_what_is_no_file_is_no_policy(person: Person, path: str) -> None:
    status, output, told = policy(person, "validate", path)
    assert (status, told) == (1, "")
    assert output.startswith(f"{path}: ")


def test_a_validation_tells_a_program_too(person: Person) -> None:
    (person.workspace / "good.toml").write_text("")
    (person.workspace / "bad.toml").write_text("x = 1\n")
    status, output, _ = policy(person, "validate", "--json", "good.toml", "bad.toml")
    document = json.loads(output)
    assert status == 1
    assert document["ok"] is False
    assert document["files"][0] == {"path": "good.toml", "error": None, "line": None}
    assert document["files"][1]["line"] == 1


def test_profiles_are_listed_with_the_persons_own(person: Person) -> None:
    assert policy(person, "init", "mine")[0] == 0
    profile = person.home / ".config/nono/profiles/mine.toml"
    profile.write_text('description = "All mine."\n')
    _, output, _ = policy(person, "list")
    lines = output.splitlines()
    assert [line.split()[0] for line in lines] == [*SHIPPED, "mine"]
    assert lines[-1].endswith("All mine. (yours)")
    document = json.loads(policy(person, "list", "--json")[1])
    assert document["profiles"][-1] == {
        "name": "mine",
        "from": "yours",
        "description": "All mine.",
    }


def test_the_schema_is_printed(person: Person) -> None:
    assert json.loads(policy(person, "schema")[1]) == schema()


@pytest.mark.parametrize(
    ("words", "made"),
    [
        ((), "work/nono.toml"),
        (("other.toml",), "work/other.toml"),
        (("./sub",), "work/sub"),
        (("mine",), "home/.config/nono/profiles/mine.toml"),
    ],
)
def test_what_init_makes_is_a_policy(
    person: Person, words: tuple[str, ...], made: str, tmp_path: Path
) -> None:
    path = tmp_path / made
    assert policy(person, "init", *words) == (0, f"made: {path}\n", "")
    assert policy(person, "validate", str(path))[0] == 0


def test_init_overwrites_nothing(person: Person) -> None:
    target = person.workspace / "elsewhere"
    (person.workspace / "nono.toml").symlink_to(target)
    assert policy(person, "init")[0] == 1
    assert not target.exists()
    assert policy(person, "init", "python")[0] == 1
    assert policy(person, "init", "Not A Name")[0] == 2


def test_a_profile_of_the_persons_own_can_be_run_under(person: Person) -> None:
    policy(person, "init", "mine")
    done = person.nono("run", "--profile", "mine", "--dry-run", "--json", "--", "true")
    assert json.loads(done.stdout)["limits"]["wall_s"] == 600.0


def test_a_workspace_policy_is_trusted_as_it_is(person: Person) -> None:
    path = person.workspace / "nono.toml"
    path.write_text("[limits]\ntimeout_s = 9\n")
    done = person.nono("trust")
    assert done.returncode == 0
    assert done.stdout.startswith("trusted: nono.toml (sha256 ")
    words = ("run", "--dry-run", "--json", "--", "true")
    assert json.loads(person.nono(*words).stdout)["limits"]["wall_s"] == 9.0
    path.write_text("[limits]\ntimeout_s = 10\n")
    again = person.nono(*words)
    assert "wall_s" not in json.loads(again.stdout)["limits"]
    assert "nono trust" in again.stderr


def test_what_is_no_policy_cant_be_trusted(person: Person) -> None:
    path = person.workspace / "nono.toml"
    path.write_text("x = 1\n")
    done = person.nono("trust", "--json")
    assert done.returncode == 126
    assert json.loads(done.stdout)["error"]["code"] == "policy"
    assert not (person.home / ".config/nono/trusted").exists()
