"""Invariant: whatever `grammar` accepts, h11 accepts too and reads in the same way."""

import contextlib
from itertools import pairwise

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nono_proxy import grammar
from nono_proxy.chunked import Chunked, frame, last
from nono_proxy.errors import GrammarError

PLAIN = b"GET /x HTTP/1.1\r\nHost: a.example\r\n"


def by_h11(head: bytes, *, client: bool = False, method: str = "GET") -> h11.Request | h11.Response:
    connection = h11.Connection(h11.CLIENT if client else h11.SERVER)
    if client:
        connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
        connection.send(h11.EndOfMessage())
    connection.receive_data(head)
    event = connection.next_event()
    assert isinstance(event, h11.Request | h11.Response | h11.InformationalResponse)
    return event  # type: ignore[return-value]


@pytest.mark.parametrize(
    "head",
    [
        PLAIN + b"\r\n",
        PLAIN + b"Content-Length: 5\r\nX:\r\nY: a b\tc\r\nZ: \xff\r\n\r\n",
        b"POST /x?y=z HTTP/1.1\r\nHost:a\r\nTransfer-Encoding: Chunked\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
        b"GET http://a/ HTTP/1.0\r\nHost: a\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)
def test_requests_that_are_read(head: bytes) -> None:
    ours = grammar.parse_request(head)
    theirs = by_h11(head)
    assert isinstance(theirs, h11.Request)
    assert (ours.method, ours.target) == (theirs.method, theirs.target)


# Each is one trick by which two readers come to read two requests.
SMUGGLED = {
    "two lengths": PLAIN + b"Content-Length: 5\r\nContent-Length: 6\r\n",
    "two equal lengths": PLAIN + b"Content-Length: 5\r\nContent-Length: 5\r\n",
    "a list of lengths": PLAIN + b"Content-Length: 5, 5\r\n",
    "a signed length": PLAIN + b"Content-Length: +5\r\n",
    "a negative length": PLAIN + b"Content-Length: -5\r\n",
    "a hexadecimal length": PLAIN + b"Content-Length: 0x5\r\n",
    "an empty length": PLAIN + b"Content-Length:\r\n",
    "a length with an underscore": PLAIN + b"Content-Length: 1_0\r\n",
    "a length beyond 64 bits": PLAIN + b"Content-Length: 18446744073709551617\r\n",
    "length and chunks": PLAIN + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "chunks and length": PLAIN + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "chunked twice": PLAIN + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "chunked in a list": PLAIN + b"Transfer-Encoding: gzip, chunked\r\n",
    "chunked, identity": PLAIN + b"Transfer-Encoding: chunked, identity\r\n",
    "a quoted coding": PLAIN + b'Transfer-Encoding: "chunked"\r\n',
    "xchunked": PLAIN + b"Transfer-Encoding: xchunked\r\n",
    "identity": PLAIN + b"Transfer-Encoding: identity\r\n",
    "an empty coding": PLAIN + b"Transfer-Encoding:\r\n",
    "a coding behind a vertical tab": PLAIN + b"Transfer-Encoding: \x0bchunked\r\n",
    "a coding of 1.0": b"GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n",
    "a space before the colon": PLAIN + b"Transfer-Encoding : chunked\r\n",
    "a tab before the colon": PLAIN + b"Content-Length\t: 5\r\n",
    "a folded line": PLAIN + b"X: a\r\n b\r\n",
    "a folded coding": PLAIN + b"Transfer-Encoding:\r\n chunked\r\n",
    "a first line that is folded": b"GET / HTTP/1.1\r\n Host: a\r\nHost: b\r\n",
    "a bare LF": b"GET / HTTP/1.1\nHost: a\r\n",
    "a bare LF in a value": PLAIN + b"X: a\nContent-Length: 5\r\n",
    "a bare CR in a value": PLAIN + b"X: a\rContent-Length: 5\r\n",
    "CR CR LF": PLAIN + b"X: a\r\r\n",
    "NUL in a value": PLAIN + b"X: a\0b\r\n",
    "NUL in a name": PLAIN + b"X\0: a\r\n",
    "a control character": PLAIN + b"X: a\x01b\r\n",
    "DEL": PLAIN + b"X: a\x7fb\r\n",
    "no name": PLAIN + b": a\r\n",
    "no colon": PLAIN + b"X\r\n",
    "a name that isn't ASCII": PLAIN + b"H\xc3\xb6st: a\r\n",
    "a bracketed name": PLAIN + b"(X): a\r\n",
    "no Host": b"GET / HTTP/1.1\r\nX: a\r\n",
    "two Hosts": PLAIN + b"Host: b\r\n",
    "two equal Hosts": PLAIN + b"host: a.example\r\n",
    "a lower-case method": b"get / HTTP/1.1\r\nHost: a\r\n",
    "a method with a colon": b"GE:T / HTTP/1.1\r\nHost: a\r\n",
    "a preface of HTTP/2": b"PRI * HTTP/2.0\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: a\r\n",
    "HTTP/0.9": b"GET /\r\n",
    "http/1.1": b"GET / http/1.1\r\nHost: a\r\n",
    "HTTP/1.10": b"GET / HTTP/1.10\r\nHost: a\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\nHost: a\r\n",
    "a tab for a space": b"GET\t/ HTTP/1.1\r\nHost: a\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\nHost: a\r\n",
    "a space behind the version": b"GET / HTTP/1.1 \r\nHost: a\r\n",
    "a target that isn't ASCII": b"GET /\xe4 HTTP/1.1\r\nHost: a\r\n",
    "an empty line first": b"\r\nGET / HTTP/1.1\r\nHost: a\r\n",
    "Connection names the length": PLAIN + b"Connection: Content-Length\r\nContent-Length: 5\r\n",
    "Connection names Host": PLAIN + b"Connection: close, host\r\n",
    "Connection names authorization": PLAIN + b"Connection: x,Authorization\r\n",
    "another expectation": PLAIN + b"Expect: 200-ok\r\n",
    "two expectations": PLAIN + b"Expect: 100-continue\r\nExpect: 100-continue\r\n",
    "two upgrades": PLAIN + b"Upgrade: a\r\nUpgrade: b\r\n",
    "two proxy passwords": PLAIN + b"Proxy-Authorization: a\r\nProxy-Authorization: b\r\n",
}


@pytest.mark.parametrize("head", SMUGGLED.values(), ids=SMUGGLED)
def test_a_head_that_could_be_read_in_two_ways_is_refused(head: bytes) -> None:
    with pytest.raises(GrammarError):
        grammar.parse_request(head + b"\r\n")


ANSWER = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "head",
    [
        ANSWER + b"Content-Length: 5\r\nContent-Length: 6\r\n",
        ANSWER + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        ANSWER + b"Transfer-Encoding: gzip, chunked\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n",
        b"HTTP/2 200\r\n",
        b"HTTP/1.1 20 OK\r\n",
        b"HTTP/1.1 600 OK\r\n",
        b"HTTP/1.1 0200 OK\r\n",
        b"HTTP/1.1200 OK\r\n",
        b"HTTP/1.1 200 O\0K\r\n",
        b"ICY 200 OK\r\n",
        ANSWER + b"X: a\r\n b\r\n",
        ANSWER + b"X: a\nb\r\n",
        ANSWER + b"X : a\r\n",
        b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n",
        b"HTTP/1.1 101 Up\r\nTransfer-Encoding: chunked\r\n",
        b"HTTP/1.1 100 C\r\nContent-Length: 5\r\n",
    ],
)
def test_a_response_that_could_be_read_in_two_ways_is_refused(head: bytes) -> None:
    with pytest.raises(GrammarError):
        grammar.parse_response(head + b"\r\n", bodiless=False)


@pytest.mark.parametrize(
    ("head", "bodiless", "length"),
    [
        (ANSWER + b"Content-Length: 5\r\n", False, 5),
        (ANSWER + b"Content-Length: 5\r\n", True, 0),
        (ANSWER, False, None),
        (b"HTTP/1.1 200\r\n", False, None),
        (b"HTTP/1.1 200 \r\n", False, None),
        (b"HTTP/1.1 304 Not\r\nContent-Length: 5\r\n", False, 0),
        (b"HTTP/1.1 204 No\r\n", False, 0),
        (ANSWER + b"Transfer-Encoding: chunked\r\n", False, None),
        (ANSWER + b"Transfer-Encoding: chunked\r\n", True, 0),
    ],
)
def test_a_response_is_as_long_as_its_head_says(
    head: bytes, length: int | None, *, bodiless: bool
) -> None:
    assert grammar.parse_response(head + b"\r\n", bodiless=bodiless).length == length


_LINES = st.sampled_from(
    [line + b"\r\n" for head in SMUGGLED.values() for line in head.split(b"\r\n") if line]
)
_PIECES = st.lists(
    _LINES
    | st.binary(max_size=4)
    | st.sampled_from([b"\r\n", b"\n", b" ", b"\t", b":", b",", b"chunked", b"Host: a\r\n", b"\0"]),
    max_size=8,
)


@given(st.sampled_from([PLAIN, b"POST / HTTP/1.1\r\n", b""]), _PIECES)
@settings(max_examples=400)
@example(PLAIN, [b"X: ", b"\x0c", b"\r\n"])
def test_fuzzed_requests(start: bytes, pieces: list[bytes]) -> None:
    head = start + b"".join(pieces) + b"\r\n"
    try:
        ours = grammar.parse_request(head)
    except GrammarError:
        return
    theirs = by_h11(head)
    assert isinstance(theirs, h11.Request)
    assert (ours.method, ours.target) == (theirs.method, theirs.target)
    named = dict(theirs.headers)
    assert ours.host == named[b"host"]
    assert ours.chunked == (b"transfer-encoding" in named)
    assert ours.length == int(named.get(b"content-length", b"0"))
    assert {name for name, _ in ours.fields} <= set(named)


@given(st.sampled_from([ANSWER, b"HTTP/1.0 404 No\r\n"]), _PIECES)
@settings(max_examples=300)
def test_fuzzed_responses(start: bytes, pieces: list[bytes]) -> None:
    head = start + b"".join(pieces) + b"\r\n"
    try:
        ours = grammar.parse_response(head, bodiless=False)
    except GrammarError:
        return
    theirs = by_h11(head, client=True)
    assert isinstance(theirs, h11.Response)
    assert ours.status == theirs.status_code


def read_by_h11(body: bytes) -> bytes | None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    connection.next_event()
    connection.receive_data(body)
    found = b""
    with contextlib.suppress(h11.RemoteProtocolError):
        while isinstance(event := connection.next_event(), h11.Data):
            found += event.data
        if isinstance(event, h11.EndOfMessage):
            return found
    return None


def count(body: bytes, cuts: list[int]) -> tuple[bytes, Chunked]:
    chunked = Chunked()
    found = b""
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    for start, end in pairwise(edges):
        if chunked.done:
            break
        data, _ = chunked.feed(body[start:end])
        found += data
    return found, chunked


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.lists(st.integers(0, 400)))
def test_chunks_are_counted_however_they_arrive(pieces: list[bytes], cuts: list[int]) -> None:
    body = b"".join(map(frame, pieces)) + last([(b"x", b"X: y")])
    found, chunked = count(body, cuts)
    assert found == b"".join(pieces)
    assert chunked.done
    assert chunked.trailers == [(b"x", b"X: y")]


