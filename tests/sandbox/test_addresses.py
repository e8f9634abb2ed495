"""Addresses that a worker wrote: what is judged, and what is made of them."""

from __future__ import annotations

import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nono_sandbox.behalf import addresses
from nono_sandbox.behalf.addresses import Kind
from nono_sandbox.confinement import CLOSED, OPEN, PORTS, Network

TCP, TCP6 = Kind(2, 1, 6), Kind(10, 1, 6)
ON_PORTS = Network(PORTS, connect_ports=(5432,), bind_ports=(8000,))


def inet(address: str, port: int, *, more: bytes = b"") -> bytes:
    return struct.pack("=H", 2) + struct.pack("!H4s8x", port, socket.inet_aton(address)) + more


def inet6(address: str, port: int, scope: int = 0, flow: int = 0) -> bytes:
    packed = socket.inet_pton(socket.AF_INET6, address)
    return struct.pack("=H", 10) + struct.pack("!HI16s", port, flow, packed) + scope.to_bytes(4)


@pytest.mark.parametrize(
    ("raw", "made"),
    [
        (inet("127.0.0.1", 5432), inet("127.0.0.1", 5432)),
        (inet("127.255.255.254", 5432), inet("127.255.255.254", 5432)),
        (inet("0.0.0.0", 5432), inet("127.0.0.1", 5432)),  # noqa: S104  # asked for
        (inet("127.0.0.1", 5432, more=b"and more"), inet("127.0.0.1", 5432)),
        (inet6("::1", 5432, scope=7, flow=9), inet6("::1", 5432)),
        (inet6("::ffff:127.0.0.1", 5432), inet6("::ffff:127.0.0.1", 5432)),
        (inet6("::ffff:0.0.0.0", 5432), inet6("::ffff:127.0.0.1", 5432)),
        (inet6("::", 5432), inet6("::", 5432)),
        (struct.pack("=H14x", 0), struct.pack("=H14x", 0)),
    ],
)
def test_loopback_on_a_named_port_is_connected_to(raw: bytes, made: bytes) -> None:
    kind = TCP6 if raw[0] == socket.AF_INET6 else TCP
    assert addresses.connecting(raw, kind, ON_PORTS) == made


@pytest.mark.claim("net.ports")
@pytest.mark.parametrize(
    ("raw", "refusal"),
    [
        (inet("127.0.0.1", 5433), errno.EACCES),
        (inet("127.0.0.1", 0), errno.EACCES),
        (inet("128.0.0.1", 5432), errno.EACCES),
        (inet("10.0.0.1", 5432), errno.EACCES),
        (inet("0.0.0.1", 5432), errno.EACCES),
        (inet("169.254.169.254", 5432), errno.EACCES),
        (inet("255.255.255.255", 5432), errno.EACCES),
        (inet6("::ffff:10.0.0.1", 5432), errno.EACCES),
        (inet6("::127.0.0.1", 5432), errno.EACCES),
        (inet6("64:ff9b::7f00:1", 5432), errno.EACCES),
        (inet6("fe80::1", 5432), errno.EACCES),
        (inet6("::2", 5432), errno.EACCES),
        (inet("127.0.0.1", 5432)[:15], errno.EINVAL),
        (inet6("::1", 5432)[:23], errno.EINVAL),
        (b"", errno.EINVAL),
        (b"\x02", errno.EINVAL),
        (struct.pack("=H14x", 1), errno.EAFNOSUPPORT),
        (struct.pack("=H14x", 16), errno.EAFNOSUPPORT),
    ],
)
def test_nothing_else_is(raw: bytes, refusal: int) -> None:
    with pytest.raises(OSError) as refused:  # noqa: PT011  # its errno is looked at
        addresses.connecting(raw, TCP, ON_PORTS)
    assert refused.value.errno == refusal


@pytest.mark.parametrize("kind", [Kind(2, 2, 17), Kind(2, 1, 262), Kind(2, 1, 132), Kind(16, 3, 0)])
def test_on_ports_nothing_but_tcp_is_connected_or_bound(kind: Kind) -> None:
    with pytest.raises(PermissionError):
        addresses.connecting(inet("127.0.0.1", 5432), kind, ON_PORTS)
    with pytest.raises(PermissionError):
        addresses.binding(inet("127.0.0.1", 8000), kind, ON_PORTS, both=False)


