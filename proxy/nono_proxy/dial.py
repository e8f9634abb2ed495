"""The way to an upstream: resolve once, judge every address, dial one of those.

Architecture invariant: a name reaches the resolver only after `nono_proxy.decide` allowed it.
"""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from nono_proxy import addresses
from nono_proxy.authority import Authority, literal
from nono_proxy.config import Config, UpstreamProxy
from nono_proxy.errors import Refusal
from nono_proxy.vault import Vault
from nono_proxy.watching import Watch
from nono_proxy.wires import Wire

Resolver = Callable[[str], Awaitable[Sequence[str]]]
Connector = Callable[[str, int], Awaitable[socket.socket]]
P = TypeVar("P", bound=asyncio.BaseProtocol)

_ATTEMPT_S = 3.0
_CHOICES_MAX = 256
_ANSWER_BYTES_MAX = 8192
_OK = b"HTTP/1.1 200", b"HTTP/1.0 200"


async def system_resolver(host: str) -> Sequence[str]:
    """Return a host's addresses as the system finds them."""
    loop = asyncio.get_running_loop()
    answers = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(answer[4][0]) for answer in answers]


async def tcp_connector(address: str, port: int) -> socket.socket:
    """Return a socket that is connected to *address*."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(0)
    try:
        code = sock.connect_ex((address, port))
        if code == errno.EINPROGRESS:
            # On loopback the other side has answered by now.
            code = sock.connect_ex((address, port))
        if code in (errno.EINPROGRESS, errno.EALREADY):
            code = await _connected(sock)
        if code not in (0, errno.EISCONN):
            raise OSError(code, os.strerror(code))  # noqa: TRY301 - it ends here
    except BaseException:
        sock.close()
        raise
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


async def _connected(sock: socket.socket) -> int:
    """Wait for a connection that has begun; return what came of it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    loop.add_writer(sock, lambda: None if done.done() else done.set_result(None))
    try:
        await done
    finally:
        loop.remove_writer(sock)
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def client_context(roots_pem: str) -> ssl.SSLContext:
    """Return what upstreams are verified by: the system's roots, and *roots_pem* beside them."""
    context = ssl.create_default_context()
    if roots_pem:
        context.load_verify_locations(cadata=roots_pem)
    context.set_alpn_protocols(["http/1.1"])
    return context


