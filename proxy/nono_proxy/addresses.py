"""Which addresses may be dialled, judged one by one after a name was resolved.

The ranges are IANA's special-purpose registries (RFC 6890) with what clouds added. An IPv6 address
that carries an IPv4 one is judged by both.

Architecture invariant: no I/O; nothing here resolves or dials.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Credentials of the machine itself are served here: no grant opens these.
NEVER: tuple[Address, ...] = tuple(
    ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
    )
)

NEVER_NAMES = frozenset(
    {
        "instance-data",
        "instance-data.ec2.internal",
        "metadata",
        "metadata.azure.com",
        "metadata.azure.internal",
        "metadata.goog",
        "metadata.google.internal",
        "metadata.packet.net",
        "metadata.platformequinix.com",
        "metadata.tencentyun.com",
        "metadata.oraclecloud.com",
    }
)

SPECIAL: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), what)
    for network, what in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "reserved"),
        ("192.52.193.0/24", "reserved"),
        ("192.88.99.0/24", "reserved"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "reserved"),
        ("198.18.0.0/15", "benchmark"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private"),
        ("ff00::/8", "multicast"),
        ("2001:db8::/32", "documentation"),
        ("3fff::/20", "documentation"),
    )
)
_GLOBAL_V6 = ip_network("2000::/3")
_PROTOCOL_V6 = ip_network("2001::/23")
_TEREDO = ip_network("2001::/32")
_6TO4 = ip_network("2002::/16")
# The last 32 bits are an IPv4 address: mapped, compatible, translated (SIIT), NAT64 (two prefixes).
_TAILS = tuple(
    ip_network(text)
    for text in ("::ffff:0:0/96", "::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
)
_ISATAP_MASK = 0xFCFFFFFF
_ISATAP = 0x00005EFE


def embedded(address: Address) -> list[IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address carries."""
    if isinstance(address, IPv4Address):
        return []
    number = int(address)
    low = IPv4Address(number & 0xFFFFFFFF)
    if address in _TEREDO:
        return [IPv4Address(number >> 64 & 0xFFFFFFFF), IPv4Address(int(low) ^ 0xFFFFFFFF)]
    if address in _6TO4:
        return [IPv4Address(number >> 80 & 0xFFFFFFFF)]
    if any(address in network for network in _TAILS):
        return [low]
    return [low] if number >> 32 & _ISATAP_MASK == _ISATAP else []


def _special(address: Address, inner: Sequence[IPv4Address]) -> str | None:
    for network, what in SPECIAL:
        if address.version == network.version and address in network:
            return what
    for carried in inner:
        what_inside = _special(carried, ())
        if what_inside is not None:
            return what_inside
    if isinstance(address, IPv6Address) and not inner:
        return "reserved" if address not in _GLOBAL_V6 or address in _PROTOCOL_V6 else None
    return None


def verify(address: Address, grants: Iterable[Network]) -> str | None:
    """Return why *address* may not be dialled; None if it may."""
    inner = embedded(address)
    if address in NEVER or any(carried in NEVER for carried in inner):
        return "metadata service"
    what = _special(address, inner)
    if what is None:
        return None
    faces = [address, *inner]
    for grant in grants:
        if any(face.version == grant.version and face in grant for face in faces):
            return None
    return f"{what} address"


def choose(answers: Sequence[str], grants: Sequence[Network]) -> tuple[list[Address], str]:
    """Return those of a resolver's *answers* that may be dialled, and why the others may not."""
    kept: list[Address] = []
    why = "no address"
    for text in answers:
        try:
            address = ip_address(text)
        except ValueError:
            why = "not an address"
            continue
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            why = "link-local address"
            continue
        reason = verify(address, grants)
        if reason is None:
            kept.append(address)
        else:
            why = reason
    return kept, why
