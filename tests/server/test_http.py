"""The server by HTTP: who is let in, both eras at once, and clients that leave."""

import http.client
import json
import os
import select
import shlex
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp_types import ResourceUpdatedNotification

from nono_mcp.server.audit_resources import SESSION_URI
from tests.ports import unused_port
from tests.server.conftest import (
    DEADLINE_S,
    ERAS,
    SECRET,
    Agent,
    Machine,
    Marked,
    furnished,
    serving,
    until,
)

pytestmark = pytest.mark.linux

MODERN = "2026-07-28"
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}


@dataclass
class Website:
    """A server that listens, and what is needed to speak to it."""

    process: subprocess.Popen[str]
    port: int
    token_file: Path
    announced: list[str]
    token: str = field(repr=False)
    name: str = ""
    """Of the session that is asked for, if one is."""

    @property
    def path(self) -> str:
        return f"/mcp/{self.name}" if self.name else "/mcp"

    def named(self, name: str) -> "Website":
        """Return the server as a client with a session of that name meets it."""
        return replace(self, name=name)

    @property
    def headers(self) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
        }

    def post(self, body: bytes, **changes: str | None) -> tuple[int, str]:
        """Return the status and the text that a request is answered with."""
        given = self.headers | {name.replace("_", "-"): value for name, value in changes.items()}
        headers = {name: value for name, value in given.items() if value is not None}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("POST", self.path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    @asynccontextmanager
    async def client(self, era: str, **options: object) -> AsyncIterator[Agent]:
        url = f"http://127.0.0.1:{self.port}{self.path}"
        mode = "legacy" if era < "2026" else "auto"
        async with create_mcp_http_client({"Authorization": f"Bearer {self.token}"}) as http_client:
            transport = streamable_http_client(url, http_client=http_client)
            async with Client(transport, mode=mode, **options) as client:  # type: ignore[arg-type]
                assert client.protocol_version == era
                yield Agent(client)


@contextmanager
def listening(machine: Machine, *before: str, more: tuple[str, ...] = ()) -> Iterator[Website]:
    """Have a server that the command *before* starts, if there is one, with *more* options."""
    process = subprocess.Popen(
        [*before, *serving(machine, "--http", "0", *more)],
        stderr=subprocess.PIPE,
        env=machine.environ,
        text=True,
    )
    assert process.stderr is not None
    try:
        announced = [process.stderr.readline() for _ in range(2)]
        port = int(announced[0].rsplit(":", 1)[1].removesuffix("/mcp\n"))
        file = Path(shlex.split(announced[1])[-1])
        yield Website(process, port, file, announced, file.read_text().strip())
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def told(website: Website) -> str:
    """Return what the server has said on standard error since it was asked last."""
    assert website.process.stderr is not None
    fd = website.process.stderr.fileno()
    text = b""
    while select.select([fd], [], [], 0)[0]:
        text += os.read(fd, 65536)
    return text.decode()


@pytest.fixture
def website(machine: Machine) -> Iterator[Website]:
    with listening(machine) as website:
        yield website


@pytest.fixture(scope="module")
def abused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    """A server that takes one abuse after the other."""
    with listening(furnished(tmp_path_factory.mktemp("abused"))) as website:
        yield website


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Website]:
    """A server that one client after the other leaves."""
    with listening(furnished(tmp_path_factory.mktemp("left"))) as website:
        yield website


PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
DISCOVER = json.dumps(
    {"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": ENVELOPE}}
).encode()


def test_a_request_needs_the_token_our_host_and_no_other_origin(abused: Website) -> None:
    for version in (None, MODERN):
        for headers, status in (
            ({"Authorization": None}, 401),
            ({"Authorization": f"Bearer {abused.token}x"}, 401),
            ({"Host": "evil.example"}, 421),
            ({"Host": f"evil.example:{abused.port}"}, 421),
            ({"Host": f"LocalHost:{abused.port}9"}, 421),
            ({"Host": "LocalHost"}, 421),
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "null"}, 403),
        ):
            found, text = abused.post(DISCOVER, **headers, MCP_Protocol_Version=version)
            assert found == status
            assert "nono" not in text
    status, text = abused.post(DISCOVER, MCP_Protocol_Version=MODERN, Mcp_Method="server/discover")
    assert (status, MODERN in text) == (200, True)
    own = {"Origin": f"http://localhost:{abused.port}"}
    for headers in (
        own,
        {"Host": f"LOCALHOST:{abused.port}"},
        {"Host": f"LocalHost:{abused.port}"},
    ):
        status, text = abused.post(
            DISCOVER, MCP_Protocol_Version=MODERN, Mcp_Method="server/discover", **headers
        )
        assert status == 200, text


