"""Compressed bodies: what comes out is what went in, a step at a time, or an error."""

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nono_proxy.decoding import STEP_BYTES, Decoder, decoded, decoder
from nono_proxy.errors import GrammarError, Refusal

CODINGS: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": gzip.compress,
    b"X-GZip": gzip.compress,
    b"deflate": zlib.compress,
}


def made(coding: bytes) -> Decoder:
    found = decoder([(b"content-encoding", b"Content-Encoding: " + coding)])
    assert found is not None
    return found


def run(state: Decoder, data: bytes, pace: int) -> bytes:
    out: list[bytes] = []
    for at in range(0, len(data), pace):
        state.feed(data[at : at + pace])
        while state.pending:
            out.append(state.step())
            assert len(out[-1]) <= STEP_BYTES
    state.finish()
    return b"".join(out)


@given(
    st.sampled_from(sorted(CODINGS)),
    st.binary(max_size=300) | st.builds(lambda n: b"a" * n, st.integers(0, 300_000)),
    st.integers(1, 5000),
)
def test_what_was_compressed_comes_out(coding: bytes, data: bytes, pace: int) -> None:
    # Octet by octet is for what is short.
    compressed = CODINGS[coding](data)
    assert run(made(coding), compressed, pace) == data


@given(st.lists(st.binary(max_size=50), min_size=2, max_size=4), st.integers(1, 40))
def test_members_follow_each_other(members: list[bytes], pace: int) -> None:
    assert run(made(b"gzip"), b"".join(map(gzip.compress, members)), pace) == b"".join(members)


@given(st.sampled_from(sorted(CODINGS)), st.binary(min_size=1, max_size=300), st.integers(1, 40))
def test_any_octets_are_a_body_or_an_error(coding: bytes, data: bytes, pace: int) -> None:
    try:
        run(made(coding), data, pace)
    except GrammarError:
        return
    # Whoever finds one has compressed it.
    assert data[:2] == b"\x1f\x8b" or data[0] & 0x0F == 8


@pytest.mark.parametrize("size", [STEP_BYTES - 1, STEP_BYTES, STEP_BYTES + 1, 3 * STEP_BYTES])
def test_what_fills_a_step_exactly_is_whole(size: int) -> None:
    data = bytes(size)
    for pace in (1, 7, 1 << 20):
        assert run(made(b"gzip"), gzip.compress(data), pace) == data


def test_nothing_is_a_body_of_nothing() -> None:
    made(b"gzip").finish()


@pytest.mark.parametrize("lines", [[b""], [b"identity"], [b"identity", b""], []])
def test_what_isnt_compressed_is_let_be(lines: list[bytes]) -> None:
    assert decoder([(b"content-encoding", b"Content-Encoding:" + line) for line in lines]) is None


@pytest.mark.parametrize("lines", [[b"br"], [b"zstd"], [b"gzip", b"gzip"], [b"gzip, br"], [b"x"]])
def test_what_cant_be_bounded_is_refused(lines: list[bytes]) -> None:
    with pytest.raises(Refusal):
        decoder([(b"content-encoding", b"Content-Encoding: " + line) for line in lines])


def test_what_told_of_the_compressed_octets_is_left_out() -> None:
    names = (b"content-encoding", b"content-md5", b"repr-digest", b"content-type", b"etag")
    kept = decoded([(name, name + b": x") for name in names])
    assert [name for name, _ in kept] == [b"content-type", b"etag"]
