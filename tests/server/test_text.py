"""What a command prints becomes text that is harmless and bounded, and says what it leaves out."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nono_mcp.server.text import (
    HEAD_BYTES_MAX,
    TAIL_BYTES_MAX,
    amount,
    duration,
    excerpt,
    readable,
)

# Others use this machine too.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (b"plain\n\ttext\n", "plain\n\ttext\n"),
        ("é漢🙂".encode(), "é漢🙂"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"a\0b\x07c\x08d\x7f", "abcd"),
        (b"10%\r20%\r\n", "10%\n20%\n"),
        (b"\x1b[1;31mred\x1b[0m \x1b[2J\x1b[?25l\x1b[10;20Hx", "red x"),
        (b"\x1b]0;title\x07a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "alink"),
        (b"\x1bP+q544e\x1b\\a\x1b_x\x1b\\b\x1b^y\x1b\\c", "abc"),
        (b"\x1b(B\x1b=\x1bMa", "a"),
        (b"\x1b]0;never ended\nnext line", "\nnext line"),
        (b"\x1b[31", ""),
        (b"\xc2\x9b31mred", "red"),
        (b"\x1b", ""),
        (b"\x1b\x1b[31m\x1b]", ""),
    ],
)
def test_terminal_controls_leave_no_trace(output: bytes, text: str) -> None:
    assert readable(output) == text


@UNHURRIED
@given(st.binary(max_size=400))
def test_no_control_character_is_left(output: bytes) -> None:
    text = readable(output)
    assert not {c for c in text if ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0} - {"\n", "\t"}
    text.encode()


def test_a_long_escape_sequence_costs_no_time() -> None:
    readable(b"\x1b]" * 200_000 + b"\x1b[" + b"0" * 200_000)


@UNHURRIED
@given(st.lists(st.binary(max_size=3000), max_size=12), st.integers(0, 3))
def test_an_excerpt_is_short_and_counts_what_it_leaves_out(parts: list[bytes], gap: int) -> None:
    output = b"\n".join(parts).replace(b"\x1b", b"").replace(b"\r", b"")
    shown = excerpt(output, b"tail\n" if gap else b"", gap * 1000)
    assert len(shown.head) + len(shown.tail) <= HEAD_BYTES_MAX + TAIL_BYTES_MAX
    if shown.omitted_bytes == 0:
        assert shown == excerpt(output, b"", 0)
        assert shown.head == readable(output)


@pytest.mark.parametrize("character", ["x", "é", "漢", "🙂"])
def test_what_is_shown_and_what_is_left_out_make_the_whole(character: str) -> None:
    output = (character * 20_000).encode()
    shown = excerpt(output[:50_000], output[50_000:], 0)
    assert set(shown.head + shown.tail) == {character}
    kept = len((shown.head + shown.tail).encode())
    assert kept + shown.omitted_bytes == len(output)


def test_a_cut_stands_at_the_end_of_a_line() -> None:
    shown = excerpt(b"".join(b"%d\n" % n for n in range(100_000)), b"", 0)
    assert shown.head.startswith("0\n1\n")
    assert shown.head.endswith("\n")
    assert shown.tail.endswith("\n99999\n")
    first = int(shown.tail.split("\n")[0])
    last = int(shown.head.split("\n")[-2])
    assert sum(len(f"{n}\n") for n in range(last + 1, first)) == shown.omitted_bytes


def test_sizes_and_times_are_said_as_people_say_them() -> None:
    assert [amount(n) for n in (0, 9999, 10_000, 10**7, 10**10, 10**14)] == [
        "0 bytes", "9999 bytes", "10 KB", "10 MB", "10 GB", "100 TB",
    ]  # fmt: skip
    assert [duration(s) for s in (0.0012, 0.9994, 1.25, 61.2)] == [
        "1 ms",
        "999 ms",
        "1.2 s",
        "61 s",
    ]