def test_who_wants_another_protocol_is_answered_by_this_one(website: Website) -> None:
    upgrade = {"Connection": "keep-alive, Upgrade", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    for protocol in ("websocket", "h2c", "TLS/1.3"):
        connection = http.client.HTTPConnection("127.0.0.1", website.port, timeout=120)
        connection.request("GET", "/healthz", headers={**upgrade, "Upgrade": protocol})
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Upgrade")) == (200, None)
        assert answer.read() == b"ok\n"
        connection.close()
    website.process.terminate()
    assert website.process.wait(30) == 128 + signal.SIGTERM
    assert website.process.stderr is not None
    assert website.process.stderr.read() == ""


def test_nothing_of_a_body_is_awaited_before_the_door_has_answered(abused: Website) -> None:
    with socket.create_connection(("127.0.0.1", abused.port), timeout=120) as connection:
        connection.sendall(
            b"POST /mcp HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 1000000\r\n\r\n"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 421 ")


def test_what_follows_a_length_told_in_two_ways_is_no_request(abused: Website) -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in abused.headers.items())
    head += f"Host: 127.0.0.1:{abused.port}\r\n"
    second = f"GET /healthz HTTP/1.1\r\n{head}\r\n"
    first = (
        f"POST /mcp HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n"
        f"Content-Length: {len(second) + 5}\r\n\r\n0\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", abused.port), timeout=120) as connection:
        connection.sendall((first + second).encode())
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("version", [None, MODERN])
def test_a_client_that_leaves_in_mid_request_is_no_error(
    abused: Website, version: str | None
) -> None:
    headers = abused.headers | {"Host": f"127.0.0.1:{abused.port}", "Content-Length": "9"}
    if version is None:
        headers["Mcp-Session-Id"] = handshake(abused)
    else:
        headers |= {"MCP-Protocol-Version": version, "Mcp-Method": "server/discover"}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection(("127.0.0.1", abused.port), timeout=120) as connection:
        connection.sendall(f"POST /mcp HTTP/1.1\r\n{head}\r\n{{".encode())
        until(lambda: in_hand(abused) == 1)
    until(lambda: in_hand(abused) == 0)
    assert not told(abused)


def in_hand(website: Website) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", website.port, timeout=120)
    connection.request("GET", "/metrics", headers=website.headers)
    text = connection.getresponse().read().decode()
    connection.close()
    # The server's own is one for as long as it lives.
    return int(text.split('nono_requests{principal="person"} ')[1].split("\n")[0]) - 1


