"""Names of sockets that aren't paths, without namespaces: they're a session's own."""

from __future__ import annotations

import os
import select
import socket
from typing import TYPE_CHECKING

import pytest

from nono_sandbox.confinement import (
    CLOSED,
    LANDLOCK,
    OPEN,
    Network,
)
from tests.sandbox.local_sockets import sending

if TYPE_CHECKING:
    from tests.sandbox.conftest import Confine, Sandbox

pytestmark = [pytest.mark.linux, pytest.mark.parametrize("tier", [LANDLOCK], indirect=True)]


@pytest.mark.claim("net.unix-names")
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
def test_a_name_is_the_sessions_own(confine: Confine, kind: int) -> None:
    """Its calls reach each other by it; no other session and nobody outside is reached or taken."""
    name = f"\0nono-test-{os.urandom(8).hex()}"
    with socket.socket(socket.AF_UNIX, kind) as outside:
        outside.bind(name)
        serve = """
            name, kind = ARGUMENTS
            one = bound(name, kind)
            if kind != DGRAM:
                one.listen()
            say("whole", repr(one.getsockname()))
            if kind != DGRAM:
                one, _ = one.accept()
            say("heard", one.recv(9).decode())
            """
        reach = """
            name, kind = ARGUMENTS
            def reached():
                connected(name, kind).send(b"hello")
            attempt("reach", reached)
            """
        one, other = confine(), confine()
        if kind != socket.SOCK_DGRAM:
            outside.listen()
        before = one.attack(sending(reach), name, kind)
        assert before.said["reach"] == "ECONNREFUSED"
        serving = one.begin_attack(sending(serve), name, kind, lane=one.new_lane())
        serving.wait_for("whole")
        assert other.attack(sending(reach), name, kind).said["reach"] == "ECONNREFUSED"
        assert one.attack(sending(reach), name, kind, lane=one.new_lane()).done == ["reach"]
        said = serving.wait().said
        assert said["heard"] == "hello"
        assert name not in said["whole"]
        whole = eval(said["whole"])  # noqa: S307  # our own program's
        # What the kernel tells of it is as good as the name, to its own session.
        assert other.attack(sending(reach), whole.decode(), kind).said["reach"] == "ECONNREFUSED"
        assert select.select([outside], [], [], 0)[0] == []


NAMES = """
    name, = ARGUMENTS
    plain = struct.pack("=H", 1) + name.encode()
    padded = plain.ljust(110, b"\\0")
    def asking_to(call, kind, body):
        one = socket.socket(1, kind)
        kept.append(one)
        syscall(call, one.fileno(), held(body), len(body))
        return one
    """


@pytest.mark.claim("net.unix-names")
def test_names_are_what_they_are_to_the_kernel(sandbox: Sandbox) -> None:
    outcome = sandbox.attack(
        sending(
            NAMES,
            """
        one = asking_to("bind", DGRAM, plain)
        attempt("taken", lambda: asking_to("bind", DGRAM, plain))
        two = asking_to("bind", DGRAM, padded)
        attempt("padded, taken", lambda: asking_to("bind", DGRAM, padded))
        asking_to("connect", DGRAM, plain).send(b"one")
        asking_to("connect", DGRAM, padded).send(b"two")
        say("one", one.recv(9).decode())
        say("two", two.recv(9).decode())
        three = asking_to("bind", DGRAM, struct.pack("=H", 1) + b"\\0")
        asking_to("connect", DGRAM, struct.pack("=H", 1) + b"\\0").send(b"three")
        say("three", three.recv(9).decode())
        attempt("another kind", lambda: asking_to("connect", 1, plain))
        auto = asking_to("bind", DGRAM, struct.pack("=H", 1))
        attempt("once more", lambda: syscall("bind", auto.fileno(), held(bytes([1, 0])), 2))
        attempt("another name", lambda: auto.bind("\\0other"))
        for _ in range(2):
            auto.sendto(b"question", two.getsockname())
            question, who = two.recvfrom(9)
            two.sendto(b"answer", who)
            say("answered", auto.recv(9).decode())
        asking = socket.socket(1, DGRAM)
        asking.setsockopt(1, socket.SO_PASSCRED, 1)
        asking.sendto(b"question", two.getsockname())
        question, who = two.recvfrom(9)
        two.sendto(b"answer", who)
        say("answered one that asks for ids", asking.recv(9).decode())
        attempt("too short", lambda: asking_to("connect", DGRAM, struct.pack("=H", 1)))
        attempt("too long", lambda: asking_to("bind", DGRAM, padded + b"\\0"))
        two.close()
        attempt("closed", lambda: asking_to("connect", DGRAM, padded))
        attempt("taken again", lambda: asking_to("bind", DGRAM, padded))
        """,
        ),
        f"\0nono-test-{os.urandom(8).hex()}",
    )
    said = outcome.said
    assert [said[name] for name in ("one", "two", "three")] == ["one", "two", "three"]
    assert said["answered"] == said["answered one that asks for ids"] == "answer"
    assert {said["taken"], said["padded, taken"]} == {"EADDRINUSE"}
    assert said["another kind"] == "ECONNREFUSED"
    assert {said[name] for name in ("another name", "too short", "too long")} == {"EINVAL"}
    assert said["closed"] == "ECONNREFUSED"
    assert outcome.done == ["once more", "taken again"]


@pytest.mark.claim("net.unix-names")
@pytest.mark.parametrize("mode", [CLOSED, OPEN])
def test_a_name_that_the_kernel_would_choose_is_the_sessions(confine: Confine, mode: str) -> None:
    """Of one that asks who sends, as it connects."""
    outcome = confine(network=Network(mode)).attack(
        sending(
            """
        SO_PASSPIDFD = 76
        kinds = (1, DGRAM, SEQPACKET) if ARGUMENTS[0] else (1, SEQPACKET)
        for kind in kinds:
            own = bound(f"of kind {kind}", kind)
            if kind != DGRAM:
                own.listen()
            for asked in (None, socket.SO_PASSCRED, SO_PASSPIDFD):
                one = socket.socket(1, kind)
                if asked:
                    one.setsockopt(1, asked, 1)
                one.connect(f"of kind {kind}")
                name = one.getsockname()
                say(f"{kind}, {asked}", os.fsdecode(name[:6]) if name else "")
        """
        ),
        mode == CLOSED,
    )
    said = outcome.said
    assert len(said) == (9 if mode == CLOSED else 6)
    for about, name in said.items():
        assert name == ("" if about.endswith("None") else "\0nono-"), said


@pytest.mark.claim("net.unix-names")
def test_a_name_in_there_is_none_outside(sandbox: Sandbox) -> None:
    """So no program outside talks to a worker that took the name of what it looks for."""
    name = f"\0nono-test-{os.urandom(8).hex()}"
    read_end, write_end = os.pipe()
    running = sandbox.begin_attack(
        sending(
            """
        name, = ARGUMENTS
        one = bound(name, 1)
        one.listen()
        other = bound(name + "-datagrams")
        say("ready", True)
        os.read(0, 1)
        """
        ),
        name,
        stdin=read_end,
    )
    os.close(read_end)
    running.wait_for("ready")
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
        client.connect(name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        with pytest.raises(ConnectionRefusedError):
            client.sendto(b"x", name + "-datagrams")
        client.bind(name + "-datagrams")
    os.close(write_end)
    assert running.wait().status == 0
