from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nono_mcp.policy.lines import locate

TEXT = '''\
# mode = "not here"
"de scription" = """
mode = "nor here"
[filesystem]
""\\""""
title = 'it''s'  # a comment with ] and }

[ filesystem ]
allow = [
  "/a", # first
  """/b
c""",
  ["x", { y = 1, z = [2,
     3] }],
]
network.mode.deep = 'x'
[ "net.work" . 'q"' ]
a."b\\tc" = { d = "}", e = [ "]" ] }
at = 1979-05-27T07:32:00Z
[[many]]
name = 1
[[many]]
name = 2
[many.table]
key = true
[[many.inner]]
deep = 0x1F
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("de scription",), 2),
        (("title",), 6),
        (("filesystem",), 8),
        (("filesystem", "allow"), 9),
        (("filesystem", "allow", 0), 10),
        (("filesystem", "allow", 1), 11),
        (("filesystem", "allow", 2), 13),
        (("filesystem", "allow", 2, 0), 13),
        (("filesystem", "allow", 2, 1, "z", 1), 14),
        (("filesystem", "network", "mode"), 16),
        (("filesystem", "network", "mode", "deep"), 16),
        (("net.work", 'q"'), 17),
        (("net.work", 'q"', "a", "b\tc", "e", 0), 18),
        (("net.work", 'q"', "at"), 19),
        (("many", 0), 20),
        (("many", 1, "name"), 23),
        (("many", 1, "table", "key"), 25),
        (("many", 1, "inner", 0, "deep"), 27),
    ],
)
def test_the_line_of_a_key_or_element_is_found(path: tuple[str | int, ...], line: int) -> None:
    tomllib.loads(TEXT.replace("'it''s'", "'its'"))
    assert locate(TEXT.replace("'it''s'", "'its'"), path) == line


def test_what_isnt_there_is_where_its_nearest_relative_is() -> None:
    assert locate("[a]\nb = 1\n", ("a", "c")) == 1
    assert locate("[a]\nb = 1\n", ("a", "b", "c", 3)) == 2
    assert locate("[a]\nb = 1\n", ("c",)) is None
    assert locate("", ("c",)) is None
    assert locate("a = 1", ()) is None


scalars = st.integers() | st.booleans() | st.text(st.characters(exclude_categories=["Cs", "Cc"]))
keys = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Zs"]), max_size=5)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)
)


def written(value: object) -> str:
    """Write *value* inline, each element and pair on one line or several."""
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{quoted(key)} = {written(one)}" for key, one in value.items()) + "}"
        )
    if isinstance(value, list):
        return "[\n # , ] \"'\n" + "".join(f"{written(one)},\n" for one in value) + "]"
    return quoted(value) if isinstance(value, str) else str(value).lower()


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def every_path(value: object, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    pairs: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        pairs = list(value.items())
    if isinstance(value, list):
        pairs = list(enumerate(value))
    return [path for key, one in pairs for path in [(*at, key), *every_path(one, (*at, key))]]


@given(st.dictionaries(keys, values, max_size=4))
def test_whatever_tomllib_reads_is_found_in_order(data: dict[str, object]) -> None:
    text = "".join(f"\n{quoted(key)} = {written(value)}\n" for key, value in data.items())
    assert tomllib.loads(text) == data
    lines = [locate(text, path) for path in every_path(data)]
    assert None not in lines
    assert lines == sorted(lines, key=lambda line: line or 0)
    first = [locate(text, (key,)) for key in data]
    starts = [number for number, line in enumerate(text.split("\n"), 1) if " = " in line]
    assert set(first) <= set(starts)


@given(st.text())
def test_nothing_that_tomllib_accepts_breaks_the_reader(text: str) -> None:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert all(locate(text, path) is not None for path in every_path(data))
