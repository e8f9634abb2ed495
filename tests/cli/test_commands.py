"""What every command has in common: help, errors on one line, no traceback whatever is typed."""

import json
import shlex
import subprocess
from collections.abc import Iterator

import pytest

from nono_mcp import __version__
from nono_mcp.cli import COMMANDS, completion, options
from nono_mcp.cli.options import Option

from .conftest import NONO, Person

WITH_USAGE = [
    "run",
    "shell",
    "why",
    "doctor",
    "policy",
    "trust",
    "install",
    "credential",
    "serve",
    "proxy",
    "snapshot",
    "rollback",
    "completion",
]
ODD = ["", "\n", "-", "--", "\x1b[31m", "ünïcödé", b"\xff\xfe", "x" * 100_000, "a\tb", "$HOME"]


def usage_of(name: str) -> str:
    module = __import__(f"nono_mcp.cli.{name}", fromlist=["USAGE"])
    usage: str = module.USAGE
    return usage


def options_of(name: str) -> tuple[Option, ...]:
    module = __import__(f"nono_mcp.cli.{name}", fromlist=["OPTIONS"])
    found: tuple[Option, ...] = module.OPTIONS
    return found


def examples_of(name: str) -> Iterator[list[str]]:
    """Yield the command lines of a usage that stand alone, without what a shell does to them."""
    for line in usage_of(name).splitlines():
        if line.startswith("  nono "):
            for part in line.split("&&"):
                command = part.partition(" | ")[0].partition(" > ")[0].partition("     (")[0]
                yield shlex.split(command)[1:]


def test_the_version_is_printed(person: Person) -> None:
    assert person.nono("--version").stdout == f"nono {__version__}\n"


@pytest.mark.parametrize("words", [(), ("help",), ("--help",), ("-h",), ("help", "--help")])
def test_help_names_every_command(person: Person, words: tuple[str, ...]) -> None:
    done = person.nono(*words)
    assert done.returncode == 0
    for name, about in COMMANDS.items():
        assert f"  {name:<12}{about}\n" in done.stdout


