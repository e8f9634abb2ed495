"""Whatever bytes arrive, each line is a message or has an answer, and memory is bounded."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp_types import JSONRPCError, JSONRPCNotification, JSONRPCRequest

from nono_mcp.server.messages import MESSAGE_BYTES_MAX, Lines, Oversized, Refusal, encode, parse

REQUEST = b'{"jsonrpc":"2.0","id":7,"method":"ping"}'

# Others use this machine too.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@UNHURRIED
@given(st.lists(st.binary(max_size=40), max_size=8), st.data())
def test_lines_are_the_same_however_the_stream_is_cut(
    lines: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader = Lines()
    found: list[bytes | Oversized] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[start:end])
    expected = [line.strip(b" \t\r") for line in stream.split(b"\n")]
    assert found == [line for line in expected if line]


@UNHURRIED
@given(st.lists(st.binary(max_size=3000), max_size=12))
def test_a_line_over_the_limit_is_counted_and_not_kept(chunks: list[bytes]) -> None:
    reader = Lines(bytes_max=2000)
    for chunk in chunks:
        for line in reader.feed(chunk):
            if isinstance(line, Oversized):
                assert line.size_bytes > 2000
                assert len(line.head) <= 1024
                assert len(line.tail) <= 1024
            else:
                assert len(line) <= 2000


def test_after_a_line_over_the_limit_the_next_is_read() -> None:
    reader = Lines(bytes_max=100)
    (oversized, line) = reader.feed(b"a" * 300 + b"z\n" + REQUEST + b"\n")
    assert oversized == Oversized(b"a" * 300 + b"z", b"a" * 300 + b"z", 301)
    assert line == REQUEST


@pytest.mark.parametrize(
    ("line", "id_", "code", "text"),
    [
        (b"nonsense", None, -32700, "isn't JSON"),
        (b'{"jsonrpc":"2.0","id":7,"method":"ping"', 7, -32700, "isn't JSON"),
        (b'{"jsonrpc":"2.0","method":"ping","id":7,"params":{"a":"\xff"}}', 7, -32700, "UTF-8"),
        (b'{"jsonrpc":"2.0","id":"a b","params":{"a":"\\ud800"}}', "a b", -32700, "surrogate"),
        (b"[" * 100_000, None, -32700, "recursion"),
        (b"[" + REQUEST + b"]", None, -32600, "no batches"),
        (b"7", None, -32600, "a JSON object"),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', None, -32600, "whole number"),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', None, -32600, "whole number"),
        (b'{"jsonrpc":"1.0","id":7,"method":"ping"}', 7, -32600, "JSON-RPC 2.0"),
        (b'{"id":7,"method":"ping"}', 7, -32600, "JSON-RPC 2.0"),
        (b'{"jsonrpc":"2.0","id":7,"method":5}', 7, -32600, "JSON-RPC 2.0"),
        (b'{"jsonrpc":"2.0","id":7,"method":"x","params":[1]}', 7, -32600, "JSON-RPC 2.0"),
    ],
)
def test_what_is_no_message_has_an_answer(
    line: bytes, id_: int | str | None, code: int, text: str
) -> None:
    refusal = parse(line)
    assert isinstance(refusal, Refusal)
    assert refusal.answer.id == id_
    assert refusal.answer.error.code == code
    assert text in refusal.answer.error.message


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "id": 12, "method": "x", "params": {"id": 3, "text": ""}},
        {"method": "x", "params": {"id": 3, "text": ""}, "jsonrpc": "2.0", "id": 12},
        {"method": "x", "params": {"text": '","id":3}', "id": 3}, "jsonrpc": "2.0", "id": "a-b"},
    ],
)
def test_a_message_that_is_too_long_is_refused_under_its_own_id(message: dict[str, object]) -> None:
    params = message["params"]
    assert isinstance(params, dict)
    params["text"] += "x" * MESSAGE_BYTES_MAX
    (line,) = Lines().feed(json.dumps(message, separators=(",", ":")).encode() + b"\n")
    assert isinstance(line, Oversized)
    refusal = parse(line)
    assert isinstance(refusal, Refusal)
    assert refusal.answer.id == message["id"]
    assert str(MESSAGE_BYTES_MAX) in refusal.answer.error.message


def test_a_message_that_is_too_long_and_has_its_id_inside_is_refused_without() -> None:
    head = b'{"params":{"jsonrpc":"2.0","id":5,"a":"' + b"x" * 2000
    refusal = parse(Oversized(head[:1024], b'"}}', 20_000_000))
    assert isinstance(refusal, Refusal)
    assert refusal.answer.id is None


def test_messages_are_read() -> None:
    assert isinstance(parse(REQUEST), JSONRPCRequest)
    assert isinstance(parse(b'{"jsonrpc":"2.0","method":"x"}'), JSONRPCNotification)
    # An answer of the client's is for the server, not to be sent back.
    answer = parse(b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}')
    assert isinstance(answer, JSONRPCError)


@UNHURRIED
@given(st.binary(max_size=200) | st.text(max_size=60).map(str.encode))
def test_no_line_raises(line: bytes) -> None:
    parse(line)


def test_an_answer_is_one_line_of_utf_8_whatever_it_holds() -> None:
    message = parse(REQUEST)
    assert isinstance(message, JSONRPCRequest)
    for text in ("a\nb", "\ud800", "é\0"):
        line = encode(message.model_copy(update={"params": {"text": text}}))
        assert line.endswith(b"}\n")
        assert line.count(b"\n") == 1
        assert json.loads(line.decode())["params"]["text"] == text
