"""What is told of a failure: only what the policy does close, and the option that opens it."""

import pytest

from nono_mcp.cli import denial_hints

from .conftest import Person

pytestmark = pytest.mark.linux


def told(person: Person, *words: str, tier: str = "namespaces") -> list[str]:
    """Return what was told of a run that failed."""
    done = person.nono("run", "--tier", tier, *words)
    assert done.returncode != 0
    return [line for line in done.stderr.splitlines() if line.startswith("nono: likely cause: ")]


def test_a_file_that_the_command_names_is_told_with_its_option(person: Person, tier: str) -> None:
    (person.workspace / "notes.txt").write_text("x")
    (cause,) = told(person, "--", "cat", "notes.txt", tier=tier)
    assert str(person.workspace / "notes.txt") in cause
    assert cause.endswith(f"to allow it: --read-file {person.workspace}/notes.txt")


def test_the_option_that_is_told_helps(person: Person, tier: str) -> None:
    (person.workspace / "sub").mkdir()
    (person.workspace / "sub" / "notes.txt").write_text("words")
    (cause,) = told(person, "--", "ls", "-l", "sub", tier=tier)
    option = cause.rpartition("to allow it: ")[2].split()
    assert option == ["--read", f"{person.workspace}/sub"]
    done = person.nono("run", "--tier", tier, *option, "--", "ls", f"{person.workspace}/sub")
    assert (done.returncode, done.stdout) == (0, "notes.txt\n")


@pytest.mark.parametrize("argument", ["--file={}", "if={}", "'{}'"])
def test_a_name_is_found_in_an_argument(person: Person, argument: str) -> None:
    (person.home / "data").write_text("x")
    path = str(person.home / "data")
    script = f"exit 1 # {argument.format(path)}"
    (cause,) = told(person, "--allow-cwd", "--", "sh", "-c", script)
    assert f"--read-file {path}" in cause


def test_a_protected_path_is_told_with_its_bypass(person: Person) -> None:
    (person.home / ".ssh").mkdir()
    (person.home / ".ssh" / "config").write_text("x")
    path = str(person.home / ".ssh" / "config")
    (cause,) = told(person, "--allow-cwd", "--", "cat", path)
    assert "SSH keys" in cause
    assert f"--bypass {person.home}/.ssh" in cause


def test_what_each_process_has_of_its_own_is_named_as_the_program_named_it(person: Person) -> None:
    (person.workspace / "led").symlink_to("/proc/self/mounts")
    words = ("--allow-cwd", "--", "cat", "/proc/self/status", "led")
    assert told(person, *words, tier="landlock") == [
        f"nono: likely cause: /proc/self/{name} isn't shown to a worker"
        for name in ("status", "mounts")
    ]


def connecting(address: str, port: int, kind: str = "SOCK_STREAM") -> tuple[str, ...]:
    """Return a command that fails after it has tried to connect, and says nothing of it."""
    code = f"""
import socket, sys
try:
    socket.socket(socket.AF_INET, socket.{kind}).connect(({address!r}, {port}))
except OSError:
    pass
sys.exit(1)
"""
    return "/usr/bin/python3", "-c", code


TOLD = "nono: likely cause: "
CLOSED = f"{TOLD}the network is closed; to open it: "
ONE = "--allow-domain HOST for one by HTTP, or all of it: --open-net"
# TEST-NET-1 (RFC 5737), which nobody has.
OUTSIDE = connecting("192.0.2.1", 443)


def test_a_connection_that_was_refused_is_told_with_what_opens_it(person: Person) -> None:
    for words, options in (
        ((), ONE),
        (("https://me@example.org/x?y",), "--allow-domain example.org, or all of it: --open-net"),
        (
            ("--from=http://a.example/", "'https://b.example:8443'", "https://a,b/"),
            "--allow-domain a.example:80 --allow-domain b.example:8443, or all of it: --open-net",
        ),
    ):
        assert told(person, "--allow-cwd", "--", *OUTSIDE, *words) == [CLOSED + options]
        opening = options.partition(",")[0].split() if words else ["--open-net"]
        assert person.nono("run", *opening, "--", "true").returncode == 0
    assert told(person, "--allow-cwd", "--", *connecting("127.0.0.1", 53, "SOCK_DGRAM")) == [
        CLOSED + ONE
    ]


