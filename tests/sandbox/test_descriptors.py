"""Descriptors: a program starts with the three it is handed, and finds no others."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from nono_sandbox import wire
from nono_sandbox.confinement import LANDLOCK, NAMESPACES
from tests.sandbox.conftest import supervisor_argv

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.conftest import Sandbox, Yard


OPEN_ONES = """
    import fcntl, stat
    found = {}
    for fd in range(70000):
        if fd == FREE:
            continue
        try:
            fcntl.fcntl(fd, fcntl.F_GETFD)
        except OSError:
            continue
        found[fd] = stat.S_IFMT(os.fstat(fd).st_mode)
    say("found", found)
    """


@pytest.fixture
def inheritable(yard: Yard) -> Iterator[list[int]]:
    """Descriptors of the supervisor that were left to be inherited by mistake, low and high."""
    secret = os.open(yard.outside / "secret", os.O_RDWR)
    ends = [end.detach() for end in socket.socketpair()]
    fds = [
        secret,
        *ends,
        fcntl.fcntl(secret, fcntl.F_DUPFD, 500),
        os.open(yard.outside, os.O_RDONLY),
    ]
    for fd in fds:
        os.set_inheritable(fd, True)  # noqa: FBT003  # positional only
    yield fds
    for fd in fds:
        os.close(fd)


@pytest.mark.claim("descriptors.none-inherited")
@pytest.mark.usefixtures("inheritable")
def test_what_the_supervisor_has_open_isnt_inherited(sandbox: Sandbox, yard: Yard) -> None:
    # The first call's worker was forked before the second lane's, and both after the fixtures.
    for _ in range(2):
        outcome = sandbox.attack(OPEN_ONES, lane=sandbox.new_lane())
        assert list(outcome.said["found"]) == ["0", "1", "2"]
    outcome = sandbox.attack(
        """
        for fd in range(600):
            for use in (lambda: os.pread(fd, 100, 0).decode(), lambda: os.listdir(fd)):
                try:
                    say(f"read {fd}", use())
                except (OSError, UnicodeDecodeError):
                    pass
        """
    )
    assert yard.secret not in outcome.text
    assert "secret" not in outcome.text.replace(yard.secret, "")


@pytest.mark.claim("descriptors.none-inherited")
def test_a_program_has_its_streams_and_no_channel_of_ours(sandbox: Sandbox) -> None:
    """The kinds: /dev/null and the two ends of the pipe that was handed in. No socket."""
    for _ in range(3):
        found = sandbox.attack(OPEN_ONES).said["found"]
        assert found == {"0": 0o020000, "1": 0o010000, "2": 0o010000}


ENTER = """
import os, sys
sys.path[:] = eval(sys.argv[1])
from nono_sandbox import _uapi, landlock, sealing
left = [os.dup(0), os.dup2(0, 700)]
for fd in left:
    os.set_inheritable(fd, True)