class Dialer:
    """Opens connections to upstreams, by one configuration."""

    def __init__(  # noqa: PLR0913 - a way out is made of these
        self,
        config: Config,
        *,
        resolver: Resolver,
        connector: Connector,
        vault: Vault,
        own: frozenset[tuple[str, int]],
        watch: Watch,
    ) -> None:
        self._watch = watch
        self._choices: dict[tuple[str, ...], tuple[list[addresses.Address], str]] = {}
        self._config = config
        self._resolver = resolver
        self._connector = connector
        self._vault = vault
        self._own = own
        self._context = client_context(config.upstream_roots_pem)

    async def dial(
        self, target: Authority, factory: Callable[[], P], *, tls: bool
    ) -> tuple[P, str]:
        """Return a protocol connected to *target*, and the address that was dialled.

        Raises:
            Refusal: There is no connection.
        """
        try:
            async with asyncio.timeout(self._config.limits.connect_s):
                return await self._dial(target, factory, tls=tls)
        except TimeoutError as error:
            raise Refusal("connect-timeout", str(target)) from error
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "") or error.reason or "TLS failed"
            raise Refusal("upstream-tls", f"{target}: {reason}") from error
        except OSError as error:
            raise Refusal("connect-failed", f"{target}: {error.strerror or 'failed'}") from error

    async def _dial(
        self, target: Authority, factory: Callable[[], P], *, tls: bool
    ) -> tuple[P, str]:
        loop = asyncio.get_running_loop()
        beyond = self._config.upstream_proxy
        context = self._context if tls else None
        name = target.host.strip("[]") if tls else None
        if beyond is None:
            sock, address = await self._connect(target)
            if context is None:
                protocol = factory()
                Wire(self._watch, loop, sock, protocol).begin()
                return protocol, address
            _, protocol = await loop.create_connection(
                factory, sock=sock, ssl=context, server_hostname=name
            )
            return protocol, address
        self._verify_literal(target)
        transport = await self._through(beyond, target)
        protocol = factory()
        if context is not None:
            upgraded = await loop.start_tls(transport, protocol, context, server_hostname=name)
            if upgraded is None:
                raise Refusal("upstream-tls", str(target))
            transport = upgraded
        else:
            transport.set_protocol(protocol)
        protocol.connection_made(transport)
        transport.resume_reading()
        return protocol, f"via {beyond.host}:{beyond.port}"

    def _verify_literal(self, target: Authority) -> None:
        address = literal(target.host)
        if address is None:
            return
        reason = addresses.verify(address, self._config.address_grants)
        if reason is not None:
            raise Refusal("address-refused", f"{target}: {reason}")

    async def _connect(self, target: Authority) -> tuple[socket.socket, str]:
        """Return a socket connected to an address of *target* that may be dialled."""
        answers: Sequence[str]
        if literal(target.host) is not None:
            answers = [target.host.strip("[]")]
        else:
            try:
                answers = await self._resolver(target.host)
            except OSError as error:
                raise Refusal("resolution-failed", target.host) from error
        kept, why = self._choose(tuple(answers))
        if not kept:
            raise Refusal("address-refused", f"{target}: {why}")
        *others, last = map(str, kept)
        for address in others:
            self._verify_other(address, target)
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_ATTEMPT_S):
                    return await self._connector(address, target.port), address
        self._verify_other(last, target)
        return await self._connector(last, target.port), last

    def _choose(self, answers: tuple[str, ...]) -> tuple[list[addresses.Address], str]:
        """Judge addresses, or remember how they were judged by this configuration."""
        found = self._choices.get(answers)
        if found is None:
            if len(self._choices) >= _CHOICES_MAX:
                self._choices.clear()
            found = addresses.choose(answers, self._config.address_grants)
            self._choices[answers] = found
        return found

    def _verify_other(self, address: str, target: Authority) -> None:
        """Refuse to dial this proxy itself."""
        if (address, target.port) in self._own:
            raise Refusal("address-refused", f"{target}: this proxy itself")

    async def _through(self, beyond: UpstreamProxy, target: Authority) -> asyncio.Transport:
        """Return a transport to *target* through the proxy *beyond* this one, not yet reading."""
        loop = asyncio.get_running_loop()
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if beyond.credential is not None:
            secret = (await self._vault.fetch(beyond.credential))[0].value
            lines.append(f"Proxy-Authorization: Basic {b64encode(secret).decode()}")
        host = beyond.host.strip("[]")
        address = literal(beyond.host)
        found = [host] if address is not None else await self._resolver(host)
        if not found:
            raise Refusal("resolution-failed", beyond.host)
        sock = await self._connector(str(found[0]), beyond.port)
        transport, answer = await loop.create_connection(
            lambda: _Answer(loop),
            sock=sock,
            ssl=self._context if beyond.tls else None,
            server_hostname=host if beyond.tls else None,
        )
        transport.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        try:
            head = await answer.head
        except BaseException:
            transport.abort()
            raise
        if not head.startswith(_OK):
            transport.abort()
            status = head[9:12].decode("ascii", "replace")
            raise Refusal("upstream-proxy", f"{beyond.host} answered {status}")
        return transport


class _Answer(asyncio.Protocol):
    """Waits for the head of a proxy's answer to CONNECT, and for not an octet more."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.head: asyncio.Future[bytes] = loop.create_future()
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport if isinstance(transport, asyncio.Transport) else None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if self.head.done():
            return
        if end >= 0 and end + 4 == len(self._buffer):
            if self._transport is not None:
                self._transport.pause_reading()
            self.head.set_result(self._buffer)
        elif end >= 0 or len(self._buffer) > _ANSWER_BYTES_MAX:
            # Nobody speaks in a tunnel before the client does.
            self.head.set_exception(Refusal("upstream-proxy", "an answer that isn't one"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.head.done():
            self.head.set_exception(exc or ConnectionResetError("closed"))
