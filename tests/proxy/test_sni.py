"""Invariant: a name is found only where OpenSSL would have sent that name."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nono_proxy import sni
from nono_proxy.sni import Hello, NotTLS


def hello(host: str | None) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=host)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


REAL = hello("api.example.com")


def records(message: bytes, size: int) -> bytes:
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(p).to_bytes(2, "big") + p for p in pieces)


@pytest.mark.parametrize("host", ["api.example.com", "xn--bcher-kva.example", "a.b"])
def test_the_name_that_a_client_sends_is_found(host: str) -> None:
    assert sni.read(hello(host)) == Hello(host)


def test_a_client_that_sends_none_asks_for_none() -> None:
    assert sni.read(hello(None)) == Hello(None)
    assert sni.read(hello("127.0.0.1")) == Hello(None)


@pytest.mark.parametrize("size", [1, 3, 4, 5, 50, 16384])
def test_a_hello_may_be_split_over_records(size: int) -> None:
    assert sni.read(records(REAL[5:], size)) == Hello("api.example.com")


def test_less_than_a_hello_wants_more() -> None:
    split = records(REAL[5:], 40)
    for data in (REAL, split):
        found = {sni.read(data[:end]) for end in range(len(data))}
        assert found == {NotTLS.MORE}


def changed(old: bytes, new: bytes) -> bytes:
    assert len(old) == len(new)
    assert old in REAL
    return REAL.replace(old, new)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\n", NotTLS.OTHER),
        (b"SSH-2.0-x", NotTLS.OTHER),
        (b"\x80\x2e\x01\x03\x01", NotTLS.OTHER),
        (b"\x15\x03\x01\x00\x02\x02\x28", NotTLS.OTHER),
        (b"\x16\x03\x01\x00\x00", NotTLS.BROKEN),
        (b"\x16\x03\x01\xff\xff\x01", NotTLS.BROKEN),
        (b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", NotTLS.BROKEN),
        (b"\x16\x03\x01\x00\x04\x01\xff\xff\xff", NotTLS.BROKEN),
        (changed(b"api.example.com", b"api.example\0com"), NotTLS.BROKEN),
        (changed(b"api.example.com", b"api.example.co."), NotTLS.BROKEN),
        (changed(b"api.example.com", b"api example.com"), NotTLS.BROKEN),
        (changed(b"api.example.com", b"\xffpi.example.com"), NotTLS.BROKEN),
        (changed(b"\x00\x00\x0fapi", b"\x01\x00\x0fapi"), NotTLS.BROKEN),
    ],
)
def test_what_is_no_plain_hello_is_refused(data: bytes, why: NotTLS) -> None:
    assert sni.read(data) is why


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda tail: REAL[:90] + tail))
def test_fuzzed_hellos_never_raise(data: bytes) -> None:
    sni.read(data)


@given(st.integers(0, len(REAL) - 1), st.integers(0, 255))
def test_one_changed_octet_gives_that_name_or_none(at: int, octet: int) -> None:
    data = REAL[:at] + bytes([octet]) + REAL[at + 1 :]
    found = sni.read(data)
    if isinstance(found, Hello) and found.host is not None:
        assert found.host.encode() in data.lower()
