"""What a person who is new here meets first, when it can't be done as asked."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from nono_mcp.cli import failures, say
from nono_mcp.cli.http_flags import address
from nono_mcp.cli.options import UsageError

from .conftest import LONG_ENOUGH_S, NONO, Person

pytestmark = pytest.mark.linux


def refusal(path: str) -> PermissionError:
    return PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


@pytest.mark.parametrize("path", ["/h/.local", "/h/.local/state/nono/guard/x"])
def test_a_home_that_cant_be_written_is_told_with_the_way_round_it(
    path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert failures.report("run", [], refusal(path)) == failures.FAILED
    told = capsys.readouterr().err
    assert told == (
        f"nono run: {path}: Permission denied"
        " (nono keeps /h/.local/state/nono; with XDG_STATE_HOME=DIR it would be in DIR)\n"
    )


def test_so_is_one_in_which_nothing_can_be_kept_of_a_workspace(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("no directory")
    (tmp_path / "work").mkdir()
    environ = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    for words, status in ((("run", "--allow-cwd", "--", "true"), 125), (("serve",), 1)):
        done = subprocess.run(
            [NONO, *words],
            cwd=tmp_path / "work",
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONG_ENOUGH_S,
        )
        assert done.returncode == status
        assert "; with XDG_STATE_HOME=DIR it would be in DIR)\n" in done.stderr


@pytest.mark.parametrize("path", ["/h/.localx", "/etc/passwd", "relative", ""])
def test_of_what_isnt_ours_nothing_is_said(
    path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", "/h")
    failures.report("run", [], refusal(path))
    assert "XDG" not in capsys.readouterr().err


def test_without_a_log_that_is_said_and_no_record_counted(person: Person) -> None:
    tail = person.nono("audit", "tail")
    assert tail.returncode == 1
    assert "nothing has been recorded there yet" in tail.stderr
    verified = person.nono("audit", "verify")
    assert verified.returncode == 3
    assert "records:      none\n" in verified.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("tail", "-n", "x"), "'x' isn't a number from 1 to"),
        (("tail", "-n", "0"), "'0' isn't a number from 1 to"),
        (("show", "first"), "'first' isn't a number from 0 to"),
    ],
)
def test_what_is_no_number_of_records_is_told(
    person: Person, words: tuple[str, ...], told: str
) -> None:
    done = person.nono("audit", *words)
    assert done.returncode == 2
    assert told in done.stderr


def test_a_port_is_told_to_be_none() -> None:
    with pytest.raises(UsageError, match="--http 99999 isn't a port"):
        address("127.0.0.1:99999")


def test_output_that_cant_be_written_is_one_line(person: Person) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [NONO, "demo", "--help"],
            check=False,
            cwd=person.workspace,
            encoding="utf-8",
            env=person.environment(),
            stderr=subprocess.PIPE,
            stdout=full,
            timeout=LONG_ENOUGH_S,
        )
    assert done.returncode == failures.FAILED
    assert done.stderr == "nono: the output can't be written: No space left on device\n"


def test_nothing_of_a_configuration_acts_on_the_terminal_it_is_shown_in(person: Person) -> None:
    (person.workspace / ".mcp.json").write_text('{"a": "\\u001b[31m\x9b2J"}\n')
    done = person.nono("install", "claude-code", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "\\x9b2J" in done.stdout
    assert "\x9b" not in done.stdout


def test_what_is_plain_stays() -> None:
    assert say.plain("a\tb\nünï\n") == "a\tb\nünï\n"
    assert say.plain("a\x1b]0;x\x07\x85\u202e\udcff") == r"a\x1b]0;x\x07\x85\u202e\udcff"
