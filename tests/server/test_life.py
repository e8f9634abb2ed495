"""However a server ends, no worker outlives it."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.server.conftest import Machine, Marked, Wire, serving

pytestmark = pytest.mark.linux

# It ignores what can be ignored, and leaves its session and its parent.
STUBBORN = (
    "trap '' TERM INT HUP PIPE; (setsid sh -c 'trap \"\" TERM HUP; sleep 1000; :' {0} &); "
    "(sh -c 'sleep 1000; :' {0} >/dev/null 2>&1 &); sh -c 'sleep 1000; :' {0}"
)


def signalled(number: int) -> Callable[[Wire], None]:
    return lambda wire: wire.process.send_signal(number)


def stop_reading(wire: Wire) -> None:
    assert wire.process.stdout is not None
    wire.process.stdout.close()
    # It finds out when it has something to say.
    wire.request("ping")


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (signalled(signal.SIGTERM), 128 + signal.SIGTERM),
        (signalled(signal.SIGINT), 128 + signal.SIGINT),
        (signalled(signal.SIGHUP), 128 + signal.SIGHUP),
        (signalled(signal.SIGKILL), -signal.SIGKILL),
        (Wire.close_input, 0),
        (stop_reading, 0),
    ],
    ids=["TERM", "INT", "HUP", "KILL", "closed input", "closed output"],
)
def test_no_worker_outlives_the_server(
    wire: Wire, marked: Marked, end: Callable[[Wire], None], status: int
) -> None:
    wire.initialize()
    wire.run(STUBBORN.format(marked.text))
    wire.run(STUBBORN.format(marked.text))
    marked.await_appearance(6)
    end(wire)
    assert wire.wait() == status
    marked.await_disappearance()
    assert "Traceback" not in wire.errors()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_server(wire: Wire, number: int) -> None:
    wire.initialize()
    wire.process.send_signal(number)
    # Whoever waited for input to end would still do so.
    assert wire.wait() == 128 + number
    assert wire.errors() == ""


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_starts_ends_it_without_a_word(
    wire: Wire, number: int, delay_s: float
) -> None:
    time.sleep(delay_s)
    wire.process.send_signal(number)
    assert wire.wait() in (-number, 128 + number)
    # Python itself speaks of SIGINT while it starts; that is over before anything of ours runs.
    assert "nono" not in wire.errors().replace("nono_mcp", "")


def test_calls_in_flight_are_answered_when_the_input_ends(wire: Wire, marked: Marked) -> None:
    wire.initialize()
    id_ = wire.run(marked.sleeper)
    marked.await_appearance()
    wire.close_input()
    assert wire.answer(id_)["error"]["message"] == "Connection closed"
    assert wire.wait() == 0


def test_a_terminals_interrupt_reaches_no_worker(machine: Machine, marked: Marked) -> None:
    # The whole process group is signalled, as a terminal does: workers aren't in it.
    wire = Wire(serving(machine), machine.environ)
    try:
        wire.initialize()
        id_ = wire.run(f"trap 'echo reached' INT; {marked.sleeper}")
        marked.await_appearance()
        (pid, *_) = marked.alive()
        assert os.getpgid(pid) != os.getpgid(wire.process.pid)
        os.killpg(wire.process.pid, signal.SIGINT)
        assert wire.wait() == 128 + signal.SIGINT
        assert id_
        marked.await_disappearance()
    finally:
        wire.close()


def test_a_policy_that_cant_be_kept_is_told_before_anything_is_served(machine: Machine) -> None:
    ended = run_to_its_end(serving(machine, "--read", "missing"), machine)
    assert ended.returncode == 126
    assert ended.stdout == b""
    assert ended.stderr.startswith(b"REFUSED")
    assert ended.stderr.count(b"\n") == 1


def test_a_policy_that_requires_what_isnt_to_be_had_is_refused(machine: Machine) -> None:
    policy = machine.root / "strict.toml"
    policy.write_text('[enforcement]\nrequire = ["network"]\n')
    command = serving(machine, "--profile", str(policy), "--open-net")
    ended = run_to_its_end(command, machine)
    assert ended.returncode == 126
    assert ended.stdout == b""
    assert b"requires network" in ended.stderr
    wire = Wire([*command, "--best-effort"], machine.environ)
    try:
        wire.initialize()
        assert wire.text(wire.run("true")).endswith(", not enforced: network")
    finally:
        wire.close()


def test_closed_descriptors_are_an_error_that_says_so(machine: Machine) -> None:
    command = ["sh", "-c", 'exec "$@" <&-', "sh", *serving(machine)]
    ended = run_to_its_end(command, machine)
    assert ended.returncode == 1
    assert b"MCP needs standard input and output" in ended.stderr


def run_to_its_end(command: list[str], machine: Machine) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command,
        capture_output=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env=machine.environ,
    )


def test_it_serves_over_sockets_too(machine: Machine) -> None:
    # Some clients (Node's) give a child sockets where others give pipes.
    ours, theirs = socket.socketpair()
    fd = theirs.detach()
    with (
        ours,
        subprocess.Popen(serving(machine), stdin=fd, stdout=fd, env=machine.environ) as process,
    ):
        os.close(fd)
        try:
            ours.settimeout(30)
            ours.sendall(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
            assert b'"id":1' in ours.recv(65536)
            ours.shutdown(socket.SHUT_WR)
            assert process.wait(30) == 0
        finally:
            process.kill()
