"""A person's machine in small, and the server in it: in this process, or as one of its own."""

import contextlib
import json
import os
import secrets
import select
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import mcp.client.session
import pytest
from mcp import Client, MCPError
from mcp_types import CallToolResult

from nono_mcp.audit.log import AuditLog
from nono_mcp.audit.session import Session as Log
from nono_mcp.policy.request import Request
from nono_mcp.server.app import build
from nono_mcp.session import Session

SECRET = "correct-horse-battery"  # noqa: S105 - planted, to be looked for
DEADLINE_S = 60.0
ERAS = ["2025-11-25", "2026-07-28"]
TIER = os.environ.get("NONO_TEST_TIER") or None


@dataclass(frozen=True)
class Machine:
    """A home with a secret in it, a workspace, and our own directories."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def workspace(self) -> Path:
        return self.root / "work"

    @property
    def environ(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "SECRET_API_KEY": SECRET,
            "XDG_STATE_HOME": str(self.root / "state"),
            "XDG_CONFIG_HOME": str(self.root / "config"),
        }

    def request(self, **changes: object) -> Request:
        tmpdir = self.root / "tmp"
        tmpdir.mkdir(exist_ok=True)
        request = Request(
            workspace=str(self.workspace),
            tier="",
            environ=self.environ,
            home=str(self.home),
            state_dir=str(self.root / "state" / "nono"),
            config_dir=str(self.root / "config" / "nono"),
            tmpdir=str(tmpdir),
        )
        return request.replace(**changes)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return furnished(tmp_path)


def furnished(root: Path) -> Machine:
    """Return a machine that has its secrets where secrets are."""
    machine = Machine(root)
    (machine.home / ".ssh").mkdir(parents=True)
    (machine.home / ".ssh" / "id_ed25519").write_text(SECRET)
    (machine.home / "notes.txt").write_text(SECRET)
    machine.workspace.mkdir()
    return machine


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _patient_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no client take a server that is late for one of an older protocol."""
    monkeypatch.setattr(mcp.client.session, "DISCOVER_TIMEOUT_SECONDS", DEADLINE_S)


@dataclass(frozen=True)
class Agent:
    """A client that calls tools, and what it is told."""

    client: Client

    async def call(self, tool: str, **arguments: object) -> CallToolResult:
        answer = await self.client.call_tool(tool, arguments)
        assert answer.structured_content is None
        return answer

    async def run(self, command: str | None = None, **arguments: object) -> str:
        """Return the text of a command that ran."""
        if command is not None:
            arguments["command"] = command
        answer = await self.call("run_sandboxed", **arguments)
        assert not answer.is_error, text_of(answer)
        return text_of(answer)

    async def start(self, command: str) -> None:
        """Run a command whose end is of no interest."""
        with contextlib.suppress(MCPError):
            await self.call("run_sandboxed", command=command)

    async def refused(self, tool: str = "run_sandboxed", **arguments: object) -> str:
        """Return the text of a refusal."""
        answer = await self.call(tool, **arguments)
        assert answer.is_error, text_of(answer)
        text = text_of(answer)
        assert "\n" not in text
        assert "Traceback" not in text
        return text

    async def explain(self, **arguments: object) -> str:
        answer = await self.call("explain_policy", **arguments)
        assert not answer.is_error, text_of(answer)
        return text_of(answer)


def text_of(answer: CallToolResult) -> str:
    (content,) = answer.content
    assert content.type == "text"
    return content.text


Connect = Callable[..., AbstractAsyncContextManager[Agent]]


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> str:
    era: str = request.param
    return era


@pytest.fixture
def connect(machine: Machine, era: str) -> Connect:
    """Return what connects to a server in this process, in one era of the protocol."""

    @asynccontextmanager
    async def connected(**changes: object) -> AsyncIterator[Agent]:
        async with Session.open(machine.request(**changes), tier=TIER) as session:
            mode = "legacy" if era < "2026" else "auto"
            async with Client(build(session), mode=mode) as client:
                assert client.protocol_version == era
                yield Agent(client)

    return connected


@pytest.fixture
def audit_log(machine: Machine) -> Iterator[Log]:
    """A log without keychain, and a session in it."""
    opened = AuditLog.open(str(machine.root / "state" / "nono"), None)
    session = opened.session({"pid": 1})
    yield session
    session.close()
    opened.close()


