"""`nono run --rollback`: the person is asked at the end, and what isn't answered is kept."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nono_mcp.audit.reading import Filters, tail
from nono_mcp.cli.choosing import CHOOSING, QUESTION, numbers_in

from .conftest import LONG_ENOUGH_S, NONO, Person, Terminal, eventually

pytestmark = pytest.mark.linux

Open = Callable[..., Terminal]
HARM = "echo worse > a; rm gone; mkdir -p d; echo new > 'd/odd [x]*'; exit 3"
ASKED = QUESTION.rstrip()


def command(*options: str, script: str = HARM) -> tuple[str, ...]:
    return (str(NONO), "run", "--allow-cwd", *options, "--", "sh", "-c", script)


def furnish(person: Person) -> dict[str, str]:
    (person.workspace / "a").write_text("as it was\n")
    (person.workspace / "gone").write_text("gone\n")
    return contents(person)


def contents(person: Person) -> dict[str, str]:
    root = person.workspace
    return {
        str(path.relative_to(root)): path.read_text() if path.is_file() else ""
        for path in root.rglob("*")
    }


def without_terminal(person: Person, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        capture_output=True,
        check=False,
        cwd=person.workspace,
        env=person.environment(),
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=LONG_ENOUGH_S,
    )


@pytest.mark.claim("undo.run")
def test_everything_is_put_back_and_the_status_is_the_programs(
    terminal: Open, person: Person, tier: str
) -> None:
    before = furnish(person)
    window = terminal(*command("--rollback", "--tier", tier))
    asked = window.expect(ASKED)
    assert "2 added, 1 modified, 1 deleted" in asked
    window.type("a\r")
    assert window.status() == 3
    assert contents(person) == before
    # And that can be undone.
    undo = window.shown.partition("undo this: nono rollback ")[2].split()[0]
    assert person.nono("rollback", undo, "--yes").returncode == 0
    assert contents(person)["a"] == "worse\n"


@pytest.mark.claim("undo.run")
@pytest.mark.parametrize("typed", ["\r", "k\r", "nonsense\rk\r", "\3", "\4", "\34"])
def test_whatever_isnt_a_yes_keeps_what_was_done(
    terminal: Open, person: Person, typed: str
) -> None:
    furnish(person)
    window = terminal(*command("--rollback"))
    for answer in typed.splitlines(keepends=True):
        window.expect(ASKED)
        window.type(answer)
    assert window.status() == 3
    assert contents(person)["a"] == "worse\n"
    assert window.settings() == window.at_first
    undo = window.shown.partition("undo: nono rollback ")[2].split()[0]
    assert person.nono("rollback", undo, "--yes").returncode == 0
    assert contents(person)["a"] == "as it was\n"


def test_a_terminal_that_hangs_up_keeps_what_was_done(terminal: Open, person: Person) -> None:
    furnish(person)
    window = terminal(*command("--rollback"))
    window.expect(ASKED)
    window.hang_up()
    assert window.process.wait(LONG_ENOUGH_S) == 3
    assert contents(person)["a"] == "worse\n"


@pytest.mark.claim("undo.run")
def test_files_are_chosen_by_number(terminal: Open, person: Person) -> None:
    before = furnish(person)
    window = terminal(*command("--rollback"))
    window.expect(ASKED)
    window.type("c\r")
    listed = window.expect(CHOOSING.rstrip())
    numbers = {
        line.split()[-2 if "bytes)" in line else 2]: line.split()[0]
        for line in listed.splitlines()
        if line.strip()[:1].isdigit()
    }
    assert len(numbers) == 4, listed
    window.type("d 1\r")
    assert "+worse" in window.expect(CHOOSING.rstrip())
    for wrong in ("9", "0", "1-", "x"):
        window.type(wrong + "\r")
        window.expect("numbers from 1 to 4")
        # What is typed before it asks again is no answer.
        window.expect(CHOOSING.rstrip())
    odd = next(line.split()[0] for line in listed.splitlines() if "odd" in line)
    gone = next(line.split()[0] for line in listed.splitlines() if "gone" in line)
    window.type(f"{odd} {gone}\r")
    assert window.status() == 3
    now = contents(person)
    assert now == before | {"a": "worse\n", "d": ""}


def test_what_was_typed_before_the_question_is_no_answer(terminal: Open, person: Person) -> None:
    furnish(person)
    script = "echo ready; while ! test -e go; do sleep 0.05; done; echo worse > a"
    inner = command("--rollback", script=script)
    # Where output is a pipe, the program has the person's own terminal for its input.
    window = terminal("/bin/sh", "-c", '"$@" | cat', "sh", *inner)
    window.expect("ready")
    window.type("a\r")
    window.expect("a\r\n")
    (person.workspace / "go").touch()
    window.expect(ASKED)
    window.type("k\r")
    assert window.status() == 0
    assert contents(person)["a"] == "worse\n"


def test_a_terminal_left_raw_can_be_answered_at(terminal: Open, person: Person) -> None:
    before = furnish(person)
    script = "stty raw -echo; rm gone; kill -9 $$"
    inner = command("--rollback", script=script)
    window = terminal("/bin/sh", "-c", '"$@" | cat', "sh", *inner)
    window.expect(ASKED)
    window.type("a\r")
    window.expect("verified")
    assert window.status() == 0  # cat's
    assert contents(person) == before


@pytest.mark.claim("undo.run")
def test_where_nobody_can_be_asked_nothing_is_run(person: Person) -> None:
    before = furnish(person)
    for words in (command("--rollback"), command("--rollback", "--json")):
        done = without_terminal(person, *words)
        assert done.returncode == 2
        assert "--rollback=keep" in done.stderr
    assert without_terminal(person, *command("--rollback=some")).returncode == 2
    assert contents(person) == before


@pytest.mark.claim("undo.run")
def test_a_value_answers_without_a_terminal(person: Person, tier: str) -> None:
    before = furnish(person)
    done = without_terminal(person, *command("--rollback=all", "--tier", tier))
    assert done.returncode == 3, done.stderr
    assert "verified" in done.stderr
    assert contents(person) == before
    done = without_terminal(person, *command("--rollback=keep", "--json"))
    assert done.returncode == 3
    told = json.loads(done.stderr)
    assert contents(person)["a"] == "worse\n"
    undo = told["undo"]
    assert (undo["changes"]["deleted"], undo["put_back"], undo["error"]) == (1, None, None)
    again = without_terminal(person, *command("--rollback=all", "--json", script="rm a; exit 0"))
    assert again.returncode == 0
    assert json.loads(again.stderr)["undo"]["put_back"]["verified"] is True
    assert person.nono("rollback", undo["before"], "--yes").returncode == 0
    assert contents(person) == before


def test_nobody_is_asked_about_nothing(terminal: Open, person: Person) -> None:
    furnish(person)
    window = terminal(*command("--rollback", script="cat a"))
    assert window.status() == 0
    assert "nothing changed" in window.shown
    done = without_terminal(person, str(NONO), "run", "--rollback=all", "--", "cat", "/dev/null")
    assert (done.returncode, "can't be written" in done.stderr) == (0, True)


def test_what_cannot_be_kept_is_not_run(person: Person) -> None:
    before = furnish(person)
    store = person.home / ".local" / "state" / "nono" / "snapshots"
    store.mkdir(parents=True)
    store.chmod(0o755)
    done = without_terminal(person, *command("--rollback=keep"))
    assert done.returncode == 126
    assert done.stderr.startswith("REFUSED the workspace can't be kept")
    assert contents(person) == before


def test_what_is_written_elsewhere_is_said_not_to_be_kept(person: Person, tmp_path: Path) -> None:
    furnish(person)
    other = tmp_path / "other"
    other.mkdir()
    done = without_terminal(person, *command("--rollback=all", "--allow", str(other)))
    assert "not kept, since it isn't in the workspace: " in done.stderr
    assert str(other) in done.stderr


@pytest.mark.claim("undo.recorded")
def test_one_id_leads_from_the_run_to_its_snapshots(person: Person) -> None:
    furnish(person)
    done = without_terminal(person, *command("--rollback=all", "--audit"))
    assert done.returncode == 3, done.stderr
    records = tail(str(person.home / ".local" / "state" / "nono"), Filters(), 100).records
    (start,) = [one for one in records if one.kind == "call.start"]
    call = start.data["call"]
    told = [one.kind for one in records if one.data.get("call") == call]
    assert told == ["call.start", "snapshot", "snapshot", "call.end"]
    before = next(one.data for one in records if one.kind == "snapshot")
    rollback = [one.data for one in records if one.kind == "rollback"]
    assert [one["phase"] for one in rollback] == ["start", "end"]
    assert {one["id"] for one in rollback} == {before["id"]}
    listed = json.loads(person.nono("snapshot", "list", "--json").stdout)["snapshots"]
    assert [one["call"] for one in listed if one["call"]] == [call, call]


def test_a_rollback_meanwhile_is_refused(person: Person) -> None:
    furnish(person)
    script = "echo worse > a; touch ready; while ! test -e go; do sleep 0.05; done"
    running = subprocess.Popen(
        command("--rollback=keep", script=script),
        cwd=person.workspace,
        env=person.environment(),
        stderr=subprocess.DEVNULL,
    )
    assert eventually((person.workspace / "ready").exists)
    refused = person.nono("rollback", "--yes")
    (person.workspace / "go").touch()
    assert running.wait(LONG_ENOUGH_S) == 0
    assert refused.returncode == 1
    assert "something runs in this workspace" in refused.stderr
    assert contents(person)["a"] == "worse\n"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1", [1]),
        ("3, 1-2 2", [1, 2, 3]),
        ("", None),
        ("0", None),
        ("6", None),
        ("2-1", None),
        ("1-", None),
        ("-1", None),
        ("1 x", None),
        ("²", None),
        ("1" * 5000, None),
    ],
)
def test_what_is_a_list_of_numbers(text: str, numbers: list[int] | None) -> None:
    assert numbers_in(text, 5) == numbers


@pytest.mark.claim("guard.beneath")
def test_what_a_kept_run_plants_deeper_down_is_taken_away(person: Person, tier: str) -> None:
    furnish(person)
    (person.workspace / "e").mkdir()
    (person.workspace / "e" / ".npmrc").write_text("mine\n")
    script = "mkdir d; echo evil > d/.envrc; echo evil > e/.npmrc; echo worse > a"
    done = without_terminal(person, *command("--rollback=keep", "--tier", tier, script=script))
    assert f"taken away again: {person.workspace}/d/.envrc " in done.stderr
    assert f"put back as it was: {person.workspace}/e/.npmrc " in done.stderr
    now = contents(person)
    assert (now["e/.npmrc"], now["a"]) == ("mine\n", "worse\n")
    assert "d/.envrc" not in now
