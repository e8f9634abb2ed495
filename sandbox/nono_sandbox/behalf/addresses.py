"""Socket addresses as a worker wrote them, and what may become of them.

Specified by unix(7), ip(7) and ipv6(7); lengths are checked as the kernel checks them.

Architecture invariant: pure. What comes back is made anew from the parts that were judged.
"""

from __future__ import annotations

import struct
from errno import EACCES, EAFNOSUPPORT, EINVAL

from nono_sandbox.confinement import CLOSED, OPEN
from nono_sandbox.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_sandbox.confinement import Network

AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6 = 0, 1, 2, 10
SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET = 1, 2, 5
IPPROTO_TCP = 6
ADDRESS_BYTES_MAX = 128
"""struct sockaddr_storage."""
_UNIX_BYTES_MAX = 110
_NAME_BYTES_MAX = _UNIX_BYTES_MAX - 2
_DIGEST_BYTES = 16
_FAMILY = struct.Struct("=H")
_INET = struct.Struct("!H4s8x")
_INET6 = struct.Struct("!HI16s")
_INET6_BYTES_MIN = 24
"""SIN6_LEN_RFC2133: the scope may be left out."""
_MAPPED = bytes(10) + b"\xff\xff"
_LOOPBACK = bytes((127, 0, 0, 1))
_LOOPBACK6 = bytes(15) + b"\x01"
_ANY = bytes(4)
_ANY6 = bytes(16)
_DNS_PORT = 53


class Kind(Value):
    """What a socket is, which doesn't change in its life."""

    domain: int
    type: int
    protocol: int

    @property
    def local(self) -> bool:
        """Tell whether it is a local one that speaks to whom it is connected to, and no other."""
        return self.domain == AF_UNIX and self.type in (SOCK_STREAM, SOCK_SEQPACKET)

    @property
    def datagrams(self) -> bool:
        """Tell whether it is a local one that each message may have another address of."""
        return self.domain == AF_UNIX and self.type == SOCK_DGRAM

    @property
    def takes_addresses(self) -> bool:
        """Tell whether a message's address says where it goes; others are to be ignored."""
        return self.type not in (SOCK_STREAM, SOCK_SEQPACKET)

    @property
    def is_stream(self) -> bool:
        """Tell whether part of a message may be sent."""
        return self.type == SOCK_STREAM

    @property
    def tcp(self) -> bool:
        """Tell whether it is of TCP."""
        internet = self.domain in (AF_INET, AF_INET6)
        return internet and self.type == SOCK_STREAM and self.protocol == IPPROTO_TCP


def is_path(raw: bytes) -> bool:
    """Tell whether *raw* is the path of a local socket: no name, no other family, not malformed."""
    if not _FAMILY.size < len(raw) <= _UNIX_BYTES_MAX:
        return False
    return _family(raw) == AF_UNIX and raw[_FAMILY.size] != 0


def is_name(raw: bytes) -> bool:
    """Tell whether *raw* is a name of a local socket that isn't a path."""
    if not _FAMILY.size < len(raw) <= _UNIX_BYTES_MAX:
        return False
    return _family(raw) == AF_UNIX and raw[_FAMILY.size] == 0


def asks_for_name(raw: bytes) -> bool:
    """Tell whether *raw*, to bind to, asks for any name that is free."""
    return len(raw) == _FAMILY.size and _family(raw) == AF_UNIX


def dissolves(raw: bytes) -> bool:
    """Tell whether *raw*, to connect to, asks for the end of being connected."""
    return len(raw) >= _FAMILY.size and _family(raw) == AF_UNSPEC


def nobody() -> bytes:
    """Return the address that ends being connected."""
    return _FAMILY.pack(AF_UNSPEC) + bytes(14)


def named(raw: bytes, beginning: bytes) -> bytes:
    """Return the address that begins so, and stands for the name that is *raw*.

    What begins so already (the kernel told it to somebody) stands for itself. What would be too
    long (many programs pass all of struct sockaddr_un) ends with a digest.
    """
    name = raw[_FAMILY.size :]
    if not name.startswith(beginning):
        whole = beginning + name[1:]
        name = whole if len(whole) <= _NAME_BYTES_MAX else beginning + _digest(name)
    return to_name(name)


def _digest(name: bytes) -> bytes:
    # Not hashlib, which brings OpenSSL with it.
    import _blake2

    return _blake2.blake2b(name, digest_size=_DIGEST_BYTES).hexdigest().encode()


