"""`nono why`: its answers, and that they are what `nono run` then does."""

import json
import random

import pytest

from .conftest import Person

pytestmark = pytest.mark.linux


def why(person: Person, *words: str) -> tuple[int, str, str]:
    done = person.nono("why", *words)
    return done.returncode, done.stdout, done.stderr


def test_what_is_open_is_told_with_its_rule(person: Person) -> None:
    (person.workspace / "file").touch()
    assert why(person, "--allow-cwd", "--op", "write", "file") == (
        0,
        f"open: write {person.workspace}/file\n  by profile default: allow $WORKSPACE\n",
        "",
    )


def test_what_is_closed_is_told_with_its_rule_and_remedy(person: Person) -> None:
    (person.home / ".ssh").mkdir()
    (person.home / ".ssh" / "key").touch()
    status, output, _ = why(person, str(person.home / ".ssh" / "key"))
    assert status == 1
    assert output.startswith(f"closed: read {person.home}/.ssh/key [fs.protected]\n")
    assert "SSH keys" in output
    assert f"--bypass {person.home}/.ssh" in output


def test_a_program_is_told_too(person: Person) -> None:
    status, output, _ = why(person, "--json", "--op", "list", ".")
    document = json.loads(output)
    assert status == 1
    assert document["id"] == "why"
    assert document["ok"] is True
    assert document["error"] is None
    assert document["allowed"] is False
    assert document["path"] == str(person.workspace)
    assert document["op"] == "list"
    assert document["code"] == "fs.outside-grants" or document["code"].startswith("fs.")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("--host", "example.org"), 1),
        (("--host", "example.org:80", "--open-net"), 0),
        (("--host", "127.0.0.1:80", "--connect-port", "80"), 0),
        (("--host", "[::1]:80", "--connect-port", "80"), 0),
        (("--host", "127.0.0.1:81", "--connect-port", "80"), 1),
        (("--host", "example.org:80", "--connect-port", "80"), 1),
    ],
)
def test_hosts_are_judged(person: Person, words: tuple[str, ...], status: int) -> None:
    assert why(person, *words)[0] == status


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("a", "b"),
        ("a", "--host", "b"),
        ("--op", "wirte", "a"),
        ("--host", "a b"),
        ("--host", "a:0"),
        ("--host", "a:99999"),
        ("--host", "h" * 300),
        ("--host", "a", "--op", "read"),
        ("",),
    ],
)
def test_what_is_no_question_is_told(person: Person, words: tuple[str, ...]) -> None:
    status, output, told = why(person, *words)
    assert (status, output) == (2, "")
    assert told.startswith("nono why: ")
    assert "Traceback" not in told


INSIDE = """
import json, os, sys
def attempt(operation, path):
    try:
        if operation == "list":
            return bool(os.listdir(path))
        if operation == "read":
            return open(path).read() == "words"
        with open(path, "a") as file:
            return file.write("s") and None
    except OSError:
        return False
print(json.dumps([attempt(*each) for each in json.load(sys.stdin)]))
"""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_answers_are_what_a_run_with_the_same_options_does(
    person: Person, tier: str, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same every time
    tree = person.home / "tree"
    directories = [tree / name for name in ("a", "a/b", "c", "c/d")]
    files = [directory / "file" for directory in directories]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("words")
    words = ["--tier", tier, "--read", str(chance.choice(directories))]
    words += ["--allow", str(chance.choice(directories[1::2]))]
    words += ["--read-file", str(chance.choice(files))]
    questions = [("read", file) for file in files] + [("list", each) for each in directories]
    questions += [("write", file) for file in files]
    asked = json.dumps([(operation, str(path)) for operation, path in questions])
    done = person.nono("run", *words, "--", "/usr/bin/python3", "-c", INSIDE, stdin=asked)
    for (operation, path), told in zip(questions, json.loads(done.stdout), strict=True):
        # What the sandbox has of its own at a path isn't what was asked about.
        happened = path.read_text() == "wordss" if operation == "write" else told
        status, output, _ = why(person, *words, "--op", operation, str(path))
        assert (status == 0) is happened, (words, operation, path, output)
