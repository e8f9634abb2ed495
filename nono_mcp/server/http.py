"""MCP over streamable HTTP on loopback: one session, for whoever holds its token.

The 2026-07-28 protocol has no sessions over HTTP, and one policy and one token make one
principal. So all clients share the session: its workspace, its /tmp, its home, its loopback.
What they don't share is a call: each has a domain of its own, as on stdio.

Architecture invariant: nothing listens elsewhere than on loopback, and nothing of a request's
body is read before `door` has let it in.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import secrets
import socket
import sys
from typing import TYPE_CHECKING

import anyio
import uvicorn
from mcp.server.transport_security import TransportSecuritySettings

from nono_mcp.policy.errors import quoted
from nono_mcp.server.app import build
from nono_mcp.server.attending import GONE
from nono_mcp.server.door import UNAUTHORIZED, Door, Refused
from nono_mcp.server.errors import ServeError
from nono_mcp.server.messages import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from nono_mcp.server.app import App
    from nono_mcp.session import Session

PATH = "/mcp"
TOKEN_BYTES = 32
SESSIONS_MAX = 64
"""Clients of the 2025 protocols at once; newer ones have no session to count."""
SESSION_IDLE_S_MAX = 1800.0
CONNECTIONS_MAX = 256
_SHUTDOWN_S_MAX = 1
_LOCALHOST = "localhost"


async def serve(session: Session, host: str, port: int, state_dir: str) -> None:
    """Serve *session* at *host* and *port* until cancelled; its token is in *state_dir*.

    Raises:
        ServeError: The address isn't loopback, or can't be had.
        RefusedError: The session's policy requires what this machine can't give.
    """
    with _listening(loopback(host), port) as listener:
        address, port = listener.getsockname()[:2]
        token = secrets.token_urlsafe(TOKEN_BYTES)
        app = build(session)
        guard = Guard(_application(app, address, port), Door.of(address, port, token))
        logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)
        # Entered here and not by uvicorn, in a task that nobody waits for.
        async with app.session_manager.run():
            with _token_file(state_dir, port, token) as path:
                _announce(address, port, path, token)
                await _Server(_configuration(guard)).serve(sockets=[listener])


def _configuration(guard: Guard) -> uvicorn.Config:
    return uvicorn.Config(
        guard,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_graceful_shutdown=_SHUTDOWN_S_MAX,
    )


def loopback(host: str) -> str:
    """Return *host* as a loopback address.

    Raises:
        ServeError: It isn't one.
    """
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == _LOCALHOST else host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise ServeError(
            f"{quoted(host)} isn't a loopback address: this speaks plain HTTP, so it is for this "
            "machine alone (127.0.0.1, ::1 or localhost)"
        )
    return str(address)


@contextlib.contextmanager
def _listening(address: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
            listener.listen(CONNECTIONS_MAX)
        except (OSError, OverflowError) as error:
            raise ServeError(f"can't listen on {address} port {port}: {error}") from error
        yield listener


@contextlib.contextmanager
def _token_file(state_dir: str, port: int, token: str) -> Iterator[str]:
    """Write the token where only its owner reads it, for as long as it is valid."""
    directory = os.path.join(state_dir, "run")  # noqa: PTH118 - a descriptor follows
    os.makedirs(directory, mode=0o700, exist_ok=True)  # noqa: PTH103 - likewise
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    name = f"http-{port}.token"
    try:
        os.fchmod(fd, 0o700)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=fd)  # of a server that was killed
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, 0o600, dir_fd=fd), "w", encoding="ascii") as file:
            file.write(token + "\n")
        try:
            yield f"{directory}/{name}"
        finally:
            os.unlink(name, dir_fd=fd)
    finally:
        os.close(fd)


def _announce(address: str, port: int, path: str, token: str) -> None:
    authority = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    lines = [f"serving MCP at http://{authority}{PATH}", f"its token is in {quoted(path)}"]
    if sys.stderr.isatty():
        # Only where a person reads it: logs are kept, and read by others.
        lines.append(f"Authorization: Bearer {token}")
    sys.stderr.write("".join(f"nono: {line}\n" for line in lines))
    sys.stderr.flush()


def _application(app: App, address: str, port: int) -> ASGIApp:
    hosts = sorted(Door.of(address, port, "").hosts)
    return app.streamable_http_app(
        streamable_http_path=PATH,
        max_request_body_size=MESSAGE_BYTES_MAX,
        session_idle_timeout=SESSION_IDLE_S_MAX,
        max_sessions=SESSIONS_MAX,
        # The door has judged by more than this; two locks are no worse than one.
        transport_security=TransportSecuritySettings(
            allowed_hosts=hosts, allowed_origins=[f"http://{host}" for host in hosts]
        ),
    )


class Guard:
    """Refuses what the door refuses; tells the tools when a client leaves."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the server's lifespan."""
        if scope["type"] == "http":
            refused = self._door.refusal(scope["headers"])
            if refused is not None:
                await _refuse(refused, send)
                return
            gone = scope[GONE] = anyio.Event()
            receive = _telling(receive, gone)
        await self._app(scope, receive, send)


def _telling(receive: Receive, gone: anyio.Event) -> Receive:
    # Clients of the 2025 protocols reconnect to fetch what they missed, where it is kept; here
    # it isn't, and a result that nobody can fetch is nothing to work for.
    async def told() -> Message:
        message = await receive()
        if message["type"] == "http.disconnect":
            gone.set()
        return message

    return told


async def _refuse(refused: Refused, send: Send) -> None:
    body = refused.text.encode() + b"\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    if refused.status == UNAUTHORIZED:
        headers.append((b"www-authenticate", b'Bearer realm="nono"'))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """Tell whether *record* is of something else than a request that our own end interrupted."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
