"""MCP over streamable HTTP: requests, and whose session answers them.

Who holds the token is one principal, and `addressing` tells which of a principal's sessions a
request is for.

Architecture invariant: nothing of a request's body is read before `http_access` has let it in; and
what is let in reaches a session of who holds the token, and no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
from collections import Counter
from typing import TYPE_CHECKING

import anyio
import uvicorn
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import ClientDisconnect

from nono_mcp.server import addressing
from nono_mcp.server.addressing import Who
from nono_mcp.server.attending import LEAVING, Leaving
from nono_mcp.server.http_access import BAD_REQUEST, UNAUTHORIZED, Refused, knows, passed_on
from nono_mcp.server.messages import MESSAGE_BYTES_MAX
from nono_mcp.server.metrics import CONTENT_TYPE, Metrics
from nono_mcp.server.oauth import Unreachable
from nono_mcp.server.paths import PATH
from nono_mcp.server.protocol_sessions import Opening, ask
from nono_mcp.server.request_quota import Incoming
from nono_mcp.server.tenants import NOT_BEGUN, BusyError
from nono_mcp.server.unauthenticated import ACCEPTED_MAX, Unauthenticated

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Iterator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from nono_mcp.server import Http
    from nono_mcp.server.app import App
    from nono_mcp.server.http_access import HttpAccess
    from nono_mcp.server.oauth import ResourceServer
    from nono_mcp.server.tenants import Tenants

HEALTH, METRICS = "/healthz", "/metrics"
CLIENTS_MAX = 64
"""Clients of the 2025 protocols that are in one named session at once."""
SESSION_IDLE_S_MAX = 1800.0
RETRY_S = 5
_SHUTDOWN_S_MAX = 1
_OK, _NOT_FOUND, _BAD_GATEWAY, _UNAVAILABLE = 200, 404, 502, 503


@contextlib.asynccontextmanager
async def served(app: App, access: HttpAccess) -> AsyncIterator[ASGIApp]:
    """Yield what answers requests by *app*, for the body's time."""
    hosts = sorted(access.hosts)
    answering = app.streamable_http_app(
        streamable_http_path=PATH,
        max_request_body_size=MESSAGE_BYTES_MAX,
        session_idle_timeout=SESSION_IDLE_S_MAX,
        max_sessions=CLIENTS_MAX,
        # `http_access` judged by more than this; two locks are no worse than one.
        transport_security=TransportSecuritySettings(
            allowed_hosts=hosts, allowed_origins=[f"{access.scheme}://{host}" for host in hosts]
        ),
    )
    # Entered here and not by uvicorn, in a task that nobody waits for.
    async with app.session_manager.run():
        yield answering


async def listen(guard: Guard, http: Http, listener: socket.socket, draining: anyio.Event) -> None:
    """Answer on *listener* by *guard* until cancelled, or until *draining* is done."""
    logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)
    logging.getLogger("uvicorn.error").addFilter(_is_no_upgrade)
    logging.getLogger("mcp.shared.jsonrpc_dispatcher").addFilter(_is_no_farewell)
    logging.getLogger("mcp.server.streamable_http").addFilter(_is_no_departure)
    async with anyio.create_task_group() as group:
        watched = guard.unauthenticated.at(listener)
        group.start_soon(_Server(_configuration(guard, http)).serve, [watched])
        await draining.wait()
        await guard.drained()
        group.cancel_scope.cancel()


def _configuration(guard: Guard, http: Http) -> uvicorn.Config:
    return uvicorn.Config(
        guard,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=ACCEPTED_MAX,
        timeout_graceful_shutdown=_SHUTDOWN_S_MAX,
        ssl_certfile=http.certificate,
        ssl_keyfile=http.key,
    )


