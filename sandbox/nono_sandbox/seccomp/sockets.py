"""Which sockets a worker may make, for each kind of network.

Landlock's port rules look at TCP's `connect` and `bind` and at nothing else, and an IP socket
reaches whatever its network namespace reaches. So sockets are an allow-list: what isn't named
here (packet, vsock, alg, bluetooth, SCTP, UDP-Lite, ICMP, MPTCP, and what is yet to come) can't
be made.

Architecture invariant: data, and one function that picks from it.
"""

from __future__ import annotations

from errno import EACCES, ENOENT, EPERM

from nono_sandbox.confinement import CLOSED, OPEN, PORTS
from nono_sandbox.seccomp.rules import ALLOW, NOTIFY, POINTER, Row, any_bit, none_of, one_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_sandbox.seccomp.table import Options

AF_UNIX = 1
AF_INET = 2
AF_INET6 = 10
AF_NETLINK = 16

SOCK_STREAM = 1
SOCK_DGRAM = 2
SOCK_RAW = 3
SOCK_SEQPACKET = 5
_SOCK_TYPE_MASK = 0xF
"""include/linux/net.h; above it are SOCK_CLOEXEC and SOCK_NONBLOCK, which anybody may set."""

IPPROTO_TCP = 6
IPPROTO_UDP = 17
NETLINK_ROUTE = 0

MSG_FASTOPEN = 0x2000_0000
TCP_ULP = 31

_INET = one_of(0, AF_INET, AF_INET6)
_UNIX = one_of(0, AF_UNIX)
_STREAM = one_of(1, SOCK_STREAM, mask=_SOCK_TYPE_MASK)
_DGRAM = one_of(1, SOCK_DGRAM, mask=_SOCK_TYPE_MASK)

_TCP = Row(
    "socket",
    ALLOW,
    "TCP; protocol 0 means it. MPTCP (262) would connect past Landlock's rules for TCP",
    (_INET, _STREAM, one_of(2, 0, IPPROTO_TCP)),
)
_UDP = Row(
    "socket",
    ALLOW,
    "UDP where the network is the worker's own, or all of the machine's",
    (_INET, _DGRAM, one_of(2, 0, IPPROTO_UDP)),
)
_ADDRESSES = Row(
    "socket",
    ALLOW,
    "getifaddrs and getaddrinfo list addresses by it; changing anything needs CAP_NET_ADMIN",
    (
        one_of(0, AF_NETLINK),
        one_of(1, SOCK_DGRAM, SOCK_RAW, mask=_SOCK_TYPE_MASK),
        one_of(2, NETLINK_ROUTE),
    ),
)
_LOCAL = Row(
    "socket socketpair",
    ALLOW,
    "every path and abstract name that can be reached by it lies inside the sandbox",
    (_UNIX,),
)
_CONNECTED = (_UNIX, one_of(1, SOCK_STREAM, SOCK_SEQPACKET, mask=_SOCK_TYPE_MASK))
_PAIRS = Row(
    "socketpair",
    ALLOW,
    "its two ends know each other alone; a datagram's end could be sent to any path",
    _CONNECTED,
)
_JUDGED_CONNECTED = Row(
    "socket socketpair",
    ALLOW,
    "whom it connects to is judged; one of datagrams (SOCK_RAW is another word for it) could be "
    "sent to any path by sendmsg, whose address is behind a pointer",
    _CONNECTED,
)
_JUDGED_LOCAL = Row(
    "socket socketpair",
    ALLOW,
    "whom it connects and sends to is judged",
    (_UNIX, one_of(1, SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET, mask=_SOCK_TYPE_MASK)),
)
_ON_BEHALF = Row("connect bind", NOTIFY, "the address is behind a pointer, so another acts on it")
_CONNECT_ON_BEHALF = Row(
    "connect",
    NOTIFY,
    "a path inside a grant may be the socket of a program outside, whose network doesn't matter",
)
_SEND_ON_BEHALF = (
    Row(
        "sendto",
        NOTIFY,
        "a datagram's address is behind a pointer; without one (send) it goes to whom it may",
        (none_of(4, 0, mask=POINTER),),
    ),
    Row(
        "sendmsg sendmmsg",
        NOTIFY,
        "whether there is an address, and which, is behind a pointer",
    ),
)
_LISTEN_ON_BEHALF = Row("listen", NOTIFY, "a local socket may, and TCP that was bound to a port")
_NO_OTHER = Row("socket socketpair", EACCES, "a socket nobody granted")