class Marked:
    """Looks for processes by an argument that no others have, from outside, in /proc."""

    def __init__(self) -> None:
        self.text = f"marked-{secrets.token_hex(8)}"

    @property
    def sleeper(self) -> str:
        """Return a command that shows itself and then stays."""
        return f"exec sh -c 'while :; do sleep 1000; done' {self.text}"

    def alive(self) -> list[int]:
        return [pid for pid, arguments in command_lines() if self.text in arguments]

    async def appear(self, count: int = 1) -> None:
        with anyio.fail_after(DEADLINE_S):
            # A process of somebody else's raises no event here.
            while len(self.alive()) < count:  # noqa: ASYNC110 - see above
                await anyio.sleep(0.01)

    async def disappear(self) -> None:
        with anyio.fail_after(DEADLINE_S):
            while self.alive():  # noqa: ASYNC110 - likewise
                await anyio.sleep(0.01)

    def await_appearance(self, count: int = 1) -> None:
        until(lambda: len(self.alive()) >= count)

    def await_disappearance(self) -> None:
        until(lambda: not self.alive())


def until(condition: Callable[[], bool]) -> None:
    """Wait until what other processes do has made *condition* true."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def has_ended(pid: int) -> bool:
    """Tell whether its parent can tell: a process has no command line before it has ended."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


def command_lines() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            yield int(entry.name), arguments.decode(errors="replace")


@pytest.fixture
def marked() -> Marked:
    return Marked()


def serving(machine: Machine, *options: str) -> list[str]:
    """Return the command that serves *machine* as a process of its own."""
    nono = Path(sys.executable).parent / "nono"
    tier = ["--tier", TIER] if TIER else []
    return [str(nono), "serve", "--workspace", str(machine.workspace), *tier, *options]


class Wire:
    """The client's end of a server's standard input and output, byte by byte."""

    def __init__(self, command: list[str], environ: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environ,
            start_new_session=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in = self.process.stdin
        self._out = self.process.stdout
        self._received = b""
        self._id = 0

    def send(self, *lines: bytes) -> None:
        self._in.write(b"".join(line + b"\n" for line in lines))
        self._in.flush()

    def request(self, method: str, params: Mapping[str, object] | None = None) -> int:
        self._id += 1
        message = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params or {}}
        self.send(json.dumps(message).encode())
        return self._id

    def notify(self, method: str, params: Mapping[str, object] | None = None) -> None:
        message = {"jsonrpc": "2.0", "method": method, "params": params or {}}
        self.send(json.dumps(message).encode())

    def receive(self) -> dict[str, Any]:
        """Return the next message, which has to be one."""
        while b"\n" not in self._received:
            if not select.select([self._out], [], [], DEADLINE_S)[0]:
                raise TimeoutError
            chunk = os.read(self._out.fileno(), 1 << 20)
            assert chunk, "the server has closed its end"
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        assert message["jsonrpc"] == "2.0"
        return message

    def answer(self, id_: int | None) -> dict[str, Any]:
        """Return the answer to a request, passing over what else arrives."""
        while True:
            message = self.receive()
            if "method" not in message and message["id"] == id_:
                return message

    def start_line(self, part: bytes) -> None:
        """Send the next part of a line that `send` ends."""
        self._in.write(part)

    def send_answer(self, id_: object, result: Mapping[str, object]) -> None:
        """Answer a request of the server's."""
        self.send(json.dumps({"jsonrpc": "2.0", "id": id_, "result": result}).encode())

    def initialize(
        self, version: str = "2025-06-18", capabilities: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        info = {"name": "test", "version": "0"}
        params = {
            "protocolVersion": version,
            "capabilities": capabilities or {},
            "clientInfo": info,
        }
        answer = self.answer(self.request("initialize", params))
        self.notify("notifications/initialized")
        result: dict[str, Any] = answer["result"]
        return result

    def run(self, command: str, **arguments: object) -> int:
        params = {"name": "run_sandboxed", "arguments": {"command": command, **arguments}}
        return self.request("tools/call", params)

    def text(self, id_: int) -> str:
        text: str = self.answer(id_)["result"]["content"][0]["text"]
        return text

    def close_input(self) -> None:
        self._in.close()

    def wait(self) -> int:
        return self.process.wait(DEADLINE_S)

    def errors(self) -> str:
        """Return what the server wrote to standard error, once it has ended."""
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]


@pytest.fixture
def wire(machine: Machine) -> Iterator[Wire]:
    wire = Wire(serving(machine), machine.environ)
    try:
        yield wire
    finally:
        wire.close()