@pytest.mark.parametrize(
    "command",
    [
        connecting("127.0.0.1", 9),
        ("/usr/bin/python3", "-c", "import socket; socket.socket(1).connect('/none')"),
        ("sh", "-c", "exit 6", "git", "https://example.org/x"),
    ],
    ids=["to itself", "to a path", "to nobody"],
)
def test_of_a_program_that_connected_to_no_host_nothing_is_told(
    person: Person, command: tuple[str, ...]
) -> None:
    assert told(person, "--allow-cwd", "--", *command) == []


def test_where_connections_arent_seen_a_host_that_is_named_is_told(person: Person) -> None:
    command = ("sh", "-c", "exit 6", "git", "https://example.org/x")
    assert told(person, "--allow-cwd", "--", *command, tier="landlock") == [
        CLOSED + "--allow-domain example.org, or all of it: --open-net"
    ]


def test_a_status_that_says_that_no_host_was_reached_is_told(person: Person, tier: str) -> None:
    for name, status in (("curl", 6), ("ssh", 255)):
        program = person.workspace / name
        program.write_text(f"#!/bin/sh\nexit {status}\n")
        program.chmod(0o755)
        assert told(person, "--allow-cwd", "--", f"./{name}", "a", tier=tier) == [CLOSED + ONE]
        assert told(person, "--allow-cwd", "--open-net", "--", f"./{name}", "a", tier=tier) == []
    (some,) = told(person, "--allow-cwd", "--connect-port", "9", "--", "./curl", "a", tier=tier)
    assert some == f"{TOLD}of the network only some ports are open; to open it: --open-net"
    (here,) = told(person, "--allow-cwd", "--", "./curl", "http://localhost:5432/", tier=tier)
    assert here.endswith("to open that port of this machine: --connect-port 5432")


def test_what_doesnt_ask_the_proxy_is_told(person: Person) -> None:
    options = ("--allow-cwd", "--allow-domain", "example.org")
    (cause,) = told(person, *options, "--", *OUTSIDE)
    assert "what doesn't ask that reaches nobody" in cause
    assert told(person, *options, "--", "sh", "-c", "exit 6", "curl", "https://example.org/") == []


def test_where_it_ran_is_told_if_it_wasnt_where_the_person_is(person: Person) -> None:
    (cause,) = told(person, "--", "sh", "-c", "exit 2")
    where = f"it ran in {person.home}, since {person.workspace} isn't granted"
    assert cause == f"nono: likely cause: {where}; to allow it: --allow-cwd"


@pytest.mark.parametrize(
    "words",
    [
        ("--allow-cwd", "--", "false"),
        ("--", "sh", "-c", "kill -PIPE $$"),
        ("--allow-cwd", "--", "cat", "here"),
        ("--allow-cwd", "--", "grep", "x", "/etc/passwd.missing"),
        ("--allow-cwd", "--", "sh", "-c", "exit 1", "a/b", "--", "-x=", "=", "x" * 5000),
    ],
)
def test_of_what_is_open_nothing_is_told(person: Person, words: tuple[str, ...]) -> None:
    (person.workspace / "here").touch()
    (person.workspace / "here").chmod(0)
    done = person.nono("run", *words)
    assert "likely cause" not in done.stderr


def test_of_success_nothing_is_told(person: Person) -> None:
    (person.home / "data").touch()
    assert person.nono("run", "--", "true", str(person.home / "data")).stderr == ""


def test_no_more_is_told_than_can_be_read(person: Person) -> None:
    names = []
    for number in range(20):
        (person.home / f"file{number}").touch()
        names.append(str(person.home / f"file{number}"))
    assert len(told(person, "--allow-cwd", "--", "cat", *names)) == denial_hints.CAUSES_MAX


def test_names_in_the_last_words_on_a_terminal_are_judged() -> None:
    tail = (
        b"starting /usr/bin/thing\r\n"
        b"Traceback (most recent call last):\r\n"
        b"PermissionError: [Errno 13] Permission denied: '/etc/hostname'\r\n"
        b"fine: /etc/passwd\r\n\xff\xfe"
    )
    names = list(denial_hints.names(("thing",), tail, "/"))
    assert ("/etc/hostname", "read") in names
    assert ("/etc/hostname", "write") in names
    assert all(path != "/etc/passwd" for path, _ in names)


def test_an_endless_line_is_looked_at_in_part() -> None:
    tail = b"denied " + b"/etc/passwd " * 100_000
    assert len(list(denial_hints.names((), tail, "/"))) <= 2 * denial_hints.NAMES_MAX
