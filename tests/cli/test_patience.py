"""How long the person waits for the look after a program: as long as they want to."""

import os
import signal
import subprocess
import sys

import pytest

from nono_mcp.cli import patience, signals

from .conftest import LONG_ENOUGH_S, Person

pytestmark = [pytest.mark.linux, pytest.mark.claim("guard.after-run")]

PLANTED_COUNT = 8
PLANT = f"for n in $(seq {PLANTED_COUNT}); do mkdir -p $n; echo evil >$n/.envrc; done"
INTERRUPTED = """
import os, signal, sys
from nono_mcp.cli import main, patience

class Interrupted(patience.Patience):
    def goes_on(self, done, total):
        if done == 2:
            os.kill(os.getpid(), int(sys.argv[1]))
        return super().goes_on(done, total)

patience.GRACE_S, patience.Patience = 0.0, Interrupted
sys.exit(main(sys.argv[2:]))
"""
"""`nono`, to which a signal comes in the middle of its look."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_look_and_what_it_didnt_come_to_is_told(
    person: Person, number: signal.Signals
) -> None:
    words = ("run", "--allow", ".", "--")
    for is_known in (False, True):
        person.nono(*words, "/bin/sh", "-c", "rm -rf [0-9]*")
        done = subprocess.run(
            [sys.executable, "-c", INTERRUPTED, f"{number:d}", *words, "/bin/sh", "-c", PLANT],
            capture_output=True,
            check=False,
            cwd=person.workspace,
            encoding="utf-8",
            env=person.environment(),
            timeout=LONG_ENOUGH_S,
        )
        assert done.returncode == 128 + number, (is_known, done.stderr)
        assert done.stderr.count("a signal ended the look") == PLANTED_COUNT
        assert sorted(person.workspace.glob("*/.envrc")) == sorted(
            person.workspace / f"{n + 1}/.envrc" for n in range(PLANTED_COUNT)
        )


class Silence(signals.Signals):
    """None that arrive, and nothing that this process would be told of."""

    def __init__(self) -> None:
        self.cut_short_by = 0

    def take(self) -> bytes:
        return b""


def test_how_far_it_is_is_shown_and_gone_after_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "isatty", lambda fd: fd == 2)
    monkeypatch.setattr(patience, "SHOWN_AFTER_S", 0.0)
    waiting = patience.Patience(Silence(), quiet=False)
    assert waiting.goes_on(1_000, 20_000)
    waiting.close()
    line, end = capsys.readouterr().err.split("\r\033[K")[1:]
    assert line == "nono: judging what it left: 1,000 of 20,000"
    assert end == ""


def test_what_is_done_at_once_shows_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "isatty", lambda fd: fd == 2)
    monkeypatch.setattr(patience, "SHOWN_AFTER_S", LONG_ENOUGH_S)
    waiting = patience.Patience(Silence(), quiet=False)
    assert waiting.goes_on(1, 2)
    waiting.close()
    assert capsys.readouterr().err == ""
