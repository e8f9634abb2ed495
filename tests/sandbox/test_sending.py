"""Datagrams without namespaces, copied, judged and sent by another: whom they reach."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

import pytest

from nono_sandbox.confinement import (
    LANDLOCK,
    OPEN,
    READ,
    WRITE,
    Narrowing,
    Network,
)
from tests.sandbox.local_sockets import Receiver, sending

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.conftest import Confine, Sandbox, Yard

pytestmark = [pytest.mark.linux, pytest.mark.parametrize("tier", [LANDLOCK], indirect=True)]


@pytest.fixture
def receiver(yard: Yard) -> Iterator[Receiver]:
    with contextlib.closing(Receiver(yard.workspace, yard.reading, yard.outside)) as them:
        yield them


@pytest.mark.claim("net.unix-datagrams")
def test_no_datagram_reaches_a_program_outside_wherever_it_is(
    sandbox: Sandbox, yard: Yard, receiver: Receiver
) -> None:
    outcome = sandbox.attack(
        sending(
            """
        workspace, reading, outside, name = ARGUMENTS
        own = bound("own")
        os.link("theirs", "linked")
        os.symlink(f"{outside}/theirs", "symlinked")
        os.mkdir("sub2")
        fd = os.open("theirs", os.O_PATH)
        paths = ["theirs", f"{workspace}/theirs", f"{reading}/theirs", f"{outside}/theirs",
                 "linked", "symlinked", "sub2/../theirs", name, f"/proc/self/fd/{fd}",
                 *(f"/proc/self/fd/{number}" for number in range(3, 40))]
        def senders():
            yield "a socket", socket.socket(1, DGRAM)
            yield "a bound one", bound(f"b{len(kept)}")
            one, other = socket.socketpair(1, DGRAM)
            kept.append(other)
            yield "one of a pair", one
            one = socket.socket(1, DGRAM)
            one.connect("own")
            yield "a connected one", one
        for path in paths:
            for what, one in senders():
                for way in WAYS:
                    attempt(f"{path}, {what}, {way.__name__}", lambda: way(one, path))
        os.rename("own", "kept")
        os.rename("linked", "own")
        attempt("replaced", lambda: socket.socket(1, DGRAM).sendto(b"x", "own"))
        attempt("moved", lambda: socket.socket(1, DGRAM).sendto(b"x", "kept"))
        """
        ),
        yard.workspace,
        yard.reading,
        yard.outside,
        receiver.name,
    )
    assert outcome.done == ["moved"]
    assert len(outcome.said) == 46 * 16 + 2 - 16
    assert receiver.reached() == []


SWAPS = {
    "the address": """
        name = in_memory("own")
        one = header(name_at=ctypes.addressof(name), name_bytes=110)
        def swap():
            ctypes.memmove(name, theirs, 110)
            ctypes.memmove(name, ours, 110)
        """,
    "where the address is": """
        one = header(name=ours)
        first, other = held(ours), held(theirs)
        def swap():
            ctypes.c_uint64.from_address(one).value = other
            ctypes.c_uint64.from_address(one).value = first
        """,
    "whether there is an address": """
        sender.connect("own")
        one = header(name=theirs)
        where = held(theirs)
        def swap():
            ctypes.c_uint64.from_address(one).value = 0
            ctypes.c_uint64.from_address(one).value = where
        """,
    "the socket": """
        one = header(name=theirs)
        datagrams, (stream, other) = os.dup(sender.fileno()), socket.socketpair(1, SEQPACKET)
        drain = lambda: [other.recv(9) for _ in range(1 << 30)]
        threading.Thread(target=drain, daemon=True).start()
        def swap():
            os.dup2(stream.fileno(), sender.fileno())
            os.dup2(datagrams, sender.fileno())
        """,
}


@pytest.mark.claim("net.unix-datagrams")
@pytest.mark.parametrize("swapped", SWAPS.values(), ids=SWAPS.keys())
def test_a_thread_that_swaps_what_is_judged_gains_nothing(
    sandbox: Sandbox, receiver: Receiver, swapped: str
) -> None:
    outcome = sandbox.attack(
        sending(
            """
        own = bound("own")
        own.setblocking(False)
        ours, theirs = address("own"), address("theirs")
        sender = socket.socket(1, DGRAM)
        """
            + swapped
            + """
        fd = sender.fileno()
        def drain():
            try:
                while True:
                    own.recv(9)
            except BlockingIOError:
                pass
        ways = {
            "sendmsg": lambda: syscall("sendmsg", fd, one, socket.MSG_DONTWAIT) and None,
            "sendmmsg": lambda: syscall("sendmmsg", fd, one, 1, socket.MSG_DONTWAIT) and None,
        }
        race([swap], ways | {"drain": drain}, ways, ["EAGAIN"])
        sys.stdout.flush()
        os._exit(0)
        """
        )
    )
    for way in ("sendmsg", "sendmmsg"):
        assert set(outcome.said[way]) - {"EAGAIN"} == {"EACCES", "done"}
    assert receiver.reached() == []


@pytest.mark.claim("net.unix-datagrams")
def test_a_target_that_is_replaced_meanwhile_gains_nothing(
    sandbox: Sandbox, yard: Yard, receiver: Receiver
) -> None:
    outcome = sandbox.attack(
        sending(
            """
        outside, = ARGUMENTS
        own = bound("own")
        own.setblocking(False)
        def flip():
            for target in ("own", outside + "/theirs", "theirs"):
                os.symlink(target, "next")
                os.rename("next", "flipping")
            for target in ("theirs", "own"):
                os.link(target, "hard")
                os.rename("hard", "linking")
        os.symlink("own", "flipping")
        os.link("own", "linking")
        def sent(path, way):
            def act():
                with socket.socket(1, DGRAM) as one:
                    way(one, path, socket.MSG_DONTWAIT)
                own.recv(9)
            return act
        tried = {f"{path}, {way.__name__}": sent(path, way)
                 for path in ("flipping", "linking") for way in WAYS}
        race([flip], tried, tried)
        """
        ),
        yard.outside,
    )
    assert len(outcome.said) == 8
    assert {tuple(ways) for ways in outcome.said.values()} == {("EACCES", "done")}
    assert receiver.reached() == []


@pytest.mark.claim("net.unix-datagrams")
def test_one_that_was_granted_by_itself_is_sent_to(
    confine: Confine, yard: Yard, receiver: Receiver
) -> None:
    path = yard.outside / "theirs"
    status = path.stat()
    grant = yard.granted(path, READ | WRITE)
    outcome = confine(grant, sockets=((status.st_dev, status.st_ino),)).attack(
        sending(
            """
        for path in ARGUMENTS:
            for way in WAYS:
                attempt(path, lambda: way(socket.socket(1, DGRAM), path))
        """
        ),
        path,
        yard.workspace / "theirs",
    )
    assert outcome.done == [str(path)]
    assert receiver.reached() == [str(path)]


def test_a_call_that_gave_up_writes_gives_no_socket_a_path(sandbox: Sandbox, yard: Yard) -> None:
    """Be it one of a pair."""
    for writes in ((), (str(yard.workspace / "sub"),)):
        outcome = sandbox.attack(
            sending(
                """
            for kind in (1, 2, 5):
                one, other = socket.socketpair(1, kind)
                attempt(f"{kind} bind", lambda: one.bind(f"new{kind}"))
                attempt(f"{kind} take a name", lambda: one.bind("\\0new"))
                attempt(f"{kind} send", lambda: one.sendmsg([b"x"]))
            """
            ),
            narrowing=Narrowing(writes=writes),
        )
        assert outcome.done == ["1 send", "2 send", "5 send"]
        assert not list(yard.workspace.glob("new*"))


def test_where_the_network_is_the_machines_there_are_no_datagrams(
    confine: Confine, receiver: Receiver
) -> None:
    """Each packet of UDP would have to be sent on behalf, to judge where these go."""
    outcome = confine(network=Network(OPEN)).attack(
        sending(
            """
        attempt("socket", lambda: socket.socket(1, DGRAM))
        attempt("pair", lambda: socket.socketpair(1, DGRAM))
        one = serving("\\0name")
        attempt("a name", lambda: connected("\\0name"))
        udp = socket.socket(2, DGRAM)
        udp.bind(("127.0.0.1", 0))
        attempt("UDP", lambda: udp.sendmsg([b"x"], [], 0, udp.getsockname()))
        """
        )
    )
    assert (outcome.said["socket"], outcome.said["pair"]) == ("EACCES", "EACCES")
    assert outcome.done == ["a name", "UDP"]
    assert receiver.reached() == []


def test_without_whoever_acts_nothing_is_sent(sandbox: Sandbox) -> None:
    read_end, write_end = os.pipe()
    running = sandbox.begin_attack(
        sending(
            """
        own, (one, other) = bound("own"), socket.socketpair()
        say("ready", True)
        os.read(0, 1)
        for way in WAYS[:3]:
            attempt(way.__name__, lambda: way(own, "own"))
        attempt("on a pair", lambda: one.sendmsg([b"x"]))
        attempt("by send", lambda: one.send(b"x"))
        """
        ),
        stdin=read_end,
    )
    os.close(read_end)
    running.wait_for("ready")
    os.kill(sandbox.server.pid, signal.SIGKILL)
    sandbox.server.close()
    os.write(write_end, b"x")
    os.close(write_end)
    said = running.wait().said
    ways = ("by_sendto", "by_sendmsg", "by_sendmmsg", "on a pair")
    assert {said[name] for name in ways} == {"ENOSYS"}
    assert said["by send"] == "done"


@pytest.mark.claim("net.unix-datagrams")
def test_two_calls_of_a_session_send_each_other_datagrams(sandbox: Sandbox) -> None:
    serving = sandbox.begin_attack(
        sending(
            """
        own = bound("sub/own")
        say("ready", True)
        question, who = own.recvfrom(20)
        own.sendto(question.upper(), who)
        """
        ),
        lane=sandbox.new_lane(),
    )
    serving.wait_for("ready")
    outcome = sandbox.attack(
        sending(
            """
        one = bound("mine")
        one.sendto(b"question", "sub/own")
        say("answer", [part.decode() for part in one.recvfrom(20)[:1]])
        """
        ),
        lane=sandbox.new_lane(),
    )
    assert outcome.said["answer"] == ["QUESTION"]
    assert serving.wait().status == 0