def test_the_token_is_in_a_file_of_the_persons_alone(website: Website, machine: Machine) -> None:
    assert stat.S_IMODE(website.token_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(website.token_file.parent.stat().st_mode) == 0o700
    assert website.token_file.is_relative_to(machine.root / "state")
    assert len(website.token) >= 43
    # Standard error isn't a terminal here, and logs are read by others.
    assert not any(website.token in line for line in website.announced)
    website.process.send_signal(signal.SIGTERM)
    assert website.process.wait(30) == 128 + signal.SIGTERM
    assert not website.token_file.exists()


@pytest.mark.anyio
async def test_a_token_in_a_file_of_the_persons_outlives_the_server(machine: Machine) -> None:
    """And is read by no call, wherever it lies."""
    place = machine.root / "granted"
    place.mkdir()
    (place / "other").write_text("not the token")
    file = place / "token"
    options = ("--token-file", str(file), "--read", str(place))
    tokens = []
    for _ in range(2):
        with listening(machine, more=options) as website:
            assert website.token_file == file
            assert not list((machine.root / "state").rglob("*.token"))
            assert website.post(PING)[0] != 401
            assert website.post(PING, Authorization=f"Bearer {website.token}x")[0] == 401
            tokens.append(website.token)
            website.process.send_signal(signal.SIGTERM)
            assert website.process.wait(30) == 128 + signal.SIGTERM
    assert tokens[0] == tokens[1] == file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with listening(machine, more=options) as website:
        async with website.client(MODERN) as agent:
            told = await agent.run(f"cat {place}/other; cat {file}; ln {file} here; cat here")
    assert "not the token" in told
    assert tokens[0] not in told


def test_a_token_that_others_can_read_is_refused(machine: Machine) -> None:
    file = machine.root / "token"
    file.write_text("t" * 43)
    file.chmod(0o644)
    command = serving(machine, "--http", "0", "--token-file", str(file))
    done = subprocess.run(command, env=machine.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "others may read or write" in done.stderr
    assert "t" * 43 not in done.stderr
    team = serving(machine, "--http", "0", "--token-file", str(file), "--team", "t.toml")
    done = subprocess.run(team, env=machine.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "contradict" in done.stderr


def test_it_listens_on_loopback_alone(website: Website, machine: Machine) -> None:
    listening = subprocess.run(["cat", "/proc/net/tcp"], capture_output=True, check=True, text=True)
    ours = [
        line for line in listening.stdout.splitlines() if f":{website.port:04X} 00000000" in line
    ]
    assert len(ours) == 1
    assert "0100007F:" in ours[0]
    for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.com:0"):
        ended = subprocess.run(
            serving(machine, "--http", address),
            capture_output=True,
            check=False,
            env=machine.environ,
            text=True,
            timeout=60,
        )
        assert ended.returncode == 1
        assert "isn't a loopback address" in ended.stderr
        assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (("--http", "192.0.2.1:0"), 1),
        (("--http", "0", "--token-file", "/missing/token"), 1),
        (("--profile", "no-such-profile"), 126),
    ],
    ids=["the address", "the token", "the policy by standard input"],
)
def test_what_refuses_a_start_is_told_before_the_sdk_is_imported(
    machine: Machine, options: tuple[str, ...], status: int
) -> None:
    code = "from nono_mcp.cli import main; status = main(sys.argv[1:])"
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; {code}; print(*sys.modules); sys.exit(status)",
            *serving(machine, *options)[1:],
        ],
        capture_output=True,
        check=False,
        env=machine.environ,
        text=True,
        timeout=60,
    )
    assert ended.returncode == status, ended.stderr
    imported = set(ended.stdout.split())
    assert "nono_mcp.server.lifecycle" in imported
    assert {"mcp", "pydantic"}.isdisjoint(imported)


def test_a_policy_that_is_refused_is_told_on_one_line(machine: Machine) -> None:
    ended = subprocess.run(
        serving(machine, "--http", "0", "--profile", "no-such-profile"),
        capture_output=True,
        check=False,
        env=machine.environ,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 126
    assert "no-such-profile" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_an_error_on_one_line(website: Website, machine: Machine) -> None:
    ended = subprocess.run(
        serving(machine, "--http", str(website.port)),
        capture_output=True,
        check=False,
        env=machine.environ,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "can't listen" in ended.stderr
    assert website.token_file.exists()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"nonsense", 400),
        (b"\xff", 400),
        (b"[]", 400),
        (b"[" * 100_000, 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}', 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"\\ud800"}', 400),
        (b"x" * 17_000_000, 413),
    ],
)
def test_a_bad_body_is_refused_and_the_server_serves_on(
    abused: Website, body: bytes, status: int
) -> None:
    for version in (None, MODERN):
        found, text = abused.post(body, MCP_Protocol_Version=version)
        assert found == status, text
        assert "Traceback" not in text
    assert abused.post(
        DISCOVER, MCP_Protocol_Version=MODERN, Mcp_Method="server/discover"
    )[0] == 200  # fmt: skip


@pytest.mark.anyio
async def test_clients_of_both_eras_are_served_at_once(website: Website, machine: Machine) -> None:
    async with website.client(ERAS[0]) as old, website.client(ERAS[1]) as new:
        for agent in (old, new):
            told = await agent.run(f"echo hi; cat {machine.home}/.ssh/id_ed25519")
            assert "\nhi\n" in told
            assert SECRET not in told
            assert "bad arguments" in await agent.refused(command="\0")
        async with anyio.create_task_group() as group:
            for agent in (old, new) * 4:
                group.start_soon(agent.run, "sleep 0.2")


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
@pytest.mark.parametrize("kept", ["subscribed", "listened"])
async def test_a_client_hears_that_the_log_has_changed(website: Website, kept: str) -> None:
    news = anyio.Event()

    async def hear(message: object) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            assert str(message.params.uri) == SESSION_URI
            news.set()

    if kept == "subscribed":
        async with website.client(ERAS[0], message_handler=hear) as agent:
            await agent.client.session.subscribe_resource(SESSION_URI)
            await agent.run(command="true")
            with anyio.fail_after(DEADLINE_S):
                await news.wait()
        return
    async with (
        website.named("mine").client(MODERN) as agent,
        agent.client.listen(resource_subscriptions=[SESSION_URI]) as events,
    ):
        await agent.run(command="true")
        with anyio.fail_after(DEADLINE_S):
            async for event in events:
                assert getattr(event, "uri", "") == SESSION_URI
                break


