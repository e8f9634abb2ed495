"""Ports of the machine's loopback, carried into and out of a network of a session's own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nono_sandbox.confinement import NAMESPACES, PORTS, Network
from nono_sandbox.forward import CONNECTIONS_MAX
from tests.ports import unused_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.conftest import Confine

pytestmark = [pytest.mark.linux, pytest.mark.parametrize("tier", [NAMESPACES], indirect=True)]
LOOPBACK = "127.0.0.1"
LONG_ENOUGH_S = 60
LISTENING = "0A"

ECHO = """
    import socket
    port, size = ARGUMENTS
    server = socket.create_server(("0.0.0.0", port))
    say("ready", True)
    while True:
        one, _ = server.accept()
        while part := one.recv(65536):
            one.sendall(part)
        one.sendall(b"end")
        one.close()
    """


@pytest.fixture
def free_port() -> int:
    return unused_port()


@pytest.fixture
def echo() -> Iterator[socket.socket]:
    """Serve, outside, what says everything again and then that it ends."""
    with contextlib.closing(socket.create_server((LOOPBACK, 0), backlog=64)) as server:

        def answer(one: socket.socket) -> None:
            with one, contextlib.suppress(ConnectionError):
                while part := one.recv(65536):
                    one.sendall(part)
                one.sendall(b"end")

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield server
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)


def until(happened: object) -> None:
    """Wait for it."""
    assert callable(happened)
    deadline = time.monotonic() + LONG_ENOUGH_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def served_at(port: int) -> list[str]:
    """Return the addresses, as /proc spells them, at which the machine's *port* is listened on."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, _, number = local.partition(":")
            if state == LISTENING and int(number, 16) == port:
                found.append(address)
    return found


@pytest.mark.claim("net.ports")
def test_what_the_machine_serves_is_reached_inside_as_it_is(
    confine: Confine, echo: socket.socket
) -> None:
    port = echo.getsockname()[1]
    outcome = confine(network=Network(PORTS, connect_ports=(port,))).attack(
        """
        import socket
        port, = ARGUMENTS
        def exchanged(address, size):
            with socket.create_connection((address, port)) as one:
                body = os.urandom(size)
                threading.Thread(target=lambda: (one.sendall(body), one.shutdown(1))).start()
                heard = b""
                while part := one.recv(65536):
                    heard += part
                assert heard == body + b"end", (len(heard), size)
        for address in ("127.0.0.1", "::1"):
            attempt(address, lambda: exchanged(address, 3_000_000))
        threads = [threading.Thread(target=exchanged, args=("127.0.0.1", 10000))
                   for _ in range(40)]
        for one in threads: one.start()
        for one in threads: one.join()
        """,
        port,
    )
    assert outcome.done == [LOOPBACK, "::1"]


@pytest.mark.claim("net.ports")
def test_what_is_served_inside_is_served_outside_on_loopback_alone(
    confine: Confine, free_port: int
) -> None:
    sandbox = confine(network=Network(PORTS, bind_ports=(free_port,)))
    running = sandbox.begin_attack(ECHO, free_port, 0)
    running.wait_for("ready")
    assert set(served_at(free_port)) <= {"0100007F", "0" * 24 + "01000000"}
    body = os.urandom(2_000_000)
    for _ in range(3):
        with socket.create_connection((LOOPBACK, free_port), timeout=LONG_ENOUGH_S) as one:
            heard = bytearray()

            def say(to: socket.socket = one) -> None:
                to.sendall(body)
                to.shutdown(socket.SHUT_WR)

            threading.Thread(target=say).start()
            while part := one.recv(65536):
                heard += part
            assert heard == body + b"end"
    running.lane.end("test")
    running.wait()


def test_what_nobody_serves_is_reset(confine: Confine, free_port: int) -> None:
    outcome = confine(network=Network(PORTS, connect_ports=(free_port,))).attack(
        """
        import socket
        def heard():
            with socket.create_connection(("127.0.0.1", ARGUMENTS[0])) as one:
                one.settimeout(30)
                one.recv(1)
        attempt("recv", heard)
        """,
        free_port,
    )
    assert outcome.said["recv"] == "ECONNRESET"


def test_a_port_of_another_program_stays_its_own_until_it_ends(
    confine: Confine, free_port: int
) -> None:
    with contextlib.closing(socket.create_server((LOOPBACK, free_port))) as other:
        sandbox = confine(network=Network(PORTS, bind_ports=(free_port,)))
        running = sandbox.begin_attack(ECHO, free_port, 0)
        running.wait_for("ready")
        with socket.create_connection((LOOPBACK, free_port)) as one:
            accepted, _ = other.accept()
            with accepted:
                assert accepted.getpeername() == one.getsockname()

    def answered() -> bool:
        try:
            with socket.create_connection((LOOPBACK, free_port), timeout=LONG_ENOUGH_S) as one:
                one.shutdown(socket.SHUT_WR)
                return one.recv(3) == b"end"
        except ConnectionError:
            return False

    until(answered)
    running.lane.end("test")
    running.wait()


@pytest.mark.claim("net.ports")
def test_with_the_session_its_ports_are_given_up(confine: Confine, free_port: int) -> None:
    sandbox = confine(network=Network(PORTS, bind_ports=(free_port,)))
    until(lambda: served_at(free_port))
    sandbox.close()
    until(lambda: not served_at(free_port))
    dying = confine(network=Network(PORTS, bind_ports=(free_port,)))
    until(lambda: served_at(free_port))
    os.kill(dying.server.pid, 9)
    until(lambda: not served_at(free_port))