@given(
    st.lists(
        st.sampled_from(
            [b"5\r\n", b"0\r\n", b"\r\n", b"hello", b"\n", b";x", b" ", b"a", b"+1", b"X: y\r\n"]
        )
        | st.binary(max_size=3),
        max_size=9,
    ),
    st.lists(st.integers(0, 60), max_size=3),
)
@settings(max_examples=400)
def test_fuzzed_chunks(pieces: list[bytes], cuts: list[int]) -> None:
    body = b"".join(pieces)
    try:
        found, chunked = count(body, cuts)
    except GrammarError:
        return
    if chunked.done:
        assert found == read_by_h11(body)


@pytest.mark.parametrize(
    "body",
    [
        b"5;name=value\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\n0\n\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"-5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"5\rXhello",
        b"ffffffffffffffff\r\n",
        b"0000000000000000005\r\nhello\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"0\r\nHost: b\r\n\r\n",
        b"0\r\nAuthorization: b\r\n\r\n",
        b"0\r\nX : b\r\n\r\n",
        b"0\r\nX: a\r\n b\r\n\r\n",
        b"0\r\n" + b"X: a\r\n" * 2000 + b"\r\n",
        b"\r\n",
        b"g\r\n",
    ],
)
def test_chunk_tricks_are_refused(body: bytes) -> None:
    with pytest.raises(GrammarError):
        count(body, [])
    with pytest.raises(GrammarError):
        count(body, list(range(len(body))))


def test_what_follows_a_body_is_given_back() -> None:
    chunked = Chunked()
    assert chunked.feed(b"1\r\na\r\n0\r\n\r\nGET") == (b"a", b"GET")


@pytest.mark.parametrize("size", [1 << 16])
def test_a_long_head_is_read_in_linear_time(size: int) -> None:
    for filler in (b"a", b"a ", b" ", b"\t", b"a:"):
        head = PLAIN + b"X: " + filler * (size // len(filler)) + b"\x01\r\n\r\n"
        with pytest.raises(GrammarError):
            grammar.parse_request(head)
