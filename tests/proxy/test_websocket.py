"""WebSocket frames on a route that lends a credential: whole, scrubbed, and never waited for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nono_proxy.errors import GrammarError
from nono_proxy.scrub import Scrubber
from nono_proxy.spellings import Spellings
from nono_proxy.websocket import Messages
from tests.proxy.world import CREDENTIAL

STARS = b"*" * len(CREDENTIAL)
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def messages() -> Messages:
    return Messages(Scrubber(Spellings((CREDENTIAL,))))


def frame(payload: bytes, opcode: int = TEXT, *, final: bool = True, bits: int = 0) -> bytes:
    size = len(payload)
    width = 0 if size < 126 else 2 if size < 65536 else 8
    length = bytes([{2: 126, 8: 127}.get(width, size)]) + (size.to_bytes(width) if width else b"")
    return bytes([(0x80 if final else 0) | bits | opcode]) + length + payload


def read(data: bytes) -> list[tuple[int, bytes]]:
    """Read frames as a client does: messages whole, control frames between them."""
    found: list[tuple[int, bytes]] = []
    gathered: tuple[int, bytes] | None = None
    while data:
        first, size = data[0], data[1]
        start = {126: 4, 127: 10}.get(size, 2)
        size = size if start == 2 else int.from_bytes(data[2:start], "big")
        payload, data = data[start : start + size], data[start + size :]
        opcode = first & 15
        if opcode >= 8:
            found.append((opcode, payload))
            continue
        assert (opcode == 0) == (gathered is not None)
        gathered = (opcode or (gathered or (0, b""))[0], (gathered or (0, b""))[1] + payload)
        if first & 0x80:
            found.append(gathered)
            gathered = None
    assert gathered is None
    return found


@given(
    st.lists(st.integers(1, 40), max_size=12),
    st.integers(1, 30),
    st.sampled_from([b"", CREDENTIAL]),
)
def test_however_a_message_is_cut_the_key_is_taken_out(
    cuts: list[int], pace: int, between: bytes
) -> None:
    text = b"before " + CREDENTIAL + b" after " + CREDENTIAL[:12]
    pieces: list[bytes] = []
    rest = text
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    pieces.append(rest)
    wire = b""
    for number, piece in enumerate(pieces):
        opcode = TEXT if number == 0 else 0
        wire += frame(piece, opcode, final=number == len(pieces) - 1)
        wire += frame(b"p" + between, PING) if between else b""
    state = messages()
    out = b"".join(state.feed(wire[at : at + pace]) for at in range(0, len(wire), pace))
    clean = [payload for opcode, payload in read(out) if opcode == TEXT]
    assert clean == [b"before " + STARS + b" after " + CREDENTIAL[:12]]
    assert all(payload == b"p" + STARS for opcode, payload in read(out) if opcode == PING)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 300_000])
def test_messages_of_every_size_pass(size: int) -> None:
    payload = b"." * size
    assert read(messages().feed(frame(payload, BINARY))) == [(BINARY, payload)]


@pytest.mark.parametrize("end", range(1, len(CREDENTIAL)))
def test_nobody_waits_for_the_end_of_a_message_that_looks_like_a_key(end: int) -> None:
    state = messages()
    for _ in range(2):
        assert read(state.feed(frame(CREDENTIAL[:end]))) == [(TEXT, CREDENTIAL[:end])]
    # What two messages say together is no echo of one.
    assert read(state.feed(frame(CREDENTIAL[end:]))) == [(TEXT, CREDENTIAL[end:])]


@pytest.mark.parametrize(
    "wire",
    [
        frame(b"a", bits=0x40),
        frame(b"a", bits=0x10),
        b"\x81\x81aaaaa",
        frame(b"a", 3),
        frame(b"a", 11),
        frame(b"a", 0),
        frame(b"a", final=False) + frame(b"b"),
        frame(b"a", PING, final=False),
        frame(b"a" * 126, PING),
        frame(b"a" * 126, CLOSE),
        b"\x82\x7f" + b"\xff" * 8,
    ],
    ids=[
        *("compressed", "reserved", "masked", "an unknown opcode", "an unknown control"),
        *("continues nothing", "begins in a message", "a cut ping", "a long ping"),
        *("a long close", "too long"),
    ],
)
def test_what_no_server_may_say_ends_it(wire: bytes) -> None:
    with pytest.raises(GrammarError):
        messages().feed(wire)


@given(st.binary(max_size=200), st.integers(1, 20))
def test_any_octets_are_frames_or_an_error(data: bytes, pace: int) -> None:
    state = messages()
    out = b""
    try:
        for at in range(0, len(data), pace):
            out += state.feed(data[at : at + pace])
    except GrammarError:
        return
    # At worst each octet comes alone, and goes on in a frame of its own.
    assert len(out) <= 3 * len(data)