def to_name(name: bytes) -> bytes:
    """Return the address of the local socket with that name, whose first byte is 0."""
    return _FAMILY.pack(AF_UNIX) + name


def path_of(raw: bytes) -> bytes:
    """Return the path that is the address of a local socket.

    Raises:
        OSError: It isn't one: it has another family, a length that can't be, or no path at all.
    """
    if len(raw) < _FAMILY.size or len(raw) > _UNIX_BYTES_MAX:
        raise OSError(EINVAL, "no address of a local socket is that long")
    if _FAMILY.unpack_from(raw)[0] != AF_UNIX:
        raise OSError(EINVAL, "not the address of a local socket")
    path = raw[_FAMILY.size :].partition(b"\0")[0]
    if not path:
        number = EACCES if len(raw) > _FAMILY.size else EINVAL
        raise OSError(number, "an abstract name, or none")
    return path


def to_path(path: bytes) -> bytes:
    """Return the address of the local socket at *path*."""
    return _FAMILY.pack(AF_UNIX) + path + b"\0"


def leads_out(raw: bytes) -> bool:
    """Tell whether who connects to *raw* wants a host elsewhere, or to know where one is."""
    try:
        port, address = _parts(raw)
    except OSError:
        return False
    return port == _DNS_PORT or not _is_here(address)


def connecting(raw: bytes, kind: Kind, network: Network) -> bytes:
    """Return the address that a socket of *kind*, no local one, is to be connected to for *raw*.

    Raises:
        OSError: It may not be, or *raw* is no address.
    """
    if network.mode == OPEN:
        return raw
    _check_tcp(kind, network)
    if _family(raw) == AF_UNSPEC:
        return nobody()
    port, address = _parts(raw)
    if port not in network.connect_ports or not _is_here(address):
        raise OSError(EACCES, "a port or an address that isn't granted")
    return _made(port, _LOOPBACK if address == _ANY else address, raw)


def binding(raw: bytes, kind: Kind, network: Network, *, both: bool) -> bytes:
    """Return the address that a socket of *kind*, no local one, is to be bound to for *raw*.

    What asks for every address gets loopback's; *both* tells that it serves IPv4 and IPv6 alike,
    of which it gets the former.

    Raises:
        OSError: It may not be, or *raw* is no address.
    """
    if network.mode == OPEN:
        return raw
    _check_tcp(kind, network)
    port, address = _parts(raw)
    if port not in network.bind_ports or not _is_here(address):
        raise OSError(EACCES, "a port or an address that isn't granted")
    if address == _ANY:
        address = _LOOPBACK
    elif address == _ANY6:
        address = _LOOPBACK if both else _LOOPBACK6
    return _made(port, address, raw)


def _check_tcp(kind: Kind, network: Network) -> None:
    if network.mode == CLOSED or not kind.tcp:
        raise OSError(EACCES, "no network")


def _family(raw: bytes) -> int:
    if len(raw) < _FAMILY.size:
        raise OSError(EINVAL, "too short for an address")
    family: int = _FAMILY.unpack_from(raw)[0]
    return family


def _parts(raw: bytes) -> tuple[int, bytes]:
    """Return the port and the address; one of IPv4 that is written as one of IPv6 is of IPv4."""
    family = _family(raw)
    if family == AF_INET:
        if len(raw) < _FAMILY.size + _INET.size:
            raise OSError(EINVAL, "too short for an address of IPv4")
        port, address = _INET.unpack_from(raw, _FAMILY.size)
        return port, address
    if family != AF_INET6:
        raise OSError(EAFNOSUPPORT, "neither IPv4 nor IPv6")
    if len(raw) < _INET6_BYTES_MIN:
        raise OSError(EINVAL, "too short for an address of IPv6")
    port, _, address = _INET6.unpack_from(raw, _FAMILY.size)
    mapped = address.startswith(_MAPPED)
    return port, address[len(_MAPPED) :] if mapped else address


def _is_here(address: bytes) -> bool:
    if len(address) == len(_ANY):
        return address[0] == _LOOPBACK[0] or address == _ANY
    return address in (_LOOPBACK6, _ANY6)


def _made(port: int, address: bytes, raw: bytes) -> bytes:
    """Return the address in the family of *raw*."""
    if _family(raw) == AF_INET:
        return _FAMILY.pack(AF_INET) + _INET.pack(port, address)
    if len(address) == len(_ANY):
        address = _MAPPED + address
    return _FAMILY.pack(AF_INET6) + _INET6.pack(port, 0, address) + bytes(4)
