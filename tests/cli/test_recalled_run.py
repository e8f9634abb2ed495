"""A command line that was run before: as fast as its policy is known, and as confined as ever."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_mcp.policy import recall
from nono_sandbox.confinement import LANDLOCK, NAMESPACES

if TYPE_CHECKING:
    from tests.cli.conftest import Person

pytestmark = pytest.mark.linux
JUDGING = "nono_mcp.policy.load"


def imports(person: Person, *arguments: str, before: str = "", **more: str) -> set[str]:
    """Run a command line well, after the code *before*; return what of ours it imported."""
    finished = person.nono_after(before, *arguments, python=("-X", "importtime"), **more)
    finished.check_returncode()
    return set(re.findall(r"^import time:.*\| +(nono\S+)$", finished.stderr, re.MULTILINE))


def was_judged(person: Person, *arguments: str, before: str = "", **more: str) -> bool:
    return JUDGING in imports(person, *arguments, before=before, **more)


@pytest.fixture
def _namespaces(_namespaces_missing: str, person: Person) -> None:
    if _namespaces_missing:
        pytest.skip(_namespaces_missing)
    # As every run leaves it, the first too: that is judged where there is none yet.
    for ours in (".local/state/nono", ".config/nono"):
        (person.home / ours).mkdir(mode=0o700, parents=True)


with_namespaces = pytest.mark.usefixtures("_namespaces")


@with_namespaces
def test_a_second_run_is_not_judged_anew_whatever_the_command(person: Person) -> None:
    assert was_judged(person, "run", "--allow-cwd", "--", "true")
    assert not was_judged(person, "run", "--allow-cwd", "--", "true")
    assert not was_judged(person, "run", "--allow-cwd", "--", "echo", "--allow", "x")
    assert was_judged(person, "run", "--", "true")
    assert not was_judged(person, "run", "--", "true")


@with_namespaces
def test_one_that_may_be_judged_otherwise_is(person: Person) -> None:
    command = ("run", "--allow-cwd", "--", "true")
    assert was_judged(person, *command)
    assert was_judged(person, *command, LANG="C")
    assert not was_judged(person, *command, LANG="C")
    (person.home / ".aws").mkdir()
    assert was_judged(person, *command, LANG="C")
    assert not was_judged(person, *command, LANG="C")
    (person.workspace / ".mcp.json").touch()
    assert was_judged(person, *command, LANG="C")


@with_namespaces
@pytest.mark.parametrize(
    "options",
    [
        ("--env", "NONO_TEST_KEY"),
        ("--env", "NONO_TEST_KEY=hunter2"),
        ("--json",),
        ("-v",),
        ("--connect-port", "9"),
        ("--block-command", "dd"),
        ("--tier", LANDLOCK),
    ],
)
def test_what_is_more_than_a_plain_run_is_never_kept(
    person: Person, options: tuple[str, ...]
) -> None:
    for _ in range(2):
        done = person.nono("run", *options, "--", "true", environment={"NONO_TEST_KEY": "hunter2"})
        assert done.returncode == 0, done.stderr
    assert not (person.home / ".local/state/nono/recall").exists()


@with_namespaces
@pytest.mark.claim("environment.exact")
def test_nothing_of_the_environment_that_isnt_passed_on_is_kept(person: Person) -> None:
    for _ in range(2):
        done = person.nono(
            "run", "--", "env", environment={"NONO_TEST_KEY": "hunter2", "GIT_DIR": "hunter2"}
        )
        assert "hunter2" not in done.stdout
    kept = list((person.home / ".local/state/nono/recall").iterdir())
    assert kept
    assert not any(b"hunter2" in file.read_bytes() for file in kept)


@with_namespaces
@pytest.mark.claim("fs.denied-later")
def test_what_is_protected_later_is_protected_in_the_next_run(person: Person) -> None:
    hook = person.workspace / ".git/hooks/pre-commit"
    script = f"echo planted >{hook} && echo done"
    hook.parent.mkdir(parents=True)
    for _ in range(2):
        assert person.nono("run", "--allow-cwd", "--", "true").returncode == 0
    hook.write_text("mine\n")
    done = person.nono("run", "--allow-cwd", "--", "sh", "-c", script)
    assert ("done" in done.stdout, hook.read_text()) == (False, "mine\n")


@with_namespaces
@pytest.mark.claim("fs.denied-later")
def test_another_name_that_a_closed_file_was_given_since_opens_nothing(person: Person) -> None:
    """All that is closed lies within what is granted, our own state too."""
    secret = person.home / ".ssh/id_ed25519"
    secret.parent.mkdir()
    secret.write_text("hunter2")
    copy = person.workspace / "copy"
    options = ("run", "--read", str(person.home), "--allow-cwd", "--")
    assert was_judged(person, *options, "true")
    assert not was_judged(person, *options, "true")
    # What was installed is remembered for itself.
    assert person.nono(*options, "true").returncode == 0
    copy.hardlink_to(secret)
    for _ in range(2):
        done = person.nono(*options, "cat", str(copy))
        assert (done.returncode, done.stdout) == (1, "")
    assert was_judged(person, *options, "true")
    assert not was_judged(person, *options, "true")


@with_namespaces
@pytest.mark.claim("fs.deny-by-default")
def test_a_grant_that_leads_elsewhere_opens_what_it_did_no_more(person: Person) -> None:
    around = person.home.parent
    data, other = around / "data", around / "other"
    for directory in (data, other):
        directory.mkdir()
        (directory / "name").write_text(directory.name)
    link = around / "link"
    link.symlink_to(data)
    command = ("run", "--read", str(link), "--", "sh", "-c", f"cat {link}/name; cat {data}/name")
    for _ in range(2):
        assert person.nono(*command).stdout == "datadata"
    link.unlink()
    link.symlink_to(other)
    assert person.nono(*command).stdout == "other"


@with_namespaces
def test_the_private_home_is_there_again_if_it_was_taken_away(person: Person) -> None:
    for _ in range(2):
        assert person.nono("run", "--", "sh", "-c", "touch ~/kept && cat ~/kept").returncode == 0
    subprocess.run(["rm", "-r", str(person.home / ".local/state/nono/homes")], check=True)
    assert person.nono("run", "--", "sh", "-c", "touch ~/kept && cat ~/kept").returncode == 0


@with_namespaces
def test_how_it_ends_is_told_as_the_first_time(person: Person) -> None:
    (person.home / "secret").touch()
    for command in (
        ("sh", "-c", "exit 7"),
        ("sh", "-c", "kill -9 $$"),
        ("no-such-program",),
        ("cat", str(person.home / "secret")),
        ("/",),
    ):
        # What was kept for another command is good for this one.
        first = person.nono("run", "--best-effort", "--", *command)
        assert person.nono("run", "--", "true").returncode == 0
        again = person.nono("run", "--", *command)
        assert (again.returncode, again.stderr) == (first.returncode, first.stderr)
    assert person.nono("run", "--", "").returncode == 2
    assert person.nono("run", "--", "a\x01").returncode == 127


@with_namespaces
def test_what_a_run_plants_is_put_right_and_told(person: Person) -> None:
    for _ in range(2):
        done = person.nono("run", "--allow-cwd", "--", "sh", "-c", "echo '{}' >.mcp.json")
        assert "taken away again" in done.stderr
        assert not (person.workspace / ".mcp.json").exists()


@with_namespaces
def test_the_network_is_the_one_that_was_judged(person: Person) -> None:
    listing = ("cat", "/proc/net/dev")
    own = [one.name for one in Path("/sys/class/net").iterdir()]
    for options, names in ((("--open-net",), own), ((), ["lo"])):
        for _ in range(2):
            said = person.nono("run", *options, "--", *listing).stdout
            found = [line.partition(":")[0].strip() for line in said.splitlines()[2:]]
            assert sorted(found) == sorted(names)


@with_namespaces
def test_a_machine_that_gives_no_namespaces_any_more_is_judged_for_the_second_tier(
    person: Person,
) -> None:
    command = ("run", "--", "true")
    assert was_judged(person, *command)
    assert not was_judged(person, *command)
    refusing = """
