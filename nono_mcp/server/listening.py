"""Where the HTTP server listens, by which certificate, and where its token is kept.

Architecture invariant: plain HTTP leaves the machine only by the person's explicit word.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import ssl
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from nono_mcp.policy.errors import quoted
from nono_mcp.server import own_token, unauthenticated
from nono_mcp.server.errors import ServeError
from nono_mcp.server.paths import PATH
from nono_sandbox import private

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nono_mcp.server import Http

_CERTIFICATE_BYTES_MAX = 1 << 20
_LOCALHOST = "localhost"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen, and what clients call it."""

    host: str
    """An IP address."""
    names: frozenset[str]
    scheme: str


@dataclass(frozen=True, slots=True)
class Site:
    """Where clients come."""

    address: Address
    listener: socket.socket
    token: str
    """What lets them in; empty where a team's file says who comes."""

    @property
    def port(self) -> int:
        """The port, which may be any that was free."""
        found: int = self.listener.getsockname()[1]
        return found


@contextlib.contextmanager
def reached(http: Http) -> Iterator[Site]:
    """Be reached as *http* says while the body runs.

    Raises:
        ServeError: The address, the certificate, the token or the port isn't to be had like that.
    """
    address = judge(http)
    check_keys(http)
    token = ""
    if http.team is None:
        file = http.token_file
        token = own_token.new() if file is None else own_token.read_or_make(file)
    with listening(address.host, http.port) as listener:
        yield Site(address, listener, token)


def judge(http: Http) -> Address:
    """Return where *http* says to listen.

    Raises:
        ServeError: It says no address, or one that isn't loopback without a certificate.
    """
    host = "127.0.0.1" if http.host == _LOCALHOST else http.host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if http.certificate is not None and address is not None:
        names = certified(http.certificate)
        return Address(str(address), names | {str(address)}, "https")
    if address is not None and address.is_loopback:
        return Address(str(address), frozenset({str(address), _LOCALHOST}), "http")
    if address is not None and http.plain and not address.is_unspecified:
        return Address(str(address), frozenset({str(address)}), "http")
    raise ServeError(
        f"{quoted(http.host)} isn't a loopback address: without --tls-cert and --tls-key this "
        "speaks plain HTTP, so it is for this machine alone (127.0.0.1, ::1 or localhost)"
    )


def certified(path: str) -> frozenset[str]:
    """Return the hosts that a certificate is for.

    Raises:
        ServeError: It can't be read, or is for none.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - bounded
            certificate = x509.load_pem_x509_certificate(file.read(_CERTIFICATE_BYTES_MAX))
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        raise ServeError(f"{quoted(path)} is no certificate of a host's: {error}") from error
    addresses = {str(address) for address in san.get_values_for_type(x509.IPAddress)}
    names = {name.lower() for name in san.get_values_for_type(x509.DNSName) if "*" not in name}
    return frozenset(addresses | names)


def check_keys(http: Http) -> None:
    """Look whether the certificate and its key belong together.

    Raises:
        ServeError: They don't, or one can't be read.
    """
    if http.certificate is None or http.key is None:
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(http.certificate, http.key)
    except (OSError, ValueError) as error:
        both = f"{quoted(http.certificate)} and {quoted(http.key)}"
        raise ServeError(f"{both} aren't a certificate and its key: {error}") from error


@contextlib.contextmanager
def listening(address: str, port: int) -> Iterator[socket.socket]:
    """Listen while the body runs.

    Raises:
        ServeError: The port can't be had.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
            listener.listen(unauthenticated.BACKLOG_MAX)
        except (OSError, OverflowError) as error:
            raise ServeError(f"can't listen on {address} port {port}: {error}") from error
        yield listener


@contextlib.contextmanager
def token_file(state_dir: str, port: int, token: str) -> Iterator[str]:
    """Write the token where only its owner reads it, for as long as it is valid."""
    directory = os.path.join(state_dir, "run")  # noqa: PTH118 - a descriptor follows
    private.ensure_directories(directory)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    name = f"http-{port}.token"
    try:
        os.fchmod(fd, 0o700)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=fd)  # of a server that was killed
        made = private.open_file(name, private.NEW, fd)
        with os.fdopen(made, "w", encoding="ascii") as file:
            file.write(token + "\n")
        try:
            yield f"{directory}/{name}"
        finally:
            os.unlink(name, dir_fd=fd)
    finally:
        os.close(fd)


def announce(address: Address, port: int, lines: list[str], token: str = "") -> None:
    """Tell on standard error where it listens."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    told = [f"serving MCP at {address.scheme}://{host}:{port}{PATH}", *lines]
    if token and sys.stderr.isatty():
        # Only where a person reads it: logs are kept, and read by others.
        told.append(f"Authorization: Bearer {token}")
    sys.stderr.write("".join(f"nono: {line}\n" for line in told))
    sys.stderr.flush()
