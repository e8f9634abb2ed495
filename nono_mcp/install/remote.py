"""The address of a server by HTTP, with the name of the session that one client is to have there.

Clients of the newest protocol can't be told apart by it, so each is given a name: whoever has the
token and the name is that client, which is why it's random, and kept once it's written.

Architecture invariant: no token is taken, or written: a client is told which variable holds it.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from nono_mcp.install.errors import InstallError
from nono_mcp.server.paths import NAME, PATH

VARIABLE = "NONO_TOKEN"
"""Which variable of a client's environment holds the token, unless another is named."""
_ADDRESS = re.compile(r"[A-Za-z0-9.:/\[\]_@?#=&-]+", re.ASCII)
"""What addresses are written with, those too that are refused for what they hold."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
_RANDOM_BYTES = 8


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is."""

    base: str
    """Up to the name."""
    name: str = ""
    """Of the session, if a person chose one."""

    def url(self, client: str, present: object) -> str:
        """Return what *client* is to be told, which may be what it's told at *present*."""
        if self.name:
            return f"{self.base}/{self.name}"
        if isinstance(present, str) and present.startswith(f"{self.base}/"):
            known = present.removeprefix(f"{self.base}/")
            if NAME.fullmatch(known):
                return present
        return f"{self.base}/{client}-{secrets.token_hex(_RANDOM_BYTES)}"


def parse(text: str, *, plain: bool) -> Address:
    """Return what the address *text* says; *plain* is a person's yes to HTTP beyond loopback.

    Raises:
        InstallError: It's none, or the token would cross a network unencrypted.
    """
    # Whoever parses them drops ends of lines and tabs without a word.
    if not _ADDRESS.fullmatch(text):
        raise InstallError("it holds a character that no server's address has, as a space is")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise InstallError(f"it is no address: {error}") from error
    if parts.scheme not in {"http", "https"} or not host:
        raise InstallError("it is no address: say http://127.0.0.1:8080 or https://HOST")
    if parts.username is not None or parts.query or parts.fragment:
        raise InstallError("it holds more than a host, a port and a path")
    if parts.scheme == "http" and not plain and not _is_loopback(host):
        raise InstallError(f"the token would cross the network to {host} unencrypted: say https")
    name = parts.path.removeprefix(PATH).strip("/")
    if parts.path.rstrip("/") not in {"", PATH, f"{PATH}/{name}"}:
        raise InstallError(f"a server answers at {PATH}, or {PATH}/NAME")
    if name and not NAME.fullmatch(name):
        raise InstallError("the name of a session is of letters, digits, dots and dashes")
    return Address(f"{parts.scheme}://{parts.netloc}{PATH}", name)


def check_variable(name: str) -> None:
    """Raise unless *name* may be a variable's.

    Raises:
        InstallError: It may not; it isn't shown, since it may be the token.
    """
    if not _VARIABLE.fullmatch(name):
        raise InstallError("it is the name of a variable, and not the token")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
