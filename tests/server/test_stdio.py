"""The wire: whatever a client writes, it has an answer, and nothing else is on it."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nono_mcp.server.messages import MESSAGE_BYTES_MAX
from tests.server.conftest import Machine, Marked, Wire, furnished, serving

pytestmark = pytest.mark.linux

WRONG = b'{"name":"run_sandboxed","arguments":"true"}'


@pytest.mark.parametrize("version", ["2024-11-05", "2025-06-18", "2025-11-25"])
def test_a_client_with_a_handshake_is_served(wire: Wire, version: str) -> None:
    result = wire.initialize(version)
    assert result["protocolVersion"] == version
    assert result["serverInfo"]["name"] == "nono"
    names = [tool["name"] for tool in wire.answer(wire.request("tools/list"))["result"]["tools"]]
    assert {"run_sandboxed", "explain_policy", "read_file", "audit_verify"} <= set(names)
    assert "exit status 0" in wire.text(wire.run("true"))


def test_a_2026_client_is_served(wire: Wire) -> None:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    answer = wire.answer(wire.request("server/discover", {"_meta": meta}))
    assert "2026-07-28" in answer["result"]["supportedVersions"]
    params = {"name": "run_sandboxed", "arguments": {"command": "echo hi"}, "_meta": meta}
    result = wire.answer(wire.request("tools/call", params))["result"]
    assert result["content"][0]["text"].endswith("\nhi")
    assert "structuredContent" not in result


@pytest.fixture(scope="module")
def abused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    """A server that takes one abuse after the other."""
    machine = furnished(tmp_path_factory.mktemp("abused"))
    wire = Wire(serving(machine), machine.environ)
    try:
        wire.initialize()
        yield wire
    finally:
        wire.close()


@pytest.mark.parametrize(
    ("line", "id_", "code"),
    [
        (b"nonsense", None, -32700),
        (b"\xff\xfe\x00", None, -32700),
        (b'{"jsonrpc":"2.0","id":99,"method":"tools/call","params":{"a":"\\ud800"}}', 99, -32700),
        (b'{"jsonrpc":"2.0","id":99,"method":"tools/list"', 99, -32700),
        (b'[{"jsonrpc":"2.0","id":99,"method":"ping"}]', None, -32600),
        (b'{"jsonrpc":"2.0","id":99,"method":"tools/call","params":"run"}', 99, -32600),
        (b'{"jsonrpc":"2.0","id":99,"method":"tools/call","params":{}}', 99, -32602),
        (b'{"jsonrpc":"2.0","id":99,"method":"tools/call","params":{"name":5}}', 99, -32602),
        (b'{"jsonrpc":"2.0","id":99,"method":"tools/call","params":%s}' % WRONG, 99, -32602),
        (b'{"jsonrpc":"2.0","id":99,"method":"no/such"}', 99, -32601),
    ],
)
def test_what_is_wrong_is_answered_and_the_server_serves_on(
    abused: Wire, line: bytes, id_: int | None, code: int
) -> None:
    abused.send(line)
    error = abused.answer(id_)["error"]
    assert error["code"] == code
    assert "Traceback" not in error["message"]
    assert abused.text(abused.run("echo on")).endswith("\non")


def test_numbers_that_are_none_are_refused(abused: Wire) -> None:
    for number in (b"NaN", b"Infinity", b"1e400", b"-0"):
        abused.send(
            b'{"jsonrpc":"2.0","id":50,"method":"tools/call","params":{"name":"run_sandboxed",'
            b'"arguments":{"command":"true","timeout_s":' + number + b"}}}"
        )
        assert "timeout_s" in abused.text(50)
    assert abused.text(abused.run("echo on")).endswith("\non")


def test_a_message_that_is_too_long_is_answered_and_costs_no_memory(wire: Wire) -> None:
    wire.initialize()
    before = resident_bytes(wire)
    wire.send(
        b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"text":"'
        + b"x" * (3 * MESSAGE_BYTES_MAX)
        + b'"}}'
    )
    assert str(MESSAGE_BYTES_MAX) in wire.answer(7)["error"]["message"]
    assert resident_bytes(wire) - before < 2 * MESSAGE_BYTES_MAX
    assert wire.text(wire.run("echo on")).endswith("\non")


def resident_bytes(wire: Wire) -> int:
    status = Path(f"/proc/{wire.process.pid}/status").read_text(encoding="ascii")
    (peak,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024


def test_a_message_may_arrive_in_pieces_and_many_at_once(abused: Wire) -> None:
    line = json.dumps({"jsonrpc": "2.0", "id": 70, "method": "ping"}).encode()
    for byte in line:
        abused.process.stdin.write(bytes([byte]))  # type: ignore[union-attr]
        abused.process.stdin.flush()  # type: ignore[union-attr]
    abused.send(b"\r", b"", b"  ")
    assert abused.answer(70)["result"] == {}
    abused.send(*(line.replace(b"70", b"%d" % n) for n in range(100, 200)))
    assert {abused.receive()["id"] for _ in range(100)} == set(range(100, 200))


def test_answers_that_nobody_reads_yet_dont_stop_the_server(abused: Wire, marked: Marked) -> None:
    ids = [abused.run("seq 100000") for _ in range(60)]
    long = abused.run(marked.sleeper)
    # Sixty answers of 10,000 characters fill the pipe; cancelling works all the same.
    marked.await_appearance()
    abused.notify("notifications/cancelled", {"requestId": long})
    marked.await_disappearance()
    for _ in ids:
        assert abused.receive()["id"] in ids


def test_a_cancelled_call_is_not_answered(abused: Wire, marked: Marked) -> None:
    id_ = abused.run(marked.sleeper)
    marked.await_appearance()
    abused.notify("notifications/cancelled", {"requestId": id_})
    marked.await_disappearance()
    other = abused.run("echo next")
    assert abused.receive()["id"] == other


def test_nothing_but_messages_is_on_the_wire(machine: Machine) -> None:
    # What any library might do: print, write to descriptor 1, read input, start a child that does.
    noisy = """\
