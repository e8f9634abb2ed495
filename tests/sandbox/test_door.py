"""The door: one listening socket inside a session's own network, answered from outside of it."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from nono_sandbox import wire
from nono_sandbox.confinement import (
    CLOSED,
    LANDLOCK,
    NAMESPACES,
    OPEN,
    Call,
    Narrowing,
    Network,
)
from nono_sandbox.errors import ConfinementError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.conftest import Confine, Sandbox, Yard

pytestmark = pytest.mark.linux
with_own_network = pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)
PORT = 888
DOOR = Network(CLOSED, door_port=PORT)
ASK = f"""
    import socket
    def ask(address=("127.0.0.1", {PORT}), family=socket.AF_INET):
        with socket.socket(family) as one:
            one.settimeout(20)
            one.connect(address)
            one.sendall(b"worker")
            say("answer", one.recv(100).decode())
    attempt("ask", ask)
    """


def answering(fd: int, count: int = 1) -> threading.Thread:
    """Answer whoever comes to the listening socket *fd*, from this process's own network."""

    def answer() -> None:
        with socket.socket(fileno=os.dup(fd)) as door:
            door.settimeout(60)
            for _ in range(count):
                one, _ = door.accept()
                with one:
                    one.sendall(b"outside heard " + one.recv(100))

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


@pytest.fixture
def inside(confine: Confine) -> Sandbox:
    return confine(network=DOOR)


@with_own_network
def test_workers_reach_the_door_and_it_is_answered_outside(inside: Sandbox) -> None:
    thread = answering(inside.server.door, count=2)
    for lane in (inside.new_lane(), inside.new_lane()):
        outcome = inside.attack(ASK, lane=lane)
        assert outcome.said == {"answer": "outside heard worker", "ask": "done"}
    thread.join()
    os.close(inside.server.door)


@with_own_network
def test_the_door_is_no_port_of_the_machine_and_the_machine_has_no_way_in(inside: Sandbox) -> None:
    with socket.socket() as one, pytest.raises(ConnectionRefusedError):
        one.connect(("127.0.0.1", PORT))
    assert select.select([inside.server.door], [], [], 0)[0] == []
    os.close(inside.server.door)


