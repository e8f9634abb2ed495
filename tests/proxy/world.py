"""A world around one proxy: upstreams that lie, a resolver and a connector that remember.

Everything is on loopback: names resolve to public addresses that the connector leads to servers of
the test's own, and whoever dials anything else is found out.
"""

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
import tempfile
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nono_proxy.config import Config
from nono_proxy.errors import CredentialUnavailableError
from nono_proxy.proxy import Proxy

if TYPE_CHECKING:
    from nono_proxy.records import Record
    from nono_proxy.tokens import Lease

PUBLIC = "93.184.216.34"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
DEADLINE_S = 60.0
CREDENTIAL = b"sk-real-0123456789/abcdef+ghij"


SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


class Roots:
    """A certificate authority of the test's own."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test roots")])
        authority = x509.BasicConstraints(ca=True, path_length=None)
        self.certificate = self._sign(self._name, self._key, authority, SIGNS_CERTIFICATES)
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def _sign(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *critical: x509.ExtensionType
    ) -> x509.Certificate:
        """Return a certificate that Python 3.13 takes too, which wants all that RFC 5280 does."""
        now = dt.datetime.now(dt.UTC)
        of_subject = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        of_issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(of_subject, critical=False)
            .add_extension(of_issuer, critical=False)
        )
        for extension in critical:
            builder = builder.add_extension(extension, critical=True)
        return builder.sign(self._key, hashes.SHA256())

    def context(self, *hosts: str) -> ssl.SSLContext:
        """Return what a server of *hosts* is."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        certificate = self._sign(x509.Name([]), key, names)
        data = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ) + certificate.public_bytes(serialization.Encoding.PEM)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            context.load_cert_chain(file.name)
        return context


@dataclass
class Peer:
    """One connection that an upstream was given."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    heads: list[bytes]

    async def head(self) -> bytes:
        """Read one request's head."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        return head

    async def say(self, data: bytes) -> None:
        """Write and let it go out on its own."""
        self.writer.write(data)
        await self.writer.drain()


@dataclass
class Upstream:
    """A server on loopback that says what it's told to, and keeps what it hears."""

    port: int
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0
    ends: int = 0

    @property
    def heard(self) -> bytes:
        """Everything that came in heads."""
        return b"".join(self.heads)


class World:
    """A proxy, its upstreams and one call."""

    def __init__(self, roots: Roots) -> None:
        self.roots = roots
        self.records: list[Record] = []
        self.looked_up: list[str] = []
        self.asked: list[str] = []
        self.dialled: list[tuple[str, int]] = []
        self.names: dict[str, list[str]] = {}
        self.leads: dict[tuple[str, int], int] = {}
        self.credentials: dict[str, bytes] = {}
        self.servers: list[asyncio.Server] = []
        self.upstreams: list[Upstream] = []
        self.wires: list[Wire] = []
        self.proxy: Proxy
        self.lease: Lease
        self.port = 0

    async def lookup(self, name: str) -> bytes:
        """Be the keychain."""
        self.asked.append(name)
        if name not in self.credentials:
            raise CredentialUnavailableError(f"{name} is locked")
        return self.credentials[name]

    async def resolve(self, host: str) -> Sequence[str]:
        """Be the resolver; a list of lists is answered one after the other."""
        self.looked_up.append(host)
        if host not in self.names:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return self.names[host]

    async def connect(self, address: str, port: int) -> socket.socket:
        """Be the network: only what the test put there is there."""
        self.dialled.append((address, port))
        sock = socket.socket()
        sock.settimeout(0)
        lead = self.leads.get((address, port))
        if lead is None:
            sock.close()
            raise ConnectionRefusedError(111, "refused")
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", lead))
        return sock

    async def serve(
        self,
        host: str,
        port: int,
        script: Callable[[Peer], Awaitable[None]],
        *,
        tls: bool,
        address: str = "",
    ) -> Upstream:
        """Put an upstream behind a name."""
        upstream = Upstream(0)
        self.upstreams.append(upstream)

        async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            upstream.connections += 1
            with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError):
                await script(Peer(reader, writer, upstream.heads))
            upstream.ends += 1
            writer.close()

        context = self.roots.context(host) if tls else None
        server = await asyncio.start_server(serve_one, "127.0.0.1", 0, ssl=context, limit=1 << 22)
        self.servers.append(server)
        upstream.port = server.sockets[0].getsockname()[1]
        address = address or f"93.184.216.{len(self.servers)}"
        self.names.setdefault(host, []).append(address)
        self.leads[address, port] = upstream.port
        return upstream

    async def open(self) -> "Wire":
        """Connect to the proxy as a worker would."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 22)
        wire = Wire(self, reader, writer)
        self.wires.append(wire)
        return wire

    async def ask(self, data: bytes) -> "Reply":
        """Send *data* on a connection of its own and return the answer."""
        wire = await self.open()
        try:
            return await wire.ask(data)
        finally:
            wire.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what has to happen."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110 - anything may make it true
                await asyncio.sleep(0.005)

    def codes(self) -> list[str]:
        """What was recorded, by code."""
        return [record.code for record in self.records]

    @property
    def password(self) -> bytes:
        """What a worker's client sends to a proxy whose URL has a password."""
        basic = b64encode(b"nono:" + self.lease.secret.encode())
        return b"Proxy-Authorization: Basic " + basic + b"\r\n"

    def token(self, route: str) -> bytes:
        """The call's phantom for a route."""
        return self.lease.tokens[route].encode()


