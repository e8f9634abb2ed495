"""What travels with a message that is sent on behalf: descriptors, and who says to send it."""

from __future__ import annotations

import errno
import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from nono_sandbox.confinement import (
    LANDLOCK,
)
from tests.sandbox.conftest import supervisor_argv
from tests.sandbox.local_sockets import sending

if TYPE_CHECKING:
    from tests.sandbox.conftest import Sandbox, Yard

pytestmark = [pytest.mark.linux, pytest.mark.parametrize("tier", [LANDLOCK], indirect=True)]


@pytest.mark.claim("net.unix-datagrams")
def test_descriptors_that_travel_are_the_senders_own(sandbox: Sandbox) -> None:
    """Whoever sends has others at the same numbers, and a thread changes what is at one."""
    outcome = sandbox.attack(
        sending(
            """
        one, other = socket.socketpair(1, DGRAM)
        own = bound("own")
        for number in range(3, 200):
            try:
                os.fstat(number)
            except OSError:
                attempt(number, lambda: syscall("sendmsg", one.fileno(),
                                                header(control=rights(number)), 0))
        def received():
            _, (fd,), _, _ = socket.recv_fds(other, 9, 1)
            status = os.fstat(fd)
            os.close(fd)
            return status.st_ino
        flipping = os.dup(0)
        mine = [os.open("notes", os.O_RDONLY), os.open("sub", os.O_PATH)]
        os.dup2(mine[0], flipping)
        def flip():
            for fd in mine:
                os.dup2(fd, flipping)
        message = header(control=rights(flipping))
        def send():
            syscall("sendmsg", one.fileno(), message, 0)
            return received()
        race([flip], {"inodes": send}, ["inodes"])
        say("own inodes", sorted(os.fstat(fd).st_ino for fd in mine))
        sender = socket.socket(1, DGRAM)
        attempt("with an address", lambda: syscall(
            "sendmsg", sender.fileno(),
            header(name=address("own"), control=rights(mine[0])), 0))
        _, (fd,), _, _ = socket.recv_fds(own, 9, 1)
        say("read", os.read(fd, 20).decode())
        """
        )
    )
    told = ("inodes", "own inodes", "read")
    refused = [said for name, said in outcome.said.items() if name not in told]
    assert set(refused[:-1]) == {"EBADF"}
    assert len(refused) > 100
    assert outcome.said["inodes"] == outcome.said["own inodes"]
    assert (outcome.said["with an address"], outcome.said["read"]) == ("done", "as they were")


BOUNDED = """
    import resource, socket
    from nono_sandbox import _uapi
    from nono_sandbox.behalf import messages, notifications, sending
    from nono_sandbox.behalf.addresses import Kind
    from nono_sandbox.behalf.messages import Message
    one, other = socket.socketpair(1, socket.SOCK_DGRAM)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    control = socket.CMSG_LEN(4).to_bytes(8, "little") + (1).to_bytes(4, "little") * 2 + bytes(8)
    def on_behalf(most, control):
        sending.IN_FLIGHT_MAX = most
        message = Message(b"", (), 0, control, 0)
        caller = notifications.Caller(os.getpid())
        return sending.Sending(caller, one.fileno(), Kind(1, 2, 0), message, control).attempt()
    # As root it would be let send any number.
    _uapi.drop_capabilities()
    usual = sending.IN_FLIGHT_MAX
    told = [on_behalf(usual, control), on_behalf(0, control), on_behalf(0, b"")]
    socket.send_fds(one, [b"x"], [0])
    told.append(on_behalf(usual, control))
    most = usual + messages.FDS_MAX
    print(json.dumps([told, most, resource.getrlimit(resource.RLIMIT_NOFILE) == limits]))
    """


USUAL_OPEN_MAX = 1024
"""What a program may have open unless it asks for more, as systemd and most shells have it."""


@pytest.mark.usefixtures("tier")
def test_what_is_in_flight_is_bounded_below_what_others_may_leave_there() -> None:
    """With a bound of none, since what is in flight here would be in every other test's way."""
    done = subprocess.run(supervisor_argv(BOUNDED), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    told, most, is_restored = json.loads(done.stdout)
    # One is in flight by then; who sends none isn't held.
    assert told == [0, -errno.ETOOMANYREFS, 0, 0]
    assert most < USUAL_OPEN_MAX
    assert is_restored


@pytest.mark.claim("net.unix-datagrams")
def test_nobody_says_that_he_is_another_and_who_acts_lends_nothing(
    sandbox: Sandbox, yard: Yard
) -> None:
    del yard
    outcome = sandbox.attack(
        sending(
            """
        SO_PASSPIDFD, SO_PEERPIDFD, SCM_PIDFD = 76, 77, 4
        def saying(*who):
            one, other = socket.socketpair(1, kind)
            kept.extend((one, other))
            return lambda: syscall("sendmsg", one.fileno(), header(control=ids(*who)), 0)
        me = os.getpid(), os.getuid(), os.getgid()
        for kind in (1, 2, 5):
            attempt(f"{kind} whoever acts", saying(ARGUMENTS[0], *me[1:]))
            attempt(f"{kind} process 1", saying(1, *me[1:]))
            attempt(f"{kind} a parent", saying(os.getppid(), *me[1:]))
            attempt(f"{kind} another user", saying(me[0], me[1] + 1, me[2]))
            attempt(f"{kind} another group", saying(me[0], me[1], me[2] + 1))
            attempt(f"{kind} oneself", saying(*me))
        own = bound("own")
        own.setsockopt(1, socket.SO_PASSCRED, 1)
        by_sendmsg(socket.socket(1, DGRAM), "own")
        _, ancillary, _, _ = own.recvmsg(9, 100)
        said = struct.unpack("=iII", ancillary[0][2])
        say("ids", said[1:] == me[1:])
        listening = serving("stream")
        connected("stream")
        accepted, _ = listening.accept()
        peer = accepted.getsockopt(1, SO_PEERPIDFD)
        for number in (0, signal.SIGKILL, signal.SIGSTOP):
            attempt(f"signal {number}", lambda: signal.pidfd_send_signal(peer, number))
        attempt("a descriptor", lambda: syscall("pidfd_getfd", peer, 0, 0))
        attempt("its namespaces", lambda: syscall("setns", peer, 0x10000000))
        attempt("no copy", lambda: socket.socketpair()[0].sendmsg([b"x"], [], 0x4000000))
        attempt("fast open", lambda: socket.socketpair()[0].sendmsg([b"x"], [], 0x20000000))
        """
        ),
        sandbox.server.pid,
    )
    assert outcome.done == ["1 oneself", "2 oneself", "5 oneself"]
    assert outcome.said["ids"]
    assert outcome.said["no copy"] == "ENOBUFS"
    others = {name: said for name, said in outcome.said.items() if name not in ("ids", "no copy")}
    assert set(others.values()) == {"EPERM", "done"}