@pytest.mark.anyio
async def test_the_token_stays_unread(website: Website) -> None:
    async with website.client(MODERN) as agent:
        told = await agent.run(f"cat {website.token_file}; ls {website.token_file.parent}; env")
        assert website.token not in told
        assert "fs.own-state" in await agent.explain(path=str(website.token_file))


@pytest.mark.anyio
@pytest.mark.parametrize("era", ERAS)
async def test_a_client_that_leaves_takes_its_command_along(
    left: Website, marked: Marked, era: str
) -> None:
    async with left.client(era) as other:
        with anyio.CancelScope() as scope:
            async with left.client(era) as agent, anyio.create_task_group() as group:
                group.start_soon(agent.start, marked.sleeper)
                await marked.appear()
                scope.cancel()
        await marked.disappear()
        assert "exit status 0" in await other.run("true")


@pytest.mark.parametrize("version", [None, MODERN])
def test_a_connection_that_breaks_takes_its_command_along(
    left: Website, marked: Marked, version: str | None
) -> None:
    connection = calling(left, marked.sleeper, version)
    marked.await_appearance()
    assert connection.sock is not None
    connection.sock.close()
    connection.close()
    marked.await_disappearance()


def calling(website: Website, command: str, version: str | None) -> http.client.HTTPConnection:
    """Return a connection on which *command* was asked to be run."""
    headers = dict(website.headers)
    params: dict[str, object] = {"name": "run_sandboxed", "arguments": {"command": command}}
    if version is None:
        headers["Mcp-Session-Id"] = handshake(website)
    else:
        headers |= {"MCP-Protocol-Version": version}
        headers |= {"Mcp-Method": "tools/call", "Mcp-Name": "run_sandboxed"}
        params["_meta"] = ENVELOPE
    body = json.dumps({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params})
    connection = http.client.HTTPConnection("127.0.0.1", website.port, timeout=120)
    connection.request("POST", website.path, body=body, headers=headers)
    return connection


def handshake(website: Website) -> str:
    """Open a session of the 2025 protocol and return its id."""
    info = {"name": "test", "version": "0"}
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
    connection = http.client.HTTPConnection("127.0.0.1", website.port, timeout=120)
    connection.request("POST", website.path, body=body, headers=website.headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    session_id = answer.headers["Mcp-Session-Id"]
    assert session_id is not None
    note = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
    assert website.post(note, Mcp_Session_Id=session_id)[0] == 202
    return session_id


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_the_server(website: Website, marked: Marked, number: int) -> None:
    connections = [calling(website, marked.sleeper, version) for version in (None, MODERN)]
    marked.await_appearance(2)
    website.process.send_signal(number)
    expected = -number if number == signal.SIGKILL else 128 + number
    assert website.process.wait(30) == expected
    marked.await_disappearance()
    assert website.process.stderr is not None
    assert website.process.stderr.read() == ""
    for connection in connections:
        connection.close()


def test_a_planted_link_in_place_of_the_token_is_not_followed(machine: Machine) -> None:
    run = machine.root / "state" / "nono" / "run"
    run.parent.mkdir(mode=0o700, parents=True)
    run.mkdir(mode=0o700)
    port = unused_port()
    victim = machine.root / "victim"
    victim.write_text("untouched")
    (run / f"http-{port}.token").symlink_to(victim)
    process = subprocess.Popen(
        serving(machine, "--http", str(port)), stderr=subprocess.PIPE, env=machine.environ
    )
    assert process.stderr is not None
    try:
        process.stderr.readline()
        process.stderr.readline()
        assert victim.read_text() == "untouched"
        assert not (run / f"http-{port}.token").is_symlink()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
