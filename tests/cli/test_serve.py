"""The options of `nono serve`; what it serves is the server's to prove."""

import json

import pytest

from nono_mcp.cli import http_flags, serve
from nono_mcp.cli.options import UsageError

from .conftest import Person


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (None, None),
        ("8080", ("127.0.0.1", 8080)),
        ("0", ("127.0.0.1", 0)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:8080", ("::1", 8080)),
        (":8080", ("127.0.0.1", 8080)),
    ],
)
def test_an_address_is_read(text: str | None, address: tuple[str, int] | None) -> None:
    assert http_flags.address(text) == address


@pytest.mark.parametrize("text", ["", "x", "-1", "65536", "localhost:", "1.2.3.4:http", "8080/"])
def test_what_is_no_address_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="--http"):
        http_flags.address(text)


INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "0"},
    },
}


@pytest.mark.linux
def test_it_serves_the_workspace_that_is_named(person: Person) -> None:
    (person.workspace / "file").write_text("words of the file")
    call = {
        "jsonrpc": "2.0",
        "id": 2,
        "method": "tools/call",
        "params": {"name": "run_sandboxed", "arguments": {"command": "cat file; pwd"}},
    }
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    with person.start("serve", "--workspace", ".") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for message in (INITIALIZE, ready, call):
            process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()
        answers: dict[object, dict[str, object]] = {}
        while 2 not in answers:
            answer = json.loads(process.stdout.readline())
            answers[answer.get("id")] = answer
        process.stdin.close()
        assert process.wait(30) == 0
    assert "words of the file" in json.dumps(answers[2])
    assert str(person.workspace) in json.dumps(answers[2])


@pytest.mark.linux
@pytest.mark.parametrize(
    "words",
    [
        ("--workspace", "missing"),
        ("--profile", "nosuch"),
        ("--read", "missing"),
    ],
)
def test_a_policy_that_is_refused_serves_nothing(person: Person, words: tuple[str, ...]) -> None:
    done = person.nono("serve", *words)
    assert (done.returncode, done.stdout) == (126, "")
    assert done.stderr.startswith("REFUSED ")


@pytest.mark.linux
def test_the_home_is_served_by_an_explicit_yes_only(person: Person) -> None:
    done = person.nono("serve", "--workspace", str(person.home))
    assert done.returncode == 126
    assert "--unsafe-broad-workspace" in done.stderr
    served = ("serve", "--workspace", str(person.home), "--unsafe-broad-workspace")
    # To be kept at every call it takes another yes: it may be huge.
    done = person.nono(*served)
    assert done.returncode == 126
    assert "broad = true" in done.stderr
    kept = person.workspace / "kept.toml"
    kept.write_text('extends = ["default"]\n[snapshots]\nbroad = true\n')
    assert person.nono(*served, "--profile", str(kept)).returncode == 0


@pytest.mark.linux
def test_an_address_that_isnt_loopback_is_refused(person: Person) -> None:
    done = person.nono("serve", "--http", "192.0.2.1:8080")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("nono serve: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("days", ["0", "-1", "x", "36501", "1.5", ""])
def test_days_that_are_none_are_told(days: str) -> None:
    with pytest.raises(UsageError, match="--audit-keep-days"):
        serve.main(["--audit-keep-days", days])
