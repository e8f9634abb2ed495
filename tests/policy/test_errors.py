from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nono_mcp.policy.errors import PolicyError, RefusedError, quoted

names = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/usr/bin", "/usr/bin"),
        ("", "''"),
        ("-rf", "'-rf'"),
        ("/a b", "'/a b'"),
        ("/it's", "'/it'\\''s'"),
        ("/é", "'/é'"),
        ("/a\nb", "$'/a\\x0ab'"),
        ("/a\\\n'", "$'/a\\\\\\x0a\\''"),
        ("/\udcff", "$'/\\xff'"),
        ("/\ud800", "$'/\\xed\\xa0\\x80'"),
        ("/\x1b[31m", "$'/\\x1b[31m'"),
        ("/a\u2028b", "$'/a\\xe2\\x80\\xa8b'"),
        ("/$(id)", "'/$(id)'"),
    ],
)
def test_a_path_is_shown_as_one_types_it(path: str, shown: str) -> None:
    assert quoted(path) == shown


@given(names)
def test_whatever_a_name_holds_is_one_printable_line(name: bytes) -> None:
    assert quoted(name.decode(errors="surrogateescape")).isprintable()


def test_a_shell_reads_back_what_is_shown() -> None:
    hostile = [b"/a b'c\"$(id)`\\", b"/line\nbreak", b"/\xff\xfe", "/\u00e9\u2028".encode(), b"-x"]
    shown = " ".join(quoted(name.decode(errors="surrogateescape")) for name in hostile)
    finished = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {shown}"], capture_output=True, check=True, timeout=120
    )
    assert finished.stdout.split(b"\0")[:-1] == hostile


def test_an_error_says_where_it_is_and_what_to_do() -> None:
    error = PolicyError("unknown key", file="/a b/x.toml", line=3, hint="did you mean allow?")
    assert str(error) == "'/a b/x.toml':3: unknown key (did you mean allow?)"
    assert str(PolicyError("no", file="x.toml")) == "x.toml: no"
    assert str(PolicyError("no", line=3)) == "no"


def test_a_refusal_says_what_to_do_instead() -> None:
    assert str(RefusedError("no", code="fs.x", remedy="say yes")) == "no (say yes)"
    assert str(RefusedError("no", code="fs.x")) == "no"