@pytest.mark.claim("net.ports")
def test_who_carries_is_out_of_a_workers_sight(confine: Confine, echo: socket.socket) -> None:
    port = echo.getsockname()[1]
    outcome = confine(network=Network(PORTS, connect_ports=(port,))).attack(
        """
        import socket
        one = socket.create_connection(("127.0.0.1", ARGUMENTS[0]))
        one.sendall(b"x")
        one.recv(1)
        say("processes", sorted(int(name) for name in os.listdir("/proc") if name.isdigit()))
        say("own", [os.getppid(), os.getpid()])
        """,
        port,
    )
    assert outcome.said["processes"] == sorted(outcome.said["own"])


@pytest.mark.claim("net.ports")
def test_a_port_that_is_granted_both_ways_is_the_sessions_own(
    confine: Confine, free_port: int
) -> None:
    sandbox = confine(network=Network(PORTS, (free_port,), (free_port,)))
    running = sandbox.begin_attack(ECHO, free_port, 0)
    running.wait_for("ready")
    with socket.create_connection((LOOPBACK, free_port), timeout=LONG_ENOUGH_S) as one:
        one.shutdown(socket.SHUT_WR)
        assert one.recv(3) == b"end"
    outcome = sandbox.attack(
        """
        import socket
        with socket.create_connection(("127.0.0.1", ARGUMENTS[0])) as one:
            one.shutdown(socket.SHUT_WR)
            say("heard", one.recv(3).decode())
        """,
        free_port,
        lane=sandbox.new_lane(),
    )
    assert outcome.said["heard"] == "end"
    running.lane.end("test")
    running.wait()


def status(pid: int) -> dict[str, list[str]]:
    """Return what /proc says of a process; nothing of one that has gone."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        return {name: text.split() for name, _, text in (line.partition(":") for line in lines)}
    return {}


def carrying(server_pid: int) -> list[dict[str, list[str]]]:
    """Return the processes that each carry a connection: grandchildren in no other namespace."""
    found: dict[int, dict[str, list[str]]] = {
        int(path.name): status(int(path.name)) for path in Path("/proc").glob("[0-9]*")
    }
    here = {pid: facts for pid, facts in found.items() if len(facts.get("NSpid", ())) == 1}
    carriers = {pid for pid, facts in here.items() if int(facts["PPid"][0]) == server_pid}
    return [
        facts
        for facts in here.values()
        if int(facts["PPid"][0]) in carriers and facts["State"][0] != "Z"
    ]


def privileges(server_pid: int) -> list[tuple[str, ...]]:
    """Return what each that carries a connection has."""
    return [(*one["CapEff"], *one["CapPrm"], *one["NoNewPrivs"]) for one in carrying(server_pid)]


def pid_of(facts: dict[str, list[str]]) -> int:
    return int(facts["Pid"][0])


HOLDING = """
    import socket
    port, count = ARGUMENTS
    held = []
    for _ in range(count):
        held.append(socket.create_connection(("127.0.0.1", port)))
        held[-1].sendall(b"x")
    say("held", True)
    sys.stdin.read()
    for one in held:
        one.shutdown(socket.SHUT_WR)
    heard = [one.recv(10) for one in held]
    for one in held:
        one.close()
    say("heard", len([part for part in heard if part]))
    """


@pytest.mark.claim("net.ports")
@pytest.mark.parametrize(("count", "carried"), [(1, 1), (CONNECTIONS_MAX + 10, CONNECTIONS_MAX)])
def test_who_carries_has_no_privilege_and_is_as_many_as_may_be(
    confine: Confine, echo: socket.socket, count: int, carried: int
) -> None:
    port = echo.getsockname()[1]
    sandbox = confine(network=Network(PORTS, connect_ports=(port,)))
    read_end, write_end = os.pipe()
    running = sandbox.begin_attack(HOLDING, port, count, stdin=read_end)
    os.close(read_end)
    running.wait_for("held")
    nothing = [("0" * 16, "0" * 16, "1")] * carried
    # Each gives it up before it carries anything, but some time after it is there.
    until(lambda: privileges(sandbox.server.pid) == nothing)
    for _ in range(5):
        assert privileges(sandbox.server.pid) == nothing
    os.close(write_end)
    assert running.wait().said["heard"] == count
    until(lambda: not carrying(sandbox.server.pid))


@pytest.mark.claim("net.ports")
def test_nobody_attaches_to_who_carries_and_it_ends_with_the_carrier(
    confine: Confine, echo: socket.socket
) -> None:
    port = echo.getsockname()[1]
    sandbox = confine(network=Network(PORTS, connect_ports=(port,)))
    read_end, write_end = os.pipe()
    running = sandbox.begin_attack(HOLDING, port, 1, stdin=read_end)
    os.close(read_end)
    running.wait_for("held")
    until(lambda: len(carrying(sandbox.server.pid)) == 1)
    (one,) = carrying(sandbox.server.pid)
    carrier = int(one["PPid"][0])
    for pid in (carrier, pid_of(one)):
        # Of a process that others of its user may attach to, these files are that user's.
        assert Path(f"/proc/{pid}/environ").stat().st_uid == 0
    os.kill(carrier, signal.SIGKILL)
    until(lambda: status(pid_of(one)).get("State", "Z")[0] in "ZX")
    os.close(write_end)
    running.wait()
