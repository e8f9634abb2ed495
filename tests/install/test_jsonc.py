"""JSON with comments, edited in its text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nono_mcp.install import jsonc
from nono_mcp.install.errors import InstallError

PATH = ("servers", "nono")
VALUE = {"command": "nono", "args": ["serve"]}
COMMENTED = """\
// what we use
{
    "editor": "vi", // of course
    /* servers */ "servers": {
        "other": {"command": "x", "args": []}, // theirs
    },
}
"""


def test_a_member_is_put_in_and_nothing_else_is_touched() -> None:
    changed = jsonc.with_member(COMMENTED, PATH, VALUE)
    assert changed == COMMENTED.replace(
        "// theirs\n",
        """// theirs
        "nono": {
            "command": "nono",
            "args": [
                "serve"
            ]
        },
""",
    )
    assert jsonc.without_member(changed, PATH) == COMMENTED


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "{}\n",
        '{"servers": {}}',
        '{"a": 1}',
        '{\n  "servers": {\n    "a": 1\n  },\n  "b": [1, 2]\n}\n',
        '{\n\t"servers": {\n\t\t"a": 1 // last\n\t}\n}',
        '{"servers": {"a": {"b": "}"}, "c": "//"}}',
        '{"servers": {\n // nothing here\n}}',
    ],
)
def test_what_was_put_in_comes_out_again(text: str) -> None:
    changed = jsonc.with_member(text, PATH, VALUE)
    before, after = jsonc.loads(text), jsonc.loads(changed)
    assert isinstance(before, dict)
    assert after == before | {"servers": before.get("servers", {}) | {"nono": VALUE}}
    back = jsonc.loads(jsonc.without_member(changed, PATH))
    assert back == before | {"servers": before.get("servers", {})}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), st.sampled_from([None, 1, 2, "\t"]))
def test_every_document_keeps_what_it_says(
    document: dict[str, object], indent: int | str | None
) -> None:
    document.pop("servers", None)
    text = json.dumps(document, indent=indent)
    changed = jsonc.with_member(text, PATH, VALUE)
    assert json.loads(changed) == document | {"servers": {"nono": VALUE}}
    replaced = jsonc.with_member(changed, PATH, 1)
    assert json.loads(replaced) == document | {"servers": {"nono": 1}}
    assert json.loads(jsonc.without_member(replaced, PATH)) == document | {"servers": {}}
    assert json.loads(jsonc.without_member(replaced, ["servers"])) == document


@given(st.text(alphabet='{}[]",:/*\n\\ab1 ', max_size=30))
def test_what_is_no_json_is_told(text: str) -> None:
    try:
        changed = jsonc.with_member(text, PATH, 1)
    except InstallError:
        return
    assert jsonc.loads(changed) != jsonc.loads(text)


@pytest.mark.parametrize(
    "text", ["[]", '{"servers": []}', '{"servers": 1}', '{"a": 1, "a": 2}', "{"]
)
def test_what_cant_be_edited_is_refused(text: str) -> None:
    with pytest.raises(InstallError):
        jsonc.with_member(text, PATH, VALUE)
