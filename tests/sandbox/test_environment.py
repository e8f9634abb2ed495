"""What surrounds a program: exactly the environment, arguments and settings it is given."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.sandbox.conftest import Sandbox, Yard


@pytest.mark.claim("environment.exact")
def test_the_environment_is_what_was_given_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    monkeypatch.setenv("NONO_SECRET_TOKEN", "hunter2")
    given = (
        ("PATH", "/usr/bin"),
        ("EMPTY", ""),
        ("odd name.", "a=b\nc"),
        ("BYTES", "\udcff\udc80"),
    )
    outcome = sandbox.run("/usr/bin/env", "-0", environment=given)
    assert outcome.output == b"".join(os.fsencode(f"{n}={value}\0") for n, value in given)


@pytest.mark.claim("environment.exact")
def test_an_environment_may_be_empty(sandbox: Sandbox) -> None:
    outcome = sandbox.run("/usr/bin/env", environment=())
    assert (outcome.status, outcome.output) == (0, b"")


@pytest.mark.claim("environment.exact")
def test_the_supervisors_environment_is_in_no_process_in_reach(
    monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox, yard: Yard
) -> None:
    monkeypatch.setenv("NONO_SECRET_TOKEN", yard.secret)
    outcome = sandbox.attack(
        """
        for pid in {1, os.getppid(), os.getpid(), *range(2, 40)}:
            for name in ("environ", "cmdline"):
                try:
                    say(f"{pid} {name}", open(f"/proc/{pid}/{name}").read())
                except OSError:
                    pass
        """,
        lane=sandbox.new_lane(),
    )
    assert yard.secret not in outcome.text
    assert "NONO_SECRET_TOKEN" not in outcome.text


def test_the_arguments_are_what_was_given(sandbox: Sandbox) -> None:
    odd = ["", " ", "a b", "-n", "$HOME", "\n", "'\"", "\udcff", "ü"]
    outcome = sandbox.run("printf", "<%s>", *odd)
    assert outcome.output == b"".join(b"<" + os.fsencode(text) + b">" for text in odd)


def test_the_program_is_called_as_it_was_named(sandbox: Sandbox, yard: Yard) -> None:
    (yard.workspace / "tool").write_text('#!/bin/sh\necho "$0"\n')
    (yard.workspace / "tool").chmod(0o755)
    assert sandbox.run("./tool").text == "./tool\n"
    assert sandbox.run(str(yard.workspace / "tool")).text == f"{yard.workspace}/tool\n"
    assert sandbox.run("busy-sh", "-c", "true").status == 127


def test_a_program_starts_where_the_call_says(sandbox: Sandbox, yard: Yard) -> None:
    assert sandbox.run("pwd", "-P").text == f"{yard.workspace}\n"
    assert sandbox.run("pwd", "-P", cwd=str(yard.workspace / "sub")).text.endswith("/sub\n")


@pytest.mark.linux  # GNU's env
def test_no_signal_is_blocked_or_ignored(sandbox: Sandbox) -> None:
    outcome = sandbox.run("env", "--list-signal-handling", "true")
    assert (outcome.status, outcome.text) == (0, "")


def test_signals_are_as_a_new_program_expects_them(sandbox: Sandbox) -> None:
    ignored = (signal.SIGPIPE, signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT)
    for number in (*ignored, signal.SIGCHLD, signal.SIGUSR1, signal.SIGTTOU):
        killed = sandbox.run("sh", "-c", f"kill -{int(number)} $$; echo survived")
        survives = number == signal.SIGCHLD
        assert (killed.text == "survived\n") == survives or number == signal.SIGTTOU


def test_the_mask_for_new_files_is_the_persons(sandbox: Sandbox) -> None:
    mask = os.umask(0o022)
    os.umask(mask)
    assert int(sandbox.run("sh", "-c", "umask").text, 8) == mask


def test_priority_is_that_of_the_supervisor(sandbox: Sandbox) -> None:
    assert sandbox.attack('say("nice", os.nice(0))').said["nice"] == os.nice(0)


@pytest.mark.linux  # macOS has no affinity
def test_processors_and_scheduling_are_those_of_the_supervisor(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        'say("settings", [sorted(os.sched_getaffinity(0)), os.sched_getscheduler(0)])'
    )
    ours = [sorted(os.sched_getaffinity(0)), os.sched_getscheduler(0)]
    assert outcome.said["settings"] == ours


def test_who_runs_is_who_asked(sandbox: Sandbox) -> None:
    outcome = sandbox.attack('say("ids", [os.getuid(), os.geteuid(), os.getgid(), os.getegid()])')
    assert outcome.said["ids"] == [os.getuid(), os.geteuid(), os.getgid(), os.getegid()]


@pytest.mark.linux  # macOS tells nobody its saved ids
def test_nobody_else_is_kept_to_be_become_again(sandbox: Sandbox) -> None:
    outcome = sandbox.attack('say("ids", [*os.getresuid(), *os.getresgid()])')
    assert outcome.said["ids"] == [*os.getresuid(), *os.getresgid()]
