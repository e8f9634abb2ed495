"""`nono run`: what a program gets, what comes back of it, and what is said of how it ended."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import nono_mcp
from nono_sandbox.confinement import LANDLOCK, NAMESPACES

from .conftest import LONG_ENOUGH_S, NONO, Person, eventually, running, with_many_left_open

pytestmark = pytest.mark.linux


def run(person: Person, tier: str, *words: str, stdin: str = "") -> tuple[int, str, str]:
    """Run words after the tier's option; return the exit status and both outputs."""
    done = person.nono("run", "--tier", tier, *words, stdin=stdin)
    return done.returncode, done.stdout, done.stderr


def test_the_programs_streams_are_its_own(person: Person, tier: str) -> None:
    script = "cat; echo to-stderr >&2"
    assert run(person, tier, "--", "sh", "-c", script, stdin="given\n") == (
        0,
        "given\n",
        "to-stderr\n",
    )


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
        ("kill -SEGV $$", 139),
    ],
)
def test_the_exit_status_is_as_a_shell_says_it(
    person: Person, tier: str, script: str, status: int
) -> None:
    assert run(person, tier, "-q", "--", "sh", "-c", script)[0] == status


def test_the_separator_can_be_left_out(person: Person, tier: str) -> None:
    assert run(person, tier, "echo", "--timeout", "-v")[:2] == (0, "--timeout -v\n")


def test_an_option_may_hold_its_value(person: Person, tier: str) -> None:
    assert run(person, tier, "--env=GIVEN=a=b", "sh", "-c", "echo $GIVEN")[1] == "a=b\n"


def test_no_such_program_is_127_on_one_line(person: Person, tier: str) -> None:
    status, output, told = run(person, tier, "--", "nosuch-program")
    assert (status, output) == (127, "")
    assert told.splitlines() == ["nono: no program named 'nosuch-program' on the PATH of the call"]


def test_what_cant_be_executed_is_126(person: Person, tier: str) -> None:
    (person.workspace / "plain").write_text("x")
    status, output, told = run(person, tier, "--allow-cwd", "--", "./plain")
    assert (status, output) == (126, "")
    assert "./plain may not be executed" in told


def test_a_program_on_the_persons_path_outside_the_grants_is_told_of(person: Person) -> None:
    tools = person.home / "tools"
    tools.mkdir()
    (tools / "mytool").write_text("#!/bin/sh\necho ran\n")
    (tools / "mytool").chmod(0o755)
    # A directory that holds the workspace, too, isn't taken for one of tools.
    environment = {"PATH": f"{person.home}:/usr/bin:/bin"}
    (person.home / "mytool").symlink_to("tools/mytool")
    done = person.nono("run", "--", "mytool", environment=environment)
    assert done.returncode == 127
    assert f"--read-file {tools}/mytool" in done.stderr


def test_without_a_grant_the_workspace_is_out_of_reach(person: Person, tier: str) -> None:
    (person.workspace / "file").write_text("mine")
    status, output, told = run(person, tier, "--", "cat", str(person.workspace / "file"))
    assert (status, output) == (1, "")
    assert f"likely cause: {person.workspace}/file" in told
    assert "to allow it: --read" in told


def test_without_a_grant_it_starts_in_a_home_of_its_own(person: Person, tier: str) -> None:
    (person.home / "mine").touch()
    status, output, told = run(
        person, tier, "--", "sh", "-c", 'cd "$HOME" && pwd && ls -A; cd - && pwd'
    )
    assert status == 0, told
    home, *names, _, started_in = output.splitlines()
    assert started_in == home
    assert "mine" not in names


def test_with_a_grant_it_starts_in_the_workspace_and_writes_it(person: Person, tier: str) -> None:
    script = "pwd; echo made > made"
    assert run(person, tier, "--allow-cwd", "--", "sh", "-c", script)[1] == (
        f"{person.workspace}\n"
    )
    assert (person.workspace / "made").read_text() == "made\n"


def test_workdir_is_the_workspace(person: Person, tier: str) -> None:
    (person.workspace / "sub").mkdir()
    words = ("--allow-cwd", "--workdir", "sub", "--", "sh", "-c", "pwd; touch here; touch ../there")
    assert run(person, tier, *words)[1] == f"{person.workspace}/sub\n"
    assert (person.workspace / "sub" / "here").exists()
    assert not (person.workspace / "there").exists()


