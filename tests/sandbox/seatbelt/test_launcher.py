"""How sandbox-exec is called, seen by a stand-in that reports it and becomes the program."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from nono_sandbox.confinement import (
    CLOSED,
    OPEN,
    READ,
    WRITE,
    Call,
    Confinement,
    Denial,
    Grant,
    Limits,
    Narrowing,
    Network,
)
from nono_sandbox.errors import ConfinementError, StartError, UnsupportedError
from nono_sandbox.seatbelt import launcher
from nono_sandbox.seatbelt.expressible import narrowed
from nono_sandbox.seatbelt.places import check_places
from nono_sandbox.seatbelt.profile import profile
from nono_sandbox.seatbelt.sbpl import RefusedError

STAND_IN = """\
#!{python} -IS
import json, os, resource, signal, sys
option, text, dashes, *command = sys.argv[1:]
descriptors = {{}}
for name in os.listdir("/dev/fd"):
    try:
        descriptors[name] = os.readlink("/proc/self/fd/" + name) if {linux} else ""
    except OSError:
        pass
# The interpreter of this stand-in sets it itself (PEP 538).
os.environ.pop("LC_CTYPE", None)
report = dict(
    option=option, text=text, dashes=dashes, command=command, environment=dict(os.environ),
    cwd=os.getcwd(), pid=os.getpid(), session=os.getsid(0), group=os.getpgid(0),
    descriptors=sorted(descriptors), ignored=[
        int(number) for number in signal.valid_signals()
        if number not in (signal.SIGPIPE, signal.SIGXFSZ)
        and signal.getsignal(number) is signal.SIG_IGN],
    blocked=[int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
    limits={{name: resource.getrlimit(getattr(resource, name))
            for name in ("RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_NOFILE", "RLIMIT_FSIZE")}},
)
with open({report!r}, "w") as stream:
    json.dump(report, stream)
if text.startswith("(version 2)"):
    sys.exit(65)
os.execv(command[0], command)
"""


class StandIn:
    """A sandbox-exec that confines nothing and says how it was called."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "sandbox-exec"
        self._report = directory / "report.json"
        text = STAND_IN.format(
            python=sys.executable, report=str(self._report), linux=sys.platform == "linux"
        )
        self.path.write_text(text)
        self.path.chmod(0o755)

    def run(
        self, call: Call, confinement: Confinement, stdio: tuple[int, int, int] | None = None
    ) -> int:
        """Return the program's exit status."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        try:
            pid = launcher.launch(
                call, confinement, stdio or (nowhere, nowhere, nowhere), str(self.path)
            )
            _, status = os.waitpid(pid, 0)
        finally:
            os.close(nowhere)
        return os.waitstatus_to_exitcode(status)

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self._report.read_text())
        return report


@pytest.fixture
def stand_in(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    directory = (tmp_path / "workspace").resolve()
    directory.mkdir()
    return directory


@pytest.fixture
def confinement(workspace: Path) -> Confinement:
    system = [path for path in map(Path, ("/usr", "/bin", "/lib")) if path.exists()]
    roots = sorted({str(path.resolve()) for path in system})
    grants = [Grant(path, READ) for path in roots]
    grants.append(Grant(str(workspace), READ | WRITE))
    # The session's own environment isn't a call's: whoever makes that adds what it is to have.
    return Confinement(str(workspace), tuple(grants), environment=(("SESSION", "x"),))


def descriptors() -> set[str]:
    return {entry.name for entry in Path("/dev/fd").iterdir()}


def call(*argv: str, cwd: Path, **changes: Any) -> Call:  # noqa: ANN401 - fields of any type
    environment = (("PATH", "/usr/bin:/bin"), ("GREETING", "hi"))
    return Call(argv, environment, str(cwd)).replace(**changes)


def test_it_is_called_with_the_profile_and_the_program(
    stand_in: StandIn, confinement: Confinement, workspace: Path
) -> None:
    assert stand_in.run(call("sh", "-c", "exit 7", cwd=workspace), confinement) == 7
    report = stand_in.report
    assert report["option"] == "-p"
    assert report["text"] == profile(confinement)
    assert report["dashes"] == "--"
    assert report["command"] == [shutil.which("sh", path="/usr/bin:/bin"), "-c", "exit 7"]
    assert report["cwd"] == str(workspace)
    assert report["environment"] == {"PATH": "/usr/bin:/bin", "GREETING": "hi"}


def test_the_absolute_path_is_the_systems() -> None:
    assert launcher.SANDBOX_EXEC == "/usr/bin/sandbox-exec"


def test_the_program_leads_its_own_session_without_signals_or_descriptors_of_ours(
    stand_in: StandIn, confinement: Confinement, workspace: Path
) -> None:
    inherited = os.open(workspace, os.O_RDONLY)
    os.set_inheritable(inherited, True)  # noqa: FBT003 - the parameter is positional
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        stand_in.run(call("true", cwd=workspace), confinement)
    finally:
        os.close(inherited)
        signal.signal(signal.SIGTERM, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    report = stand_in.report
    assert report["session"] == report["group"] == report["pid"]
    assert report["session"] != os.getsid(0)
    # The fourth is the listing's own.
    assert report["descriptors"] in (["0", "1", "2"], ["0", "1", "2", "3"])
    assert report["ignored"] == []
    assert report["blocked"] == []


def test_limits_are_the_lower_of_the_sessions_and_the_calls(
    stand_in: StandIn, confinement: Confinement, workspace: Path
) -> None:
    session = confinement.replace(limits=Limits(cpu_s=100.0, open_files_max=64))
    mine = call("true", cwd=workspace, limits=Limits(cpu_s=2.5, file_size_bytes_max=2**20))
    stand_in.run(mine, session)
    assert stand_in.report["limits"] == {
        "RLIMIT_CORE": [0, 0],
        "RLIMIT_CPU": [3, 13],
        "RLIMIT_NOFILE": [64, 64],
        "RLIMIT_FSIZE": [2**20, 2**20],
    }


def test_a_limit_that_macos_doesnt_keep_is_refused(
    stand_in: StandIn, confinement: Confinement, workspace: Path
) -> None:
    limits = Limits(memory_bytes_max=1)
    with pytest.raises(RefusedError, match="macOS"):
        stand_in.run(call("true", cwd=workspace, limits=limits), confinement)
    with pytest.raises(RefusedError, match="macOS"):
        stand_in.run(call("true", cwd=workspace), confinement.replace(limits=limits))


def test_streams_are_those_given_whatever_their_numbers(
    stand_in: StandIn, confinement: Confinement, workspace: Path
) -> None:
    stdin_out, stdin_in = os.pipe()
    stdout_out, stdout_in = os.pipe()
    stderr_out, stderr_in = os.pipe()
    os.write(stdin_in, b"question\n")
    os.close(stdin_in)
    script = "cat; echo answer; echo trouble >&2"
    # Crossed numbers: what is the third stream here must not overwrite the second there.
    status = stand_in.run(
        call("sh", "-c", script, cwd=workspace), confinement, (stdin_out, stdout_in, stderr_in)
    )
    for fd in (stdin_out, stdout_in, stderr_in):
        os.close(fd)
    with os.fdopen(stdout_out, "rb") as out, os.fdopen(stderr_out, "rb") as err:
        assert (status, out.read(), err.read()) == (0, b"question\nanswer\n", b"trouble\n")


def test_a_terminal_becomes_the_controlling_one(
    stand_in: StandIn, confinement: Confinement, workspace: Path
) -> None:
    for tty, expected in ((True, 0), (False, 1)):
        master, slave = os.openpty()
        try:
            script = "test -t 0 || exit 9; (: </dev/tty) 2>/dev/null || exit 1"
            mine = call("sh", "-c", script, cwd=workspace, tty=tty)
            assert stand_in.run(mine, confinement, (slave, slave, slave)) == expected
        finally:
            os.close(slave)
            os.close(master)


def test_what_a_call_gives_up_is_not_in_its_text(
    stand_in: StandIn, confinement: Confinement, workspace: Path
) -> None:
    wide = confinement.replace(network=Network(OPEN))
    mine = call("true", cwd=workspace, narrowing=Narrowing(writes=(), network_closed=True))
    stand_in.run(mine, wide)
    text = stand_in.report["text"]
    assert "AF_INET" in profile(wide)
    assert "AF_INET" not in text
    assert "(allow file-write*" in profile(wide)
    assert "(allow file-write*" not in text


def test_it_starts_from_a_process_with_threads(
    stand_in: StandIn, confinement: Confinement, workspace: Path
) -> None:
    results: list[int] = []
    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()
    try:
        thread = threading.Thread(
            target=lambda: results.append(stand_in.run(call("true", cwd=workspace), confinement))
        )
        thread.start()
        thread.join()
    finally:
        stop.set()
        other.join()
    assert results == [0]


def test_no_descriptor_is_lost_to_a_start_or_a_failure(
    stand_in: StandIn, confinement: Confinement, workspace: Path
) -> None:
    before = descriptors()
    stand_in.run(call("true", cwd=workspace), confinement)
    with pytest.raises(StartError):
        stand_in.run(call("true", cwd=workspace / "absent"), confinement)
    assert descriptors() == before


def test_a_working_directory_that_isnt_there_is_an_error(
    stand_in: StandIn, confinement: Confinement, workspace: Path
) -> None:
    with pytest.raises(StartError, match="absent: No such file") as error:
        stand_in.run(call("true", cwd=workspace / "absent"), confinement)
    assert error.value.status == 126


def test_a_missing_sandbox_exec_runs_nothing(
    confinement: Confinement, workspace: Path, tmp_path: Path
) -> None:
    with pytest.raises(StartError, match="gone"):
        launcher.launch(
            call("touch", "x", cwd=workspace), confinement, (0, 1, 2), str(tmp_path / "gone")
        )
    assert not (workspace / "x").exists()


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (("no-such-program",), 127),
        (("./no-such-program",), 127),
        (("/etc/passwd",), 127),
        (("./plain",), 126),
        (("./orphan",), 126),
        (("./outside",), 126),
        (("./loop",), 126),
        (("",), 126),
        ((), 126),
        (("a\0b",), 126),
    ],
)
def test_what_cant_be_found_has_a_shells_status(
    stand_in: StandIn, confinement: Confinement, workspace: Path, argv: tuple[str, ...], status: int
) -> None:
    for name, text in (
        ("plain", ""),
        ("orphan", "#!/no/such/interpreter -x\n"),
        ("outside", "#! /etc/passwd\n"),
    ):
        (workspace / name).write_text(text)
        (workspace / name).chmod(0o755 if text else 0o644)
    (workspace / "loop").symlink_to("loop")
    with pytest.raises(StartError) as error:
        stand_in.run(call(*argv, cwd=workspace), confinement)
    assert error.value.status == status


@pytest.mark.parametrize("argument", ["a\0b", "\ud800", "x" * 2**20])
def test_an_impossible_argument_is_an_error(
    stand_in: StandIn, confinement: Confinement, workspace: Path, argument: str
) -> None:
    with pytest.raises(StartError) as error:
        stand_in.run(call("true", argument, cwd=workspace), confinement)
    assert error.value.status == 126


def test_a_status_doesnt_tell_what_exists_outside(
    confinement: Confinement, workspace: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("#!/bin/sh\n")
    outside.chmod(0o755)
    (workspace / "link").symlink_to(outside)
    (workspace / "dangling").symlink_to(tmp_path / "absent")
    found = []
    for name in (str(outside), str(tmp_path / "absent"), "./link", "./dangling"):
        with pytest.raises(StartError) as error:
            launcher.find_program(call(name, cwd=workspace), confinement, "/usr/bin")
        found.append((error.value.status, str(error.value).replace(repr(name), "it")))
    assert len(set(found)) == 1


def test_a_denied_program_isnt_found(confinement: Confinement, workspace: Path) -> None:
    true = os.path.realpath("/usr/bin/true")
    blocked = confinement.replace(denials=(Denial(true),))
    with pytest.raises(StartError) as error:
        launcher.find_program(call("true", cwd=workspace), blocked, "/usr/bin")
    assert error.value.status == 127


def test_a_grant_that_changed_hands_runs_nothing(
    stand_in: StandIn, confinement: Confinement, workspace: Path
) -> None:
    status = workspace.stat()
    judged = Grant(str(workspace), READ | WRITE, identity=(status.st_dev, status.st_ino))
    bound = confinement.replace(grants=(*confinement.grants[:-1], judged))
    assert stand_in.run(call("true", cwd=workspace), bound) == 0
    workspace.rename(workspace.with_name("moved"))
    workspace.mkdir()
    with pytest.raises(ConfinementError, match="was replaced"):
        stand_in.run(call("true", cwd=workspace), bound)


def test_a_grant_or_denial_named_through_a_symlink_is_refused(
    stand_in: StandIn, confinement: Confinement, workspace: Path, tmp_path: Path
) -> None:
    (workspace / "inner").mkdir()
    link = tmp_path / "link"
    link.symlink_to(workspace)
    granted = confinement.replace(grants=(*confinement.grants, Grant(str(link / "inner"), READ)))
    denied = confinement.replace(denials=(Denial(str(link / "inner")),))
    for wrong in (granted, denied):
        with pytest.raises(ConfinementError, match="is stored as"):
            stand_in.run(call("true", cwd=workspace), wrong)
    gone = confinement.replace(denials=(Denial(str(workspace / "absent")),))
    assert stand_in.run(call("true", cwd=workspace), gone) == 0


def test_a_socket_that_is_granted_is_looked_at_where_it_cant_be_opened(
    confinement: Confinement, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS, where nobody opens one."""
    with socket.socket(socket.AF_UNIX) as one:
        monkeypatch.chdir(workspace)
        one.bind("s")
    status = (workspace / "s").stat()
    grant = Grant(str(workspace / "s"), READ | WRITE, exact=True).replace(
        identity=(status.st_dev, status.st_ino)
    )
    opened = os.open

    def refused(path: str, flags: int) -> int:
        if path.endswith("/s"):
            raise OSError(errno.EOPNOTSUPP, "Operation not supported on socket")
        return opened(path, flags)

    monkeypatch.setattr(os, "open", refused)
    check_places(confinement.replace(grants=(*confinement.grants, grant)))
    with pytest.raises(ConfinementError, match="was replaced"):
        check_places(confinement.replace(grants=(grant.replace(identity=(1, 2)),)))


def test_who_starts_it_sees_it_before_any_of_it_runs(
    stand_in: StandIn, confinement: Confinement, workspace: Path
) -> None:
    """A program may be gone before the next look, and what it left is known by it alone."""
    seen = []

    def look(pid: int) -> None:
        os.kill(pid, 0)
        seen.append((pid, (workspace / "made").exists()))

    nowhere = os.open(os.devnull, os.O_RDWR)
    made = call("touch", "made", cwd=workspace)
    pid = launcher.launch(made, confinement, (nowhere,) * 3, str(stand_in.path), began=look)
    os.close(nowhere)
    os.waitpid(pid, 0)
    assert seen == [(pid, False)]
    assert (workspace / "made").exists()


def test_a_call_narrows_and_never_widens(workspace: Path, confinement: Confinement) -> None:
    inner = str(workspace / "inner")
    wide = confinement.replace(network=Network(OPEN))
    made = narrowed(wide, Narrowing(writes=(inner, "/elsewhere"), network_closed=True))
    assert made.network.mode == CLOSED
    writable = [grant for grant in made.grants if grant.access & WRITE]
    assert writable == [Grant(inner, WRITE)]
    assert Grant(str(workspace), READ) in made.grants
    assert narrowed(wide, Narrowing()) == wide
    assert not [g for g in narrowed(wide, Narrowing(writes=())).grants if g.access & WRITE]


def test_a_text_is_tried_before_it_is_relied_on(stand_in: StandIn, tmp_path: Path) -> None:
    launcher.check_text("(version 1)\n(deny default)\n", str(stand_in.path))
    with pytest.raises(UnsupportedError, match="doesn't take"):
        launcher.check_text("(version 2)", str(stand_in.path))
    with pytest.raises(UnsupportedError, match="No such file"):
        launcher.check_text("(version 1)", str(tmp_path / "gone"))


def test_nothing_of_the_supervisors_is_imported_by_the_stage(
    confinement: Confinement, workspace: Path, stand_in: StandIn
) -> None:
    planted = textwrap.dedent("""\
        import os
        os.write(2, b"planted")
        os._exit(99)
    """)
    for name in ("marshal", "resource", "fcntl", "signal", "sitecustomize", "termios"):
        (workspace / f"{name}.py").write_text(planted)
    assert stand_in.run(call("true", cwd=workspace), confinement) == 0