class Guard:
    """Refuses what `http_access` does, hands the rest to whose it is, and counts both."""

    def __init__(
        self,
        tenants: Tenants,
        access: HttpAccess,
        *,
        readers: frozenset[str] = frozenset(),
        oauth: ResourceServer | None = None,
    ) -> None:
        self._tenants = tenants
        self._access = access
        self._readers = readers
        """Digests of the tokens that may read the metrics."""
        self._oauth = oauth
        self.unauthenticated = Unauthenticated.within(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._metrics = Metrics()
        self._draining = False
        self._held_bytes: Counter[str] = Counter()
        self._calls_count = 0
        self._quiet = anyio.Event()

    async def drained(self) -> None:
        """Let nobody in any more, and wait until all have their answers."""
        self._draining = True
        if self._calls_count:
            await self._quiet.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        refused = self._access.refusal(scope["headers"])
        if refused is None:
            refused = await self._admit(scope, receive, send)
        if refused is not None:
            self._metrics.refused(refused.status)
            await self._refuse(refused, send)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> Refused | None:
        """Serve a request that is for this server, or return why not."""
        path = scope["path"]
        token = self._access.token(scope["headers"])
        if self._draining:
            return Refused(_UNAVAILABLE, "this server is about to end")
        if path == HEALTH:
            await _answer(send, _OK, b"ok\n")
            return None
        if path == METRICS:
            return await self._tell_metrics(token, send)
        if self._oauth is not None and path == self._oauth.metadata_path:
            await self._oauth.metadata(scope, receive, send)
            return None
        owner = await self._owner(token)
        if isinstance(owner, Refused):
            return owner
        with self.unauthenticated.known(scope["client"]):
            return await self._serve(owner, scope, receive, send)

    async def _tell_metrics(self, token: bytes, send: Send) -> Refused | None:
        if not token or not knows(self._readers, token):
            return Refused(UNAUTHORIZED, "the metrics want a token of their own")
        text = self._metrics.text(self._tenants.present, self.unauthenticated.count)
        await _answer(send, _OK, text.encode(), CONTENT_TYPE)
        return None

    async def _owner(self, token: bytes) -> str | Refused:
        owner = self._access.owner(token)
        if isinstance(owner, str) or self._oauth is None:
            return owner
        try:
            return await self._oauth.owner(token)
        except Unreachable as error:
            logging.getLogger("nono").warning("the authorization server: %s", error)
            return Refused(_BAD_GATEWAY, "who issues tokens can't be asked now")

    async def _serve(
        self, owner: str, scope: Scope, receive: Receive, send: Send
    ) -> Refused | None:
        """Have the session of *owner* answer, or return why it can't."""
        # A stream that a client listens on isn't work to wait for.
        is_call = scope["method"] == "POST"
        self._calls_count += is_call
        leaving = scope[LEAVING] = Leaving()
        incoming = Incoming(receive, leaving, self._held_bytes, owner)
        try:
            opening = Opening(incoming)
            who = await self._who(owner, scope, opening)
            if who is None:
                return Refused(_NOT_FOUND, "no such session; begin one")
            async with self._tenants.session(who) as tenant:
                scope["headers"] = list(passed_on(scope["headers"]))
                scope["path"] = PATH
                await ask(tenant, scope, opening, self._counting(owner, incoming, send))
        except ClientDisconnect:
            # If it left before it had said all, nobody is there to be answered.
            pass
        except BusyError as error:
            return Refused(_UNAVAILABLE, str(error))
        except NOT_BEGUN as error:
            logging.getLogger("nono").warning("%s's session: %s", owner, error)
            return Refused(_UNAVAILABLE, "your session can't be begun: the server's log says why")
        finally:
            incoming.let_go()
            self._calls_count -= is_call
            if self._draining and not self._calls_count:
                self._quiet.set()
        if incoming.is_too_much:
            return Refused(_UNAVAILABLE, "too much is sent at once; try again later")
        return None

    async def _who(self, owner: str, scope: Scope, opening: Opening) -> Who | None:
        """Return which session of *owner* a request is for; None is one that isn't there."""
        asked = addressing.asked(scope)
        if asked is None:
            return None
        if asked.protocol_id is not None:
            return self._tenants.of_protocol(owner, asked.protocol_id)
        if asked.may_open and await opening.begins():
            return Who.anew(owner)
        return Who(owner, asked.name)

    def _counting(self, owner: str, incoming: Incoming, send: Send) -> Send:
        async def counted(message: Message) -> None:
            if incoming.is_too_much:
                # Whoever takes that for a client that left has no answer for it.
                return
            if message["type"] == "http.response.start":
                self._metrics.answered(owner, message["status"])
            await send(message)

        return counted

    async def _refuse(self, refused: Refused, send: Send) -> None:
        headers = []
        if refused.status == BAD_REQUEST:
            # Where it ends isn't known, so nothing after it is another request.
            headers.append((b"connection", b"close"))
        if refused.status == UNAUTHORIZED:
            challenge = 'Bearer realm="nono"'
            if self._oauth is not None:
                challenge += f', resource_metadata="{self._oauth.metadata_url}"'
            headers.append((b"www-authenticate", challenge.encode()))
        if refused.status == _UNAVAILABLE:
            headers.append((b"retry-after", str(RETRY_S).encode()))
        body = refused.text.encode() + b"\n"
        await _answer(send, refused.status, body, b"text/plain", headers)


async def _answer(
    send: Send,
    status: int,
    body: bytes,
    kind: bytes = b"text/plain",
    more: list[tuple[bytes, bytes]] | None = None,
) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    headers += more or []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """Tell whether *record* is of something else than a request that our own end interrupted."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def _is_no_upgrade(record: logging.LogRecord) -> bool:
    """Tell whether *record* is of something else than a client that wants another protocol.

    It's answered by this one, as a server may (RFC 9110, section 7.8), and there's no advice in it.
    """
    text = record.getMessage()
    return not text.startswith(("Unsupported upgrade request", "No supported WebSocket library"))


def _is_no_farewell(record: logging.LogRecord) -> bool:
    """Tell whether *record* is of something else than an answer that our own end came before."""
    return not record.getMessage().startswith("shutdown error response")


def _is_no_departure(record: logging.LogRecord) -> bool:
    """Tell whether *record* is of something else than a client that left before it had said all."""
    return not (record.exc_info and isinstance(record.exc_info[1], ClientDisconnect))


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