import os, subprocess, sys
import nono_mcp.server.stdio as stdio
from nono_mcp.cli import main
build = stdio.build
def noisy(session):
    print("NOISE", flush=True); os.write(1, b"NOISE"); assert os.read(0, 10) == b""
    subprocess.run(["echo", "NOISE"], check=True)
    return build(session)
stdio.build = noisy
os._exit(main(sys.argv[1:]))
"""
    command = [sys.executable, "-I", "-c", noisy, *serving(machine)[1:]]
    wire = Wire(command, machine.environ)
    try:
        wire.initialize()
        assert wire.text(wire.run("echo on")).endswith("\non")
        wire.close_input()
        assert wire.wait() == 0
        assert wire.process.stdout is not None
        assert wire.process.stdout.read() == b""
        assert wire.errors().count("NOISE") == 3
    finally:
        wire.close()


def test_a_worker_has_no_way_to_the_wire(abused: Wire) -> None:
    told = abused.text(abused.run("ls -l /proc/self/fd /proc/$PPID/fd; echo x >/proc/$PPID/fd/1"))
    assert told.count("socket:") + told.count("pipe:") <= 4
    id_ = abused.run('for fd in 3 4 5 6 7 8 9; do eval "echo forged >&$fd"; done; true')
    assert "forged" not in abused.text(id_)


def test_no_program_that_the_server_starts_gets_what_it_has_open(abused: Wire) -> None:
    assert abused.text(abused.run("true"))
    flags = {}
    for file in Path(f"/proc/{abused.process.pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            flags[int(file.name)] = int(file.read_text().partition("flags:")[2].split()[0], 8)
    assert {0, 1, 2, 3, 4} <= set(flags)
    assert [fd for fd, of_it in flags.items() if fd > 2 and not of_it & os.O_CLOEXEC] == []


def test_input_and_output_may_be_files(machine: Machine) -> None:
    lines = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "t", "version": "0"}}},
    ]  # fmt: skip
    given = machine.root / "in.jsonl"
    given.write_text("".join(json.dumps(line) + "\n" for line in lines))
    answers = machine.root / "out.jsonl"
    with given.open("rb") as stdin, answers.open("wb") as stdout:
        subprocess.run(
            serving(machine),
            stdin=stdin,
            stdout=stdout,
            check=True,
            timeout=60,
            env=machine.environ,
        )
    assert json.loads(answers.read_text())["result"]["serverInfo"]["name"] == "nono"