_FAST_OPEN_WHY = "TCP Fast Open connects without connect(), and Landlock looks there alone"
_FAST_OPEN = (
    Row("sendto sendmmsg", EPERM, _FAST_OPEN_WHY, (any_bit(3, MSG_FASTOPEN),)),
    Row("sendmsg", EPERM, _FAST_OPEN_WHY, (any_bit(2, MSG_FASTOPEN),)),
)
_UPPER_LAYER = Row(
    "setsockopt",
    ENOENT,
    "TCP_ULP 'smc' (Linux 5.17) turns a TCP socket into one whose connect() Landlock doesn't "
    "know; ENOENT is what a kernel says that hasn't got the layer, and TLS goes on without kTLS",
    (one_of(1, IPPROTO_TCP), one_of(2, TCP_ULP)),
)
_LISTEN = Row(
    "listen",
    EACCES,
    "without a bind() before it, it takes a port of its own that the whole network can reach",
)
_ONLY_LOCAL = Row(
    "socket",
    EACCES,
    "this call gave up its network; sockets named by paths are for the file rules to judge",
    (none_of(0, AF_UNIX),),
)

WITHOUT_NETWORK = (_ONLY_LOCAL,)
"""On top of any other filter: no socket but a local one."""

_UNKNOWN_NARROWING = "this call gave up writes that whoever acts on its behalf knows nothing of"
WITHOUT_LOCAL = (
    Row("socket", EACCES, _UNKNOWN_NARROWING, (_UNIX,)),
    Row("bind", EACCES, _UNKNOWN_NARROWING),
)
"""On top of a filter that has sockets bound on behalf: none gets a path, be it one of a pair."""


def rows(options: Options) -> tuple[Row, ...]:
    """Return the rows about sockets for a worker's network.

    Raises:
        ValueError: The mode is none that is known; nothing was decided.
    """
    if options.network not in (CLOSED, OPEN, PORTS):
        raise ValueError(f"unknown network mode {options.network!r}")
    if options.own_network:
        judged = (_CONNECT_ON_BEHALF,) if options.on_behalf else ()
        return (_LOCAL, _TCP, _UDP, _ADDRESSES, _NO_OTHER, *judged)
    allowed = {CLOSED: (), PORTS: (_TCP,), OPEN: (_TCP, _UDP, _ADDRESSES)}[options.network]
    local = _LOCAL if options.unix_sockets else _PAIRS
    refused = (_NO_OTHER, *_FAST_OPEN, _UPPER_LAYER)
    if options.on_behalf:
        return (*_judged(options), *allowed, *refused, *_acts(options))
    if _may_listen(options):
        return (local, *allowed, *refused)
    return (local, *allowed, *refused, _LISTEN)


def _judged(options: Options) -> tuple[Row, ...]:
    # In the machine's network UDP would have to be sent on behalf too, packet by packet.
    return (_JUDGED_CONNECTED,) if options.network == OPEN else (_JUDGED_LOCAL,)


def _acts(options: Options) -> tuple[Row, ...]:
    """Return what whoever holds the listener does; behind the rows that refuse."""
    if options.network == OPEN:
        return (_ON_BEHALF,)
    vouched = () if options.word == (0, 0) else (_vouched(*options.word),)
    listen = (_LISTEN_ON_BEHALF,) if options.network == PORTS else ()
    return (_ON_BEHALF, *vouched, *_SEND_ON_BEHALF, *listen)


def _vouched(first: int, second: int) -> Row:
    return Row(
        "sendmsg",
        ALLOW,
        "who knows the word is a lane, and sends descriptors to who started it",
        (one_of(3, first, mask=POINTER), one_of(4, second, mask=POINTER)),
    )


def _may_listen(options: Options) -> bool:
    # listen() doesn't say which family its socket is of. Where no IP socket can be made, it is
    # a local one.
    return (
        options.binds
        or options.network == OPEN
        or (options.network == CLOSED and options.unix_sockets)
    )
