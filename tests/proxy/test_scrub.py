import html
import json
from base64 import b64encode, urlsafe_b64encode
from itertools import pairwise
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nono_proxy.scrub import Scrubber
from nono_proxy.spellings import Spellings

SECRET = b'sk-re"al/cred+ential=0123'
SPELLINGS = Spellings((SECRET,))


@pytest.mark.parametrize(
    "echo",
    [
        SECRET,
        json.dumps(SECRET.decode()).encode(),
        quote(SECRET, safe="").encode(),
        quote(SECRET, safe="/").encode(),
        quote(SECRET, safe="")
        .encode()
        .replace(b"%2F", b"%2f")
        .replace(b"%2B", b"%2b")
        .replace(b"%3D", b"%3d"),
        html.escape(SECRET.decode()).encode(),
        json.dumps(SECRET.decode()).replace("=", r"\u003d").encode(),
        json.dumps(SECRET.decode()).replace("+", r"\u002B").encode(),
        html.escape(SECRET.decode()).replace("&quot;", "&#34;").encode(),
        html.escape(SECRET.decode()).replace("+", "&#x2B;").encode(),
        SECRET.hex().encode(),
        SECRET.hex().upper().encode(),
        b64encode(SECRET),
        b64encode(b"x-access-token:" + SECRET),
        b64encode(b"u:" + SECRET),
        b64encode(b":" + SECRET),
        urlsafe_b64encode(b"ab" + SECRET + b"cd"),
    ],
)
def test_every_spelling_is_taken_out(echo: bytes) -> None:
    scrubber = Scrubber(SPELLINGS)
    out = scrubber.feed(b"<" + echo + b">") + scrubber.finish()
    assert len(out) == len(echo) + 2
    assert scrubber.count == 1
    # No long piece of it is left.
    assert not any(echo[at : at + 6] in out for at in range(len(echo) - 22, len(echo) - 9))


@given(st.lists(st.binary(max_size=9) | st.just(SECRET), max_size=6), st.lists(st.integers(0, 99)))
def test_what_is_clear_can_go_by_and_nothing_comes_through(
    pieces: list[bytes], cuts: list[int]
) -> None:
    whole = b"".join(pieces)
    edges = [0, *sorted(cut % (len(whole) + 1) for cut in cuts), len(whole)]
    scrubber = Scrubber(SPELLINGS)
    out, waits = b"", b""
    for start, end in pairwise(edges):
        piece = waits + whole[start:end]
        clear = scrubber.clear(piece)
        out, waits = out + piece[:clear], piece[clear:]
        # What isn't clear is fed every other time, and waits for more in between.
        if not clear:
            out, waits = out + scrubber.feed(waits), b""
    out += scrubber.feed(waits) + scrubber.finish()
    assert out == whole.replace(SECRET, b"*" * len(SECRET))


@given(st.lists(st.binary(max_size=9) | st.just(SECRET), max_size=6), st.lists(st.integers(0, 99)))
def test_however_it_is_split_nothing_comes_through(pieces: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(pieces)
    edges = [0, *sorted(cut % (len(whole) + 1) for cut in cuts), len(whole)]
    scrubber = Scrubber(SPELLINGS)
    out = b"".join(scrubber.feed(whole[start:end]) for start, end in pairwise(edges))
    out += scrubber.finish()
    assert SECRET not in out
    assert out == whole.replace(SECRET, b"*" * len(SECRET))


@given(st.binary(max_size=60))
def test_what_has_nothing_of_it_passes_at_once(data: bytes) -> None:
    scrubber = Scrubber(SPELLINGS)
    if not any(data.endswith(form[:1]) or form[:1] in data[-60:] for form in SPELLINGS.forms):
        assert scrubber.feed(data) == data


def test_an_event_is_not_held_back() -> None:
    event = b'data: {"delta": "hello"}\n\n'
    assert Scrubber(SPELLINGS).feed(event) == event


@pytest.mark.parametrize("common", [b"", bytes(range(256)), b'data: {"hello": 1}\n\n', SECRET[:-1]])
def test_in_long_pieces_each_spelling_is_found_wherever_it_stands(common: bytes) -> None:
    size = 1 << 16
    long = (common * (size // max(len(common), 1)) + bytes(size))[:size]
    assert not SPELLINGS.stand_in(long)
    for form in SPELLINGS.forms:
        for at in (0, 1, size // 2, size - len(form)):
            assert SPELLINGS.stand_in(long[:at] + form + long[at + len(form) :])