def test_relative_grants_are_relative_to_where_the_person_is(person: Person, tier: str) -> None:
    (person.workspace / "sub").mkdir()
    (person.workspace / "data").mkdir()
    (person.workspace / "data" / "file").write_text("read me")
    words = ("--read", "data", "--allow-cwd", "--workdir", "sub")
    assert run(person, tier, *words, "--", "cat", "../data/file")[1] == "read me"


def test_variables_are_dropped_passed_and_set(person: Person, tier: str) -> None:
    mine = {"API_KEY": "secret", "PASSED": "so", "LD_PRELOAD": ""}
    done = person.nono(
        *("run", "--tier", tier, "--env", "PASSED", "--env", "GIVEN=a b", "--", "env"),
        environment=mine,
    )
    told = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert told["PASSED"] == "so"
    assert told["GIVEN"] == "a b"
    assert not {"API_KEY", "LD_PRELOAD"} & set(told)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_to_it_reach_the_program(person: Person, tier: str, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got {name}; exit 5' {name}; echo ready; while :; do sleep 0.05; done"
    with person.start("run", "-q", "--tier", tier, "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == f"got {name}\n"
        assert process.wait(20) == 5


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_signals_to_all_of_a_job_end_nobody_but_the_program(
    person: Person, tier: str, number: signal.Signals
) -> None:
    """`kill -USR1 %1` of a shell sends it to the whole process group."""
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got {name}; exit 5' {name}; echo ready; while :; do sleep 0.05; done"
    command = ("run", "-q", "--tier", tier, "--", "sh", "-c", script)
    with person.start(*command, leads_a_group=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, number)
        assert process.stdout.read() == f"got {name}\n"
        assert process.wait(20) == 5


def test_a_signal_that_comes_before_a_forked_program_is_ready_is_its_own(
    person: Person, tier: str
) -> None:
    """A limit has it forked, which takes it longest to be itself."""
    command = ("run", "-q", "--tier", tier, "--max-open-files", "99", "--", "sleep", "60")
    for hundredths in range(3, 13):
        with person.start(*command) as process:
            time.sleep(hundredths / 100)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) in (-signal.SIGTERM, 128 + signal.SIGTERM)


def test_a_signal_that_was_ignored_stays_ignored(person: Person, tier: str) -> None:
    command = f"trap '' HUP; exec \"$0\" run -q --tier {tier} -- sh -c 'echo ready; sleep 0.5'"
    with subprocess.Popen(
        ["sh", "-c", command, NONO],
        cwd=person.workspace,
        env=person.environment(),
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        assert process.wait(20) == 0


@pytest.mark.claim("process.nothing-survives")
def test_killing_it_leaves_nothing(person: Person, tier: str, tmp_path: Path) -> None:
    mark = f"mark-of-{tmp_path.name}"
    escape = f"setsid -f sh -c 'trap \"\" HUP TERM; while :; do sleep 1; done' {mark}"
    with person.start("run", "--tier", tier, "--", "sh", "-c", f"{escape}; sleep 1000") as process:
        assert eventually(lambda: bool(running(mark)))
        process.kill()
        assert eventually(lambda: not running(mark))


@pytest.mark.claim("process.nothing-survives")
def test_what_the_program_leaves_behind_ends_with_it(
    person: Person, tier: str, tmp_path: Path
) -> None:
    mark = f"mark-of-{tmp_path.name}"
    script = f"setsid -f sh -c 'echo out; while :; do sleep 1; done' {mark}; exit 4"
    # The pipe it holds open doesn't hold the answer up.
    assert run(person, tier, "-q", "--", "sh", "-c", script)[0] == 4
    assert not running(mark)


def test_what_its_parent_left_open_is_not_in_its_way(person: Person, tier: str) -> None:
    (person.home / "granted").mkdir()
    options = ("--tier", tier, "--allow-cwd", "--allow", str(person.home / "granted"))
    # What is left behind has the lane wait for its end.
    script = "sleep 100 & touch ran; exit 4"
    command = with_many_left_open(str(NONO), "run", "-q", *options, "--", "sh", "-c", script)
    done = subprocess.run(
        command,
        cwd=person.workspace,
        env=person.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONG_ENOUGH_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (4, "")
    assert (person.workspace / "ran").exists()


LIMITS = [
    (("--timeout", "0.4"), "sleep 100", 124, "0.4 s (--timeout)"),
    (("--cpu", "1"), "while :; do :; done", 152, "1 s of CPU time (--cpu)"),
    (
        ("--memory", "64M"),
        "exec /usr/bin/python3 -c 'import time; x = bytes([1]) * (256 << 20); time.sleep(100)'",
        137,
        "67108864 bytes of memory (--memory)",
    ),
    (
        ("--max-processes", "20"),
        "for i in $(seq 60); do sleep 100 & done; wait",
        137,
        "20 processes (--max-processes)",
    ),
    (
        ("--max-file-size", "1M"),
        "exec head -c 3000000 /dev/zero > big",
        153,
        "1048576 bytes a file (--max-file-size)",
    ),
    (
        ("--max-disk", "8M"),
        "i=0; while :; do head -c 1000000 /dev/zero > f$i; i=$((i+1)); sleep 0.02; done",
        137,
        "8388608 bytes added to disks (--max-disk)",
    ),
]


@pytest.mark.parametrize("case", LIMITS, ids=lambda case: case[0][0])
def test_a_limit_that_ends_the_call_is_named(
    person: Person, tier: str, case: tuple[tuple[str, ...], str, int, str]
) -> None:
    options, script, status, told = case
    found = run(person, tier, "--allow-cwd", *options, "--", "sh", "-c", script)
    assert found[0] == status
    assert f"nono: ended: over its limit of {told}" in found[2].splitlines()


def test_open_files_are_limited(person: Person, tier: str) -> None:
    assert run(person, tier, "--max-open-files", "33", "--", "sh", "-c", "ulimit -n")[1] == "33\n"


def test_a_dry_run_runs_nothing(person: Person, tier: str) -> None:
    words = ("--allow-cwd", "--timeout", "5", "--dry-run", "--", "touch", "made")
    status, output, _ = run(person, tier, *words)
    assert status == 0
    assert output.startswith("would run: touch made\n")
    assert f"tier: {tier}\n" in output
    assert f"read+write: {person.workspace} (profile default: allow $WORKSPACE)\n" in output
    assert "network: closed\n" in output
    assert "limit: wall_s 5\n" in output
    assert not (person.workspace / "made").exists()
    assert not (person.home / ".local").exists()


def test_a_dry_run_tells_a_program_too(person: Person, tier: str) -> None:
    words = ("--read", ".", "--env", "SECRET=hidden", "--dry-run", "--json", "--", "true")
    status, output, told = run(person, tier, *words)
    document = json.loads(output)
    assert (status, told) == (0, "")
    assert document["id"] == "run"
    assert document["ok"] is True
    assert document["error"] is None
    assert document["tier"] == tier
    assert document["network"] == {"mode": "closed", "connect_ports": [], "bind_ports": []}
    grant = {"path": str(person.workspace), "access": "read", "exact": False, "source": None}
    assert grant in document["grants"]
    assert "SECRET" in document["environment"]
    assert "hidden" not in output


def test_verbose_says_under_what_it_runs(person: Person, tier: str) -> None:
    status, output, told = run(person, tier, "-v", "--allow-cwd", "--", "echo", "out")
    assert (status, output) == (0, "out\n")
    assert f"nono: tier: {tier}" in told.splitlines()
    assert f"nono: starts in: {person.workspace}" in told.splitlines()


def test_quiet_says_nothing_of_a_failure(person: Person, tier: str) -> None:
    words = ("-q", "--", "cat", str(person.workspace))
    told = run(person, tier, *words)[2]
    assert not any(line.startswith("nono") for line in told.splitlines())


def test_a_report_comes_last_on_standard_error(person: Person, tier: str) -> None:
    words = ("--json", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    status, output, told = run(person, tier, *words)
    *before, last = told.splitlines()
    document = json.loads(last)
    assert (status, output, before) == (3, "out\n", ["err"])
    assert document["id"] == "run"
    assert document["ok"] is False
    assert document["error"] is None
    assert document["status"] == 3
    assert document["limit"] is None
    assert document["tier"] == tier
    assert document["leftovers"] is False


def test_a_report_names_the_limit(person: Person, tier: str) -> None:
    status, _, told = run(person, tier, "--json", "--timeout", "0.2", "--", "sleep", "9")
    document = json.loads(told)
    assert status == document["status"] == 124
    assert document["limit"] == "wall"


def test_a_refusal_is_one_line_and_126(person: Person, tier: str) -> None:
    status, output, told = run(person, tier, "--read", "missing", "--", "touch", "made")
    assert (status, output) == (126, "")
    (line,) = told.splitlines()
    assert line.startswith("REFUSED ")
    assert f"{person.workspace}/missing" in line or "missing" in line


def test_a_refusal_tells_a_program_too(person: Person, tier: str) -> None:
    words = ("--json", "--read", str(person.home / ".ssh"), "--", "true")
    (person.home / ".ssh").mkdir()
    status, output, told = run(person, tier, *words)
    document = json.loads(told)
    assert (status, output) == (126, "")
    assert document["ok"] is False
    assert document["error"]["code"] == "fs.protected"
    assert document["error"]["remedy"]


def test_the_home_as_a_workspace_needs_an_explicit_yes(person: Person, tier: str) -> None:
    words = ("run", "--tier", tier, "--allow-cwd", "--dry-run", "--", "true")
    refused = person.nono(*words, cwd=person.home)
    assert refused.returncode == 126
    assert refused.stderr.startswith("REFUSED ")
    added = refused.stderr.partition("or add ")[2].partition(")")[0]
    # Without namespaces a home can't be granted as a whole anyway, for what is closed in it.
    told = person.nono("run", added, *words[1:], cwd=person.home).stderr
    assert told == "" or "that can't be enforced" in told


def test_a_denial_inside_a_grant_holds_or_is_refused(person: Person, tier: str) -> None:
    secret = person.workspace / "secret"
    secret.write_text("secret")
    words = ("--allow-cwd", "--deny", "secret", "--", "cat", "secret")
    status, output, told = run(person, tier, *words)
    assert output == ""
    if tier == "landlock":
        assert status == 126
        assert told.startswith("REFUSED ")
        assert str(secret) in told
    else:
        assert status == 1


def test_a_required_guarantee_that_is_missing_is_refused(person: Person, tier: str) -> None:
    policy = person.home / "strict.toml"
    policy.write_text('[enforcement]\nrequire = ["metadata", "network"]\n')
    words = ("run", "--profile", str(policy), "--tier", tier)
    assert person.nono(*words, "--", "true").returncode == 0
    opened = (*words, "--open-net")
    refused = person.nono(*opened, "--", "true")
    assert refused.returncode == 126
    assert refused.stderr.startswith("REFUSED the policy requires network")
    run_anyway = person.nono(*opened, "--best-effort", "--", "true")
    assert run_anyway.returncode == 0
    assert "not enforced: network" in run_anyway.stderr


def test_an_untrusted_policy_of_the_workspace_is_told_of_and_ignored(
    person: Person, tier: str
) -> None:
    (person.workspace / "nono.toml").write_text('[network]\nmode = "open"\n')
    status, output, told = run(person, tier, "--allow-cwd", "--dry-run", "--json", "--", "true")
    assert status == 0
    assert json.loads(output)["network"]["mode"] == "closed"
    assert "nono trust" in told
    assert person.nono("trust").returncode == 0
    _, output, _ = run(person, tier, "--allow-cwd", "--dry-run", "--json", "--", "true")
    assert json.loads(output)["network"]["mode"] == "open"


def test_the_network_is_what_was_asked_for(person: Person, tier: str) -> None:
    count = "import socket; print(len(socket.if_nameindex()))"
    outside = len(list(Path("/sys/class/net").iterdir()))
    look = ("--", "/usr/bin/python3", "-c", count)
    status, output, _ = run(person, tier, "--open-net", *look)
    assert (status, output) == (0, f"{outside}\n")
    status, output, _ = run(person, tier, "-q", "--block-net", *look)
    assert (status, output) == (0, "1\n") if tier == "namespaces" else status != 0


def test_a_name_that_is_no_text_can_be_granted(person: Person, tier: str) -> None:
    odd = os.fsencode(person.workspace) + b"/\xff\xfe 'odd'\n"
    directory = Path(os.fsdecode(odd))
    directory.mkdir()
    (directory / "file").write_text("odd")
    words = ("run", "--tier", tier, "--read", odd, "--", "cat", odd + b"/file")
    assert person.nono(*words).stdout == "odd"
    shown = person.nono("run", "--tier", tier, "--read", odd, "--dry-run", "--", "true").stdout
    assert "$'" in shown
    assert "\\xff\\xfe" in shown


def test_it_says_no_more_than_it_must_of_success(person: Person, tier: str) -> None:
    assert run(person, tier, "--", "true") == (0, "", "")


@pytest.mark.claim("guard.put-right")
def test_what_would_run_outside_later_is_put_right(person: Person, tier: str) -> None:
    script = "git init -q && git config core.pager evil && echo x > .envrc && echo 1 > kept"
    status, _, told = run(person, tier, "--allow-cwd", "--", "sh", "-c", script)
    assert status == 0
    lines = told.splitlines()
    assert lines[0].startswith("nono: taken away again: ")
    assert "/.envrc (what a shell runs on entering the directory); --bypass " in lines[0]
    assert "/.git/config (settings of Git, which can run commands)" in lines[1]
    assert sorted(path.name for path in person.workspace.iterdir()) == [".git", "kept"]
    assert not (person.workspace / ".git" / "config").exists()


LETS_IT_BE = re.compile(r"--bypass .*?(?= lets it be)")


def test_what_is_told_to_let_it_be_lets_it_be(person: Person, tier: str) -> None:
    """Of what is guarded for its name; what is for what it holds no option can name."""
    script = (
        "echo x > .envrc; git init -q nested; echo x > nested/.git/hooks/update; mkdir bare;"
        "cd bare; mkdir refs objects hooks; echo ref: refs/heads/x > HEAD; echo x > hooks/update"
    )
    words = ("--", "sh", "-c", script)
    status, _, told = run(person, tier, "--allow-cwd", *words)
    assert (status, len(told.splitlines())) == (0, 2 + 1)
    options = [word for option in LETS_IT_BE.findall(told) for word in shlex.split(option)]
    assert len(options) == 2 * 2
    for name in ("nested", "bare"):
        shutil.rmtree(person.workspace / name)
    status, _, told = run(person, tier, "--allow-cwd", *options, *words)
    assert status == 0
    (line,) = told.splitlines()
    assert "(a repository in a directory itself" in line
    assert "--bypass" not in line
    assert (person.workspace / "nested/.git/hooks/update").exists()


@pytest.mark.claim("guard.after-run")
def test_what_would_run_outside_later_is_put_right_deeper_down_too(
    person: Person, tier: str
) -> None:
    """In the first run and, whose policy needn't be judged again, in the next."""
    hook = person.workspace / "old" / ".git" / "hooks" / "post-commit"
    hook.parent.mkdir(parents=True)
    hook.write_text("mine\n")
    words = ("--allow-cwd", "--", "sh", "-c")
    plant = "mkdir -p {0}/.vscode && echo {0} > {0}/.vscode/a && echo evil > old/.git/hooks/{0}"
    assert run(person, tier, *words, "true") == (0, "", "")
    for name in ("update", "pre-push"):
        status, _, told = run(person, tier, *words, plant.format(name))
        assert status == 0
        lines = sorted(told.splitlines())
        assert [line.partition(": ")[2].partition(":")[0] for line in lines] == (
            ["taken away again"] * 2
        )
        assert f"old/.git/hooks/{name}" in lines[0]
        assert f"{name}/.vscode" in lines[1]
    assert sorted(path.name for path in hook.parent.iterdir()) == ["post-commit"]


@pytest.mark.linux
@pytest.mark.exact_times
@pytest.mark.claim("guard.after-run")
def test_what_it_changes_there_is_put_back_unless_it_was_quicker(person: Person, tier: str) -> None:
    """As soon as it had been looked at; what was changed before that is told."""
    hook = person.workspace / "old" / ".git" / "hooks" / "post-commit"
    hook.parent.mkdir(parents=True)
    for wait_s in (0, 0.1, 1, 5, 20):
        hook.write_text("mine\n")
        script = f"sleep {wait_s}; echo evil > old/.git/hooks/post-commit"
        status, _, told = run(person, tier, "--allow-cwd", "--", "sh", "-c", script)
        assert status == 0
        restored = told.count("put back as it was")
        assert restored + told.count("changed and NOT put back") == 1
        assert hook.read_text() == ("mine\n" if restored else "evil\n")
        if restored:
            return
    pytest.fail("it never was")


@pytest.mark.claim("guard.put-right")
def test_it_is_put_right_though_the_program_was_ended(person: Person, tier: str) -> None:
    words = ("--allow-cwd", "--", "sh", "-c", "echo x > .mcp.json; sleep 100")
    for timeout_s in ("0.3", "3", "30"):
        status, _, told = run(person, tier, "--timeout", timeout_s, *words)
        assert status == 124
        assert list(person.workspace.iterdir()) == []
        # Unless it was ended before it had done it.
        if ".mcp.json" in told:
            return
    pytest.fail("it never was")


@pytest.mark.linux
def test_a_signal_before_its_program_runs_leaves_no_directory_behind(person: Person) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        place = person.home / f"tmp-{number}"
        place.mkdir()
        process = subprocess.Popen(
            [NONO, "run", "--tier", LANDLOCK, "--", "sleep", "100"],
            cwd=person.workspace,
            env=person.environment(TMPDIR=str(place)),
        )
        deadline = time.monotonic() + LONG_ENOUGH_S
        while not list(place.iterdir()):  # as soon as it's there: what takes longer is to come
            assert time.monotonic() < deadline
        process.send_signal(number)
        assert process.wait(LONG_ENOUGH_S) == 128 + number
        assert list(place.iterdir()) == []


@pytest.mark.linux
def test_what_a_run_that_was_killed_left_goes_with_the_next(person: Person) -> None:
    place = person.home / "tmp"
    place.mkdir()
    words = [str(NONO), "run", "--tier", LANDLOCK, "--"]
    environment = person.environment(TMPDIR=str(place))
    commands = "mkdir -p $TMPDIR/a/b; ln -s / $TMPDIR/a/link; echo made; sleep 1000"
    killed, lives = (
        subprocess.Popen(
            [*words, "sh", "-c", commands],
            cwd=person.workspace,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    )
    try:
        for process in (killed, lives):
            assert process.stdout is not None
            assert process.stdout.readline() == b"made\n"
        assert len(list(place.iterdir())) == 2
        killed.kill()
        killed.wait()

        def one_is_left() -> bool:
            # Somebody of it may still have been making something, and then it takes one more.
            subprocess.run([*words, "true"], cwd=person.workspace, env=environment, check=True)
            return len(list(place.iterdir())) == 1

        assert eventually(one_is_left)
        (left,) = place.iterdir()
        assert (left / "a/b").is_dir()
    finally:
        for process in (killed, lives):
            process.kill()
            process.communicate()
    # Another directory has its name: that's nobody's to remove.
    left.rename(person.home / "moved")
    left.mkdir()
    (left / "mine").touch()
    subprocess.run([*words, "true"], cwd=person.workspace, env=environment, check=True)
    assert (left / "mine").exists()


def test_a_workspace_that_no_worker_is_shown_is_refused(person: Person, tier: str) -> None:
    with TemporaryDirectory(dir="/dev/shm") as there:
        done = person.nono(
            *("run", "--tier", tier, "--workdir", there, "--allow-cwd", "--", "true")
        )
    assert done.returncode == 126
    assert "the sandbox has a /dev of its own" in done.stderr


# In the second tier it's something else that is missing first.
@pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
def test_inside_a_run_there_is_no_other_and_that_is_said(person: Person, tier: str) -> None:
    root = Path(nono_mcp.__file__).parent.parent
    words = (f"--read={NONO.parent.parent}", f"--read={root}", "--", str(NONO), "run", "--", "true")
    status, _, said = run(person, tier, *words)
    assert status == 126, said
    assert "we are confined already" in said