from nono_sandbox import _uapi
def refuse(_): raise PermissionError(1, "none here")
_uapi.fork_into = refuse
"""
    assert was_judged(person, *command, before=refusing)
    assert "nono_sandbox.landlock" in imports(person, *command)


def test_the_second_tier_judges_each_time(person: Person) -> None:
    for _ in range(2):
        assert was_judged(person, "run", "--tier", LANDLOCK, "--", "true")


@with_namespaces
def test_a_tier_that_is_insisted_on_is_remembered(person: Person) -> None:
    command = ("run", "--tier", NAMESPACES, "--", "true")
    assert was_judged(person, *command)
    assert not was_judged(person, *command)


@with_namespaces
def test_a_run_with_a_proxy_is_judged_each_time_and_leaves_nothing_it_was_lent(
    person: Person,
) -> None:
    for _ in range(3):
        done = person.nono("run", "--allow-domain", "example.com", "--", "true")
        assert (done.returncode, done.stderr) == (0, "")
    recalled = person.home / ".local/state/nono" / recall.FOLDER
    assert not [one for one in recalled.glob("*") if b"nono:" in one.read_bytes()]


@with_namespaces
def test_what_somebody_else_wrote_there_decides_nothing(person: Person) -> None:
    """As a worker could have while that wasn't our state yet."""
    command = ("run", "--", "true")
    assert was_judged(person, *command)
    assert not was_judged(person, *command)
    (person.home / ".config/nono" / recall.KEY).write_bytes(bytes(recall.KEY_BYTES))
    assert was_judged(person, *command)
    assert not was_judged(person, *command)
    (person.home / ".config/nono" / recall.KEY).unlink()
    assert was_judged(person, *command)


@with_namespaces
def test_a_home_that_its_worker_opened_to_others_is_not_remembered(person: Person) -> None:
    command = ("run", "--", "sh", "-c", 'chmod 755 "$HOME"; sleep 0.5')
    assert person.nono(*command).returncode == 0
    assert was_judged(person, *command)