@with_own_network
def test_nothing_but_the_door_is_on_that_network(inside: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as outside:
        outcome = inside.attack(
            """
            import socket
            port, = ARGUMENTS
            def reach(address, kind=socket.SOCK_STREAM, family=socket.AF_INET):
                one = socket.socket(family, kind)
                one.settimeout(5)
                one.connect(address)
            attempt("the machine's loopback", lambda: reach(("127.0.0.1", port)))
            attempt("by another address", lambda: reach(("127.0.0.2", port)))
            attempt("IPv6", lambda: reach(("::1", port), family=socket.AF_INET6))
            attempt("far away", lambda: reach(("192.0.2.1", 443)))
            attempt("metadata", lambda: reach(("169.254.169.254", 80)))
            attempt("a datagram far away", lambda: reach(("192.0.2.1", 53), socket.SOCK_DGRAM))
            say("interfaces", [name for _, name in socket.if_nameindex()])
            """,
            outside.getsockname()[1],
        )
        assert outcome.done == []
        assert outcome.said["interfaces"] == ["lo"]
        assert select.select([outside.fileno(), inside.server.door], [], [], 0)[0] == []
    os.close(inside.server.door)


@with_own_network
def test_a_worker_cant_stand_in_for_the_door(inside: Sandbox) -> None:
    # Neither while it's open, nor when whoever answers it has gone.
    attack = f"""
        import socket
        def stand(address, family=socket.AF_INET):
            one = socket.socket(family)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(address)
            one.listen()
        for name, address in (("its address", "127.0.0.1"), ("every address", "0.0.0.0")):
            attempt(name, lambda: stand((address, {PORT})))
        attempt("over IPv6", lambda: stand(("::", {PORT}), socket.AF_INET6))
        attempt("mapped", lambda: stand(("::ffff:127.0.0.1", {PORT}), socket.AF_INET6))
        attempt("a port of its own", lambda: stand(("127.0.0.1", 8080)))
        """
    assert inside.attack(attack).done == ["a port of its own"]
    os.close(inside.server.door)
    assert inside.attack(attack).done == ["a port of its own"]
    assert inside.attack(ASK).said["ask"] == "ECONNREFUSED"


@with_own_network
def test_a_call_may_give_the_door_up(inside: Sandbox) -> None:
    assert inside.attack(ASK, narrowing=Narrowing(network_closed=True)).said["ask"] == "EACCES"
    assert select.select([inside.server.door], [], [], 0)[0] == []
    os.close(inside.server.door)


@with_own_network
def test_a_worker_holds_no_descriptor_of_the_door(inside: Sandbox) -> None:
    outcome = inside.attack(
        """
        import fcntl
        for fd in {*range(3, 300)} - {FREE}:
            attempt(f"descriptor {fd}", lambda: fcntl.fcntl(fd, fcntl.F_GETFD))
        """
    )
    assert outcome.done == []
    os.close(inside.server.door)


@pytest.mark.parametrize(
    ("tier", "network"),
    [(LANDLOCK, DOOR), (NAMESPACES, Network(OPEN, door_port=PORT))],
    indirect=["tier"],
)
def test_a_door_without_a_network_of_ones_own_is_refused(
    confine: Confine, network: Network
) -> None:
    with pytest.raises(ConfinementError, match="a network of the session's own"):
        confine(network=network)


# The process that `nono run` is.
DRIVER = """
import json, select, sys, socket
sys.path[:0] = json.loads(sys.argv[1])
from nono_sandbox import wire
from nono_sandbox.single_run import launching
from nono_sandbox.errors import SandboxError
hint, opened, confinement, call = wire.whole(eval(sys.argv[2]))
launch = launching.start("namespaces", hint)
try:
    launch.await_ready()
    doors = [socket.socket(fileno=launch.door(one)) for one in opened]
    launch.run(confinement, call)
    over = False
    while not over:
        for ready in select.select([launch, *doors], [], [])[0]:
            if ready is launch:
                over = launch.receive()[0] == "ended" or over
                continue
            one, _ = ready.accept()
            one.sendall(b"outside heard " + one.recv(100))
            one.close()
except SandboxError as error:
    print(error)
"""


def single_run(yard: Yard, argv: list[str], hint: str, opened: Network | None, run: Network) -> str:
    """Return what came of a single run whose door was opened for one network and run in another."""
    doors = () if opened is None else (yard.confinement(network=opened),)
    call = Call(tuple(argv), (("PATH", "/usr/bin:/bin"),), str(yard.workspace))
    message = wire.plain((hint, doors, yard.confinement(network=run), call))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", DRIVER, json.dumps(sys.path), repr(message)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    return done.stdout


@with_own_network
@pytest.mark.parametrize("hint", [CLOSED, OPEN])
@pytest.mark.usefixtures("tier")
def test_a_single_run_has_a_door_too(
    yard: Yard, attack_argv: Callable[..., list[str]], hint: str
) -> None:
    said = single_run(yard, attack_argv(ASK), hint, DOOR, DOOR)
    assert '["answer", "outside heard worker"]' in said


@with_own_network
@pytest.mark.parametrize(
    ("opened", "run"), [(None, DOOR), (DOOR, DOOR.replace(door_port=889)), (DOOR, Network())]
)
@pytest.mark.usefixtures("tier")
def test_a_single_run_whose_door_isnt_the_one_that_was_opened_is_refused(
    yard: Yard, attack_argv: Callable[..., list[str]], opened: Network | None, run: Network
) -> None:
    said = single_run(yard, attack_argv(ASK), CLOSED, opened, run)
    assert said == "the door isn't the one that was opened\n"
