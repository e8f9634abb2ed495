"""`nono run` and what else the command line does, where sandbox-exec is a stand-in."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_sandbox.seatbelt.evaluator import Profile, Query
from tests.cli.conftest import IN_A_SESSION, NONO
from tests.server.conftest import SECRET, Marked, until

if TYPE_CHECKING:
    from tests.macos.conftest import Mac


def test_a_program_runs_by_sandbox_exec_with_a_profile_of_its_policy(on_mac: Mac) -> None:
    script = (
        'echo "$HOME"; echo "$TMPDIR"; touch "$TMPDIR/x"; echo "${SECRET_API_KEY-none}"; exit 3'
    )
    ended = on_mac.run("run", "--allow-cwd", "--", "sh", "-c", script)
    assert (ended.returncode, ended.stderr) == (3, "")
    home, tmpdir, variable = ended.stdout.splitlines()
    assert variable == "none"
    assert not Path(tmpdir).exists()
    (called,) = on_mac.calls()
    assert called[0] == "-p"
    assert called[2] == "--"
    assert Path(called[3]).is_absolute()
    assert called[4:] == ["-c", script]
    judged = Profile(called[1])
    workspace, person = on_mac.machine.workspace, on_mac.machine.home
    for path, may in (
        (f"{workspace}/x", True),
        (f"{home}/.cache", True),
        (f"{tmpdir}/x", True),
        (f"{person}/notes.txt", False),
        (f"{person}/.ssh/id_ed25519", False),
        ("/private/etc/master.passwd", False),
    ):
        assert judged.decide(Query("file-read-data", path=path)).allowed is may, path
        assert judged.decide(Query("file-write-create", path=path)).allowed is may, path
    assert not judged.decide(
        Query("network-outbound", protocol="tcp", port=443, here=False)
    ).allowed


def test_what_is_denied_stays_closed_whether_it_is_there_or_not(on_mac: Mac) -> None:
    workspace = on_mac.machine.workspace
    (workspace / "shut").mkdir()
    options = ("--allow-cwd", "--deny", "shut", "--deny", "absent")
    assert on_mac.run("run", *options, "--", "echo").returncode == 0
    judged = Profile(on_mac.calls()[0][1])
    for name in ("shut/x", "SHUT", "absent", "Absent/x"):
        query = Query("file-write-create", path=f"{workspace}/{name}")
        assert not judged.decide(query).allowed
    told = on_mac.run("why", *options, "--op", "write", "absent", "--json")
    assert json.loads(told.stdout)["allowed"] is False


@pytest.mark.parametrize(
    ("options", "item"),
    [
        (("--memory", "1G"), "memory limit"),
        (("--max-disk", "1G"), "disk limit"),
        (("--ptrace",), "ptrace"),
        (tuple(f"--connect-port={port}" for port in range(1000, 1065)), "65 ports to connect"),
        (("--tier", "landlock"), "landlock"),
        (("--allow", "../a\nb"), "a\\nb"),
    ],
)
def test_what_macos_cant_hold_is_refused_with_its_name(
    on_mac: Mac, options: tuple[str, ...], item: str
) -> None:
    (on_mac.machine.root / "a\nb").mkdir()
    ended = on_mac.run("run", "--allow-cwd", *options, "--", "echo")
    assert ended.returncode != 0
    assert item in ended.stderr
    assert "Traceback" not in ended.stderr
    assert on_mac.calls() == []


def test_a_program_that_isnt_there_has_a_shells_status(on_mac: Mac) -> None:
    ended = on_mac.run("run", "--allow-cwd", "--", "no-such-program")
    assert ended.returncode == 127
    assert "no-such-program" in ended.stderr


def test_time_and_processes_are_bounded_and_nothing_survives(on_mac: Mac, marked: Marked) -> None:
    script = f"setsid sh -c 'sleep 1000; : {marked.text}' & {marked.sleeper}"
    ended = on_mac.run("run", "--allow-cwd", "--timeout", "1", "--", "sh", "-c", script)
    assert "timeout" in ended.stderr or "time" in ended.stderr
    marked.await_disappearance()
    many = f"for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; {marked.sleeper}"
    ended = on_mac.run("run", "--allow-cwd", "--max-processes", "5", "--", "sh", "-c", many)
    assert "max-processes" in ended.stderr
    assert ended.returncode == 137
    marked.await_disappearance()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_program_ends_with_us(on_mac: Mac, marked: Marked, number: int) -> None:
    with subprocess.Popen(
        on_mac.command("run", "--allow-cwd", "--", "sh", "-c", marked.sleeper),
        cwd=on_mac.machine.workspace,
        env=on_mac.machine.environ,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        until(lambda: len(marked.alive()) >= 2)
        process.send_signal(number)
        process.wait()
    marked.await_disappearance()


def test_a_terminal_is_the_programs_own(on_mac: Mac) -> None:
    script = "test -t 0 && test -t 1 && stty size && (: </dev/tty) && echo all"
    master, slave = pty.openpty()
    command = on_mac.command("run", "--allow-cwd", "--", "sh", "-c", script)
    with subprocess.Popen(
        [sys.executable, "-c", IN_A_SESSION, *command],
        cwd=on_mac.machine.workspace,
        env=on_mac.machine.environ,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=False,
    ) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                chunk = os.read(master, 4096)
            except OSError:
                break
            shown += chunk
        assert process.wait() == 0, shown
    os.close(master)
    assert shown.endswith(b"all\r\n")


def test_what_would_run_outside_is_put_right(on_mac: Mac) -> None:
    workspace = on_mac.machine.workspace
    (workspace / ".git").mkdir()
    ended = on_mac.run(
        "run",
        "--allow-cwd",
        "--",
        "sh",
        "-c",
        "echo x >.envrc; mkdir .git/hooks; echo x >.git/hooks/pre-commit",
    )
    assert "taken away again" in ended.stderr
    assert not (workspace / ".envrc").exists()
    assert list((workspace / ".git" / "hooks").iterdir()) == []


def test_doctor_says_what_holds_and_that_nobody_has_seen_it(on_mac: Mac) -> None:
    report = json.loads(on_mac.run("doctor", "--json").stdout)
    assert report["tier"] == "seatbelt"
    assert report["versions"]["macos"] == "15.6.1"
    assert [tier["name"] for tier in report["tiers"]] == ["seatbelt"]
    assert any("nobody has run" in remark for remark in report["remarks"])
    text = on_mac.run("doctor").stdout
    assert "landlock" not in text.lower()
    assert "memory and disk have none" in text


def test_what_a_policy_requires_is_judged_by_what_seatbelt_holds(on_mac: Mac) -> None:
    policy = on_mac.machine.root / "policy.toml"
    policy.write_text('[enforcement]\nrequire = ["network"]\n[network]\nmode = "open"\n')
    ended = on_mac.run("run", "--profile", str(policy), "--", "echo")
    assert ended.returncode != 0
    assert "requires network" in ended.stderr
    assert on_mac.calls() == []


def test_no_variable_option_or_file_leads_to_it_on_linux(on_mac: Mac) -> None:
    """Or else a person, or what runs as one, could have programs run unconfined."""
    variables = {
        name: value
        for value in ("seatbelt", "darwin", str(on_mac.machine.root / "sandbox-exec"))
        for name in ("NONO_TIER", "NONO_BACKEND", "NONO_SANDBOX_EXEC", "NONO_TEST_TIER", "PATH")
        if name != "PATH"
    }
    environ = on_mac.machine.environ | variables | {"PATH": f"{on_mac.machine.root}:/usr/bin:/bin"}
    for options in ((), ("--tier", "seatbelt")):
        ended = subprocess.run(
            [
                str(NONO),
                "run",
                "--allow-cwd",
                *options,
                "--",
                "cat",
                f"{on_mac.machine.home}/notes.txt",
            ],
            capture_output=True,
            check=False,
            cwd=on_mac.machine.workspace,
            env=environ,
            text=True,
        )
        assert ended.returncode != 0
        assert SECRET not in ended.stdout
    assert on_mac.calls() == []


def test_a_blocked_command_says_so_and_its_file_isnt_executed(on_mac: Mac) -> None:
    options = ("--allow-cwd", "--block-command", "dd")
    ended = on_mac.run("run", *options, "--", "sh", "-c", "dd")
    assert "dd" in ended.stderr
    assert ended.returncode != 0
    judged = Profile(on_mac.calls()[0][1])
    found = os.path.realpath("/usr/bin/dd")
    assert not judged.decide(Query("process-exec", path=found)).allowed
    assert judged.decide(Query("process-exec", path=os.path.realpath("/usr/bin/sh"))).allowed


def test_where_hosts_are_named_the_proxys_port_alone_is_reached(on_mac: Mac) -> None:
    options = ("--allow-cwd", "--allow-domain", "example.org")
    ended = on_mac.run("run", *options, "--", "sh", "-c", 'echo "$HTTPS_PROXY"')
    assert ended.returncode == 0, ended.stderr
    port = int(ended.stdout.strip().rstrip("/").rpartition(":")[2])
    judged = Profile(on_mac.calls()[0][1])
    for number, here, may in ((port, True, True), (port + 1, True, False), (port, False, False)):
        query = Query("network-outbound", protocol="tcp", port=number, here=here)
        assert judged.decide(query).allowed is may
    for query in (
        Query("network-outbound", path="/private/var/run/mDNSResponder"),
        Query("network-outbound", protocol="udp", port=53, here=False),
        Query("network-bind", protocol="tcp", port=port),
    ):
        assert not judged.decide(query).allowed


def test_a_shell_runs_as_any_program(on_mac: Mac) -> None:
    ended = subprocess.run(
        on_mac.command("shell", "--allow-cwd"),
        capture_output=True,
        check=False,
        cwd=on_mac.machine.workspace,
        env=on_mac.machine.environ | {"SHELL": "/bin/sh"},
        input="echo in a shell; exit 5\n",
        text=True,
    )
    assert "in a shell" in ended.stdout, ended.stderr
    assert ended.returncode == 5
    assert on_mac.calls()[0][1].startswith("(version 1)\n(deny default)\n")