@dataclass
class Reply:
    """An answer, as it came."""

    raw: bytes

    @property
    def status(self) -> int:
        """Its status, or 0 if there was none."""
        return int(self.raw[9:12]) if self.raw.startswith(b"HTTP/1.1 ") else 0

    @property
    def head(self) -> bytes:
        """Its head."""
        return self.raw.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        """Its body, framing and all."""
        return self.raw.partition(b"\r\n\r\n")[2]


@dataclass
class Wire:
    """A worker's connection."""

    world: World
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> Self:
        """Write."""
        self.writer.write(data)
        await self.writer.drain()
        return self

    async def reply(self, *, bodiless: bool = False) -> Reply:
        """Read one answer, or what there is of it before the end."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                return Reply(error.partial)
            except OSError:
                return Reply(b"")
            if bodiless:
                return Reply(head)
            return Reply(head + await self._body(head.lower()))

    async def _body(self, head: bytes) -> bytes:
        if b"\r\ntransfer-encoding: chunked" in head:
            found = b""
            while not (found.endswith(b"\r\n\r\n") and b"\r\n0\r\n" in b"\r\n" + found):
                piece = await self.reader.read(65536)
                if not piece:
                    break
                found += piece
            return found
        _, mark, rest = head.partition(b"\r\ncontent-length: ")
        if mark:
            try:
                return await self.reader.readexactly(int(rest.partition(b"\r\n")[0]))
            except asyncio.IncompleteReadError as error:
                return error.partial
        return await self.reader.read() if b"connection: close" in head else b""

    async def ask(self, data: bytes) -> Reply:
        """Write, and read the answer."""
        await self.send(data)
        return await self.reply()

    async def ended(self) -> bool:
        """Tell whether the proxy ends this connection."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                return await self.reader.read() == b""
            except OSError:
                return True

    async def connect(self, authority: str, extra: bytes = b"") -> Reply:
        """Ask for a tunnel."""
        line = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n".encode()
        return await self.ask(line + self.world.password + extra + b"\r\n")

    async def shake(self, name: str, ca: str) -> None:
        """Begin TLS in a tunnel."""
        context = ssl.create_default_context(cadata=ca)
        async with asyncio.timeout(DEADLINE_S):
            await self.writer.start_tls(context, server_hostname=name)

    def close(self) -> None:
        """Be gone."""
        self.writer.transport.abort()


@asynccontextmanager
async def playing(made: World, config: Config) -> AsyncIterator[World]:
    """Run a proxy of *config* in the world that was made."""
    listener = socket.create_server(("127.0.0.1", 0))
    made.port = listener.getsockname()[1]
    async with Proxy(
        [listener],
        config,
        made.lookup,
        made.records.append,
        resolver=made.resolve,
        connector=made.connect,
    ) as proxy:
        made.proxy = proxy
        made.lease = proxy.mint("call-1")
        try:
            yield made
        finally:
            for wire in made.wires:
                wire.close()
    for server in made.servers:
        server.close()
    await made.until(lambda: all(each.ends == each.connections for each in made.upstreams))
