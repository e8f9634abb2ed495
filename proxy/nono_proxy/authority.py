"""One grammar for the name of a far end, at every entrance.

CONNECT, absolute-form targets, Host fields, SNI and the rules of a policy are all read here, so
that no two of them can read one name differently (RFC 3986 3.2, RFC 1123 2.1, RFC 5952).

Architecture invariant: no I/O, no resolving, no IDNA mapping: a name that isn't ASCII is refused.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Self

from nono_proxy.errors import AuthorityError

_HOST_OCTETS_MAX = 253
_PORT_MAX = 65535
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}+(?<=[a-z0-9]))?+"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*+")
# What a URL parser takes for an IPv4 address in disguise (WHATWG URL 3.5, "ends in a number").
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:]{2,39}\]|[A-Za-z0-9.-]{1,254})(?::([1-9][0-9]{0,4}))?")


def _canonical_v6(text: str) -> str:
    try:
        address = IPv6Address(text)
    except AddressValueError as error:
        raise AuthorityError(f"not an IPv6 address: {text}") from error
    # A mapped address has two spellings that both claim to be canonical; it is written as IPv4.
    if address.ipv4_mapped is not None or str(address) != text:
        raise AuthorityError(f"not the canonical form of an IPv6 address: {text}")
    return f"[{text}]"


def parse_host(text: str) -> str:
    """Return the one spelling of a host: lower case, no trailing dot, IPv6 in brackets.

    Raises:
        AuthorityError: It is neither LDH labels nor an IP literal in canonical form.
    """
    host = text.lower()
    if host.startswith("[") and host.endswith("]"):
        return _canonical_v6(host[1:-1])
    host = host.removesuffix(".")
    if len(host) > _HOST_OCTETS_MAX or not host.isascii() or _NAME.fullmatch(host) is None:
        raise AuthorityError(f"not a host name: {text[:80]!r}")
    if _NUMERIC.fullmatch(host) is not None:
        try:
            if str(IPv4Address(host)) == host and host == text.lower():
                return host
        except AddressValueError:
            pass
        raise AuthorityError(f"not the canonical form of an IPv4 address: {text[:80]!r}")
    return host


def literal(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that *host* (as `parse_host` spells it) is, or None for a name."""
    if host.startswith("["):
        return IPv6Address(host[1:-1])
    return IPv4Address(host) if host[-1:].isdigit() and _NUMERIC.fullmatch(host) else None


@dataclass(frozen=True, slots=True)
class Authority:
    """A far end: a host in its one spelling, and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, default_port: int | None = 443) -> Self:
        """Read ``host[:port]``; without *default_port* the port must be there.

        Raises:
            AuthorityError: The text isn't a host, and a port from 1 to 65535.
        """
        match = _AUTHORITY.fullmatch(text)
        if match is None:
            raise AuthorityError(f"not host:port: {text[:80]!r}")
        host, port = match.groups()
        number = int(port) if port is not None else default_port
        if number is None or number > _PORT_MAX:
            raise AuthorityError(f"no port from 1 to 65535: {text[:80]!r}")
        return cls(parse_host(host), number)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"