_uapi.prctl(_uapi.PR_SET_NO_NEW_PRIVS, 1)
sealing.enter_domain(sealing.Plan("namespaces", landlock.signal_scope(), b"", ()))
print([os.get_inheritable(fd) for fd in (*left, 0, 1, 2)])
"""


@pytest.mark.linux  # a lane enters no domain elsewhere
@pytest.mark.claim("descriptors.none-inherited")
def test_what_a_lane_left_to_be_inherited_is_no_programs() -> None:
    command = [sys.executable, "-I", "-S", "-c", ENTER, repr(sys.path)]
    entered = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=60
    )
    assert entered.stdout == "[False, False, True, True, True]\n"


@pytest.mark.linux  # macOS has no /proc, nor descriptors of processes
@pytest.mark.claim("descriptors.none-inherited")
def test_no_descriptor_of_the_lane_can_be_taken(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        """
        lane = os.getppid()
        for fd in range(12):
            attempt(f"open {fd}", lambda: os.open(f"/proc/{lane}/fd/{fd}", os.O_RDWR))
            attempt(f"O_PATH {fd}", lambda: os.open(f"/proc/{lane}/fd/{fd}", os.O_PATH))
            attempt(f"read {fd}", lambda: os.readlink(f"/proc/{lane}/fd/{fd}"))
            attempt(f"get {fd}", lambda: syscall("pidfd_getfd", os.pidfd_open(lane), fd, 0))
        attempt("its memory", lambda: os.open(f"/proc/{lane}/mem", os.O_RDWR))
        """
    )
    assert outcome.done == []


def test_the_next_descriptor_is_the_third(sandbox: Sandbox) -> None:
    outcome = sandbox.attack('say("number", FREE)')
    assert outcome.said["number"] == 3


def test_standard_error_and_output_are_what_was_handed_in(sandbox: Sandbox) -> None:
    outcome = sandbox.run("sh", "-c", "echo out; echo err >&2; echo out again")
    assert outcome.text == "out\nerr\nout again\n"


DRIVER = """
    closed = [int(fd) for fd in sys.argv[2]]
    report = os.dup(int(sys.argv[3]))
    os.dup2(report, 20)
    for fd in closed:
        os.close(fd)
    from nono_sandbox import wire
    from nono_sandbox.client import ForkServer
    from nono_sandbox.confinement import Call
    import select
    tier, confinement = wire.whole(eval(sys.argv[4]))
    server = ForkServer.start(tier)
    server.configure(confinement)
    for _ in range(2):
        lane = server.lane()
        null = os.open("/dev/null", os.O_RDWR)
        for argv in (("sh", "-c", "echo hello; echo world >&2"), ("no-such-program",)):
            lane.begin(Call(argv, (("PATH", "/usr/bin:/bin"),), "/usr"), (null, 20, 20))
            while not lane.receive():
                select.select([lane], [], [])
            os.write(20, b"%d\\n" % lane.ended.status)
    server.close()
    """


@pytest.mark.parametrize("closed", ["0", "1", "2", "01", "12", "012"])
def test_a_supervisor_without_standard_streams_confines_all_the_same(
    tier: str, yard: Yard, closed: str
) -> None:
    read_end, write_end = os.pipe()
    message = repr(wire.plain((tier, yard.confinement(cwd="/usr"))))
    finished = subprocess.run(
        supervisor_argv(DRIVER, closed, str(write_end), message),
        pass_fds=[write_end],
        timeout=60,
        check=False,
    )
    os.close(write_end)
    with os.fdopen(read_end, "rb") as stream:
        output = stream.read()
    assert (finished.returncode, output) == (0, b"hello\nworld\n0\n127\n" * 2)


@pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
def test_proc_shows_a_program_its_own_descriptors(sandbox: Sandbox) -> None:
    assert sandbox.run("sh", "-c", "echo < /dev/fd/0; ls /proc/self/fd").status == 0


@pytest.mark.parametrize("tier", [LANDLOCK], indirect=True)
def test_without_a_proc_of_its_own_a_program_still_has_its_streams(sandbox: Sandbox) -> None:
    assert sandbox.run("sh", "-c", "cat; echo done").text == "done\n"


@pytest.mark.claim("fs.metadata")
@pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
def test_a_device_that_is_a_standard_stream_keeps_its_mode(sandbox: Sandbox, yard: Yard) -> None:
    """As root its owner, who needs no capability, could close /dev/null to the whole machine."""
    node = yard.outside / "null"
    if os.geteuid() == 0:
        os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    else:
        node.symlink_to("/dev/null")
    before = node.stat()
    fd = os.open(node, os.O_RDWR)
    try:
        outcome = sandbox.attack(
            """
            attempt("mode", lambda: os.fchmod(0, 0o600))
            attempt("time", lambda: os.utime(0, (1, 1)))
            attempt("owner", lambda: os.fchown(0, os.getuid(), os.getgid()))
            say("input", sys.stdin.read())
            say("written", os.write(0, b"nowhere"))
            """,
            stdin=fd,
        )
    finally:
        os.close(fd)
    assert outcome.done == []
    assert (outcome.said["input"], outcome.said["written"]) == ("", 7)
    after = node.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_uid) == (
        before.st_mode,
        before.st_mtime_ns,
        before.st_uid,
    )


@pytest.mark.claim("fs.deny-by-default")
@pytest.mark.parametrize("mode", [os.O_RDONLY, os.O_WRONLY], ids=["to be read", "to be written"])
def test_a_file_handed_in_is_opened_no_second_time(sandbox: Sandbox, yard: Yard, mode: int) -> None:
    """By a descriptor one gets past every mount: it's Landlock that judges where that leads."""
    file = yard.outside / "handed-in"
    file.write_text("before")
    fd = os.open(file, mode | os.O_APPEND)
    try:
        outcome = sandbox.attack(
            """
            way = "/proc/self/fd/0"
            attempt("read", lambda: os.open(way, os.O_RDONLY))
            attempt("write", lambda: os.open(way, os.O_WRONLY))
            attempt("empty it", lambda: os.truncate(way, 0))
            attempt("empty it, as one opens it", lambda: os.open(way, os.O_RDONLY | os.O_TRUNC))
            """,
            stdin=fd,
        )
    finally:
        os.close(fd)
    assert outcome.done == []
    assert file.read_text() == "before"