def test_a_closed_network_has_no_address_and_an_open_one_every() -> None:
    closed = Network(CLOSED, connect_ports=(5432,), bind_ports=(5432,))
    for make in (addresses.connecting, lambda *args: addresses.binding(*args, both=True)):
        with pytest.raises(PermissionError):
            make(inet("127.0.0.1", 5432), TCP, closed)
        assert make(inet("192.0.2.1", 1), TCP, Network(OPEN)) == inet("192.0.2.1", 1)


@pytest.mark.parametrize(
    ("raw", "both", "made"),
    [
        (inet("127.0.0.1", 8000), False, inet("127.0.0.1", 8000)),
        (inet("0.0.0.0", 8000), False, inet("127.0.0.1", 8000)),  # noqa: S104  # asked for
        (inet6("::", 8000), True, inet6("::ffff:127.0.0.1", 8000)),
        (inet6("::", 8000), False, inet6("::1", 8000)),
        (inet6("::1", 8000), True, inet6("::1", 8000)),
        (inet6("::ffff:0.0.0.0", 8000), True, inet6("::ffff:127.0.0.1", 8000)),
    ],
)
def test_what_is_served_is_served_on_loopback(raw: bytes, made: bytes, *, both: bool) -> None:
    kind = TCP6 if raw[0] == socket.AF_INET6 else TCP
    assert addresses.binding(raw, kind, ON_PORTS, both=both) == made


@pytest.mark.claim("net.ports")
@pytest.mark.parametrize(
    "raw",
    [
        inet("127.0.0.1", 0),
        inet("127.0.0.1", 8001),
        inet("192.0.2.1", 8000),
        inet6("fe80::1", 8000),
    ],
)
def test_no_other_port_or_address_is_served(raw: bytes) -> None:
    with pytest.raises(PermissionError):
        addresses.binding(raw, TCP, ON_PORTS, both=True)


@given(st.binary(max_size=40) | st.builds(inet, st.just("127.0.0.1"), st.integers(0, 65535)))
def test_whatever_is_written_only_loopback_on_the_named_port_comes_out(raw: bytes) -> None:
    try:
        made = addresses.connecting(raw, TCP, ON_PORTS)
    except OSError:
        return
    family = struct.unpack_from("=H", made)[0]
    assert family in (0, socket.AF_INET, socket.AF_INET6)
    if family:
        assert struct.unpack_from("!H", made, 2)[0] == 5432


@pytest.mark.parametrize(
    ("raw", "refusal"),
    [
        (b"\x01", errno.EINVAL),
        (b"\x01\x00", errno.EINVAL),
        (b"\x01\x00\x00abstract", errno.EACCES),
        (b"\x02\x00/path", errno.EINVAL),
        (b"\x01\x00" + b"a" * 109, errno.EINVAL),
    ],
)
def test_what_is_no_path_is_refused(raw: bytes, refusal: int) -> None:
    with pytest.raises(OSError) as refused:  # noqa: PT011  # its errno is looked at
        addresses.path_of(raw)
    assert refused.value.errno == refusal


def test_a_path_ends_at_its_zero_or_with_the_address() -> None:
    assert addresses.path_of(b"\x01\x00/a/b\x00rest") == b"/a/b"
    assert addresses.path_of(b"\x01\x00" + b"a" * 108) == b"a" * 108


@pytest.mark.claim("net.unix-names")
def test_a_name_stands_for_no_other_however_long_it_is() -> None:
    """What is cut off makes none another, and what begins as ours do stands for itself."""
    beginning = b"\0nono-0123456789abcdef/"
    written = [
        b"\1\0\0" + name for name in (b"n", b"n\0", b"n" * 106, b"n" * 107, b"n" * 106 + b"\0")
    ]
    made = [addresses.named(raw, beginning) for raw in written]
    assert len(set(made)) == len(written)
    for raw in made:
        assert raw.startswith(b"\1\0" + beginning)
        assert len(raw) <= 110
        assert addresses.named(raw, beginning) == raw


def test_what_leads_out_is_told_from_what_stays_here() -> None:
    for raw in (
        inet("192.0.2.1", 80),
        inet("127.0.0.53", 53),
        inet6("2001:db8::1", 80),
        inet6("::ffff:192.0.2.1", 80),
    ):
        assert addresses.leads_out(raw)
    for raw in (
        inet("127.9.9.9", 80),
        inet("0.0.0.0", 80),  # noqa: S104 - connecting to it
        inet6("::1", 80),
        inet6("::ffff:127.0.0.1", 80),
        struct.pack("=H", 1) + b"/run/x",
        b"",
        inet("192.0.2.1", 80)[:5],
    ):
        assert not addresses.leads_out(raw)