@pytest.mark.parametrize("name", WITH_USAGE)
def test_every_command_has_a_usage_with_an_example(person: Person, name: str) -> None:
    done = person.nono(name, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: nono {name}")
    assert "Exit status: " in done.stdout
    assert done.stderr == ""
    assert person.nono("help", name).stdout == done.stdout
    assert list(examples_of(name))


@pytest.mark.parametrize("name", WITH_USAGE)
def test_the_examples_are_command_lines(name: str) -> None:
    for command, *words in examples_of(name):
        parsed = options.parse(words, options_of(command), command=command == "run")
        assert parsed.rest or command not in {"run", "policy", "completion"}


@pytest.mark.parametrize("name", WITH_USAGE)
def test_every_option_is_in_the_usage(name: str) -> None:
    usage = usage_of(name)
    for option in options_of(name):
        assert option.name in usage or option == options.HELP, option


def test_the_width_of_usages_is_that_of_a_terminal() -> None:
    for name in WITH_USAGE:
        assert max(map(len, usage_of(name).splitlines())) <= 100


def test_an_unknown_command_is_told_with_the_nearest(person: Person) -> None:
    done = person.nono("rnu")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "nono: unknown command rnu (did you mean run?)"


@pytest.mark.parametrize("name", WITH_USAGE)
def test_an_unknown_option_is_told_with_the_nearest(person: Person, name: str) -> None:
    done = person.nono(name, "--hlep")
    assert done.returncode == 2
    first = done.stderr.splitlines()[0]
    assert first == f"nono {name}: unknown option --hlep (did you mean --help?)"


@pytest.mark.parametrize("name", [name for name in WITH_USAGE if name != "completion"])
@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_whatever_is_typed_is_told_on_a_line_and_without_a_traceback(
    person: Person, name: str, odd: str | bytes
) -> None:
    words: tuple[str | bytes, ...] = (odd,)
    if name == "serve":
        # What it would take for a workspace, it would serve until its input ends: at once.
        words = ("--workspace", odd)
    elif name == "policy":
        words = ("validate", odd)
    elif name == "shell":
        words = ("--profile", odd)
    elif name == "doctor":
        words = ("extra", odd)
    done = person.nono(name, *words)
    assert "Traceback" not in done.stderr
    assert "mistake in nono" not in done.stderr
    assert done.returncode in {0, 1, 2, 126, 127}
    assert len(done.stderr) < 2_500 or name == "run"


@pytest.mark.parametrize(
    "words",
    [
        ("run",),
        ("run", "--"),
        ("run", "--", ""),
        ("run", "--allow-cwd"),
        ("run", "--tier", "x", "true"),
        ("run", "--timeout", "0", "true"),
        ("run", "--timeout", "1e9", "true"),
        ("shell", "ls"),
        ("doctor", "x"),
        ("policy",),
        ("policy", "shwo"),
        ("policy", "validate"),
        ("policy", "list", "x"),
        ("policy", "show", "a", "b"),
        ("trust", "a", "b"),
        ("serve", "x"),
        ("serve", "--http", "x"),
        ("serve", "--http", "1:2:3x"),
        ("completion",),
        ("completion", "tcsh"),
    ],
)
def test_wrong_usage_is_2_and_one_line_and_where_to_look(
    person: Person, words: tuple[str, ...]
) -> None:
    done = person.nono(*words)
    assert (done.returncode, done.stdout) == (2, "")
    told, where = done.stderr.splitlines()
    assert told.startswith(f"nono {words[0]}: ")
    assert where == f"try: nono {words[0]} --help"


@pytest.mark.parametrize(
    "words", [("why", "--json"), ("policy", "--json"), ("doctor", "--json", "x"), ("run", "--json")]
)
def test_wrong_usage_tells_a_program_too(person: Person, words: tuple[str, ...]) -> None:
    done = person.nono(*words)
    document = json.loads(done.stderr if words[0] == "run" else done.stdout)
    assert done.returncode == document["status"] == 2
    assert document["id"] == words[0]
    assert document["ok"] is False
    assert document["error"]["code"] == "usage"
    assert document["error"]["message"]


def test_a_gone_current_directory_is_told(person: Person) -> None:
    gone = person.workspace / "gone"
    gone.mkdir()
    # Not every sh keeps quiet about where it is.
    script = f'cd {gone} && rmdir {gone} && exec "$0" run -- true'
    done = subprocess.run(
        ["sh", "-c", script, str(NONO)],
        capture_output=True,
        check=False,
        encoding="utf-8",
        env=person.environment(),
        timeout=60,
    )
    assert done.returncode == 2
    assert "nono run: the current directory doesn't exist any more" in done.stderr


def test_colour_is_for_terminals_that_want_it(person: Person) -> None:
    assert "\x1b" not in person.nono("why", "/etc/shadow", environment={"TERM": "xterm"}).stdout


def test_output_that_nobody_reads_ends_it_quietly(person: Person) -> None:
    script = f'"{NONO}" policy schema | true; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        check=True,
        encoding="utf-8",
        env=person.environment(),
        timeout=60,
    )
    assert done.stdout in {"141\n", "0\n"}
    assert done.stderr == ""


@pytest.mark.parametrize("words", [("doctor", "--json"), ("doctor",), ("help",)])
def test_output_that_cant_be_written_is_told(person: Person, words: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [NONO, *words],
            check=False,
            encoding="utf-8",
            env=person.environment(),
            stderr=subprocess.PIPE,
            stdout=full,
            timeout=60,
        )
    assert done.returncode == 125
    (told,) = done.stderr.splitlines()
    assert told == f"nono {words[0]}: No space left on device"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["run -- true", "--version", "why /x", "run nosuch"])
def test_streams_may_be_closed(person: Person, command: str, closed: str) -> None:
    script = f"'{NONO}' {command} {closed}"
    done = subprocess.run(
        ["sh", "-c", script],
        capture_output=True,
        check=False,
        encoding="utf-8",
        env=person.environment(),
        timeout=60,
    )
    assert done.returncode == {"why /x": 1, "run nosuch": 127}.get(command, 0)
    assert "Traceback" not in done.stderr + done.stdout


def test_a_command_of_the_table_is_there_for_every_completion() -> None:
    assert set(completion.of_commands()) <= set(COMMANDS)
    assert set(WITH_USAGE) == {*completion.of_commands(), "completion"} - {"audit"}
