"""Tokens in bodies: what is replaced is the value that was pointed at, and nothing else."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nono_proxy.bodies import find, swap
from nono_proxy.config import InBody
from nono_proxy.errors import Refusal

# As short as a token can be: cut, it's none.
PHANTOM = "nono0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg"
PLACES = [InBody("/a/b"), InBody("/c")]
JSON = [(b"content-type", b"Content-Type: application/json; charset=utf-8")]
FORM = [(b"content-type", b"Content-Type: application/x-www-form-urlencoded")]

words = st.sampled_from(["a", "b", "c", "d", PHANTOM, "x" + PHANTOM, PHANTOM[:-1], '\u00fc\\"/'])
documents = st.recursive(
    words | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
credentials = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=20
).map(str.encode)


def put(document: Any, place: InBody, value: str) -> Any:  # noqa: ANN401 - JSON
    """Return *document* with *value* where *place* says."""
    steps = place.pointer[1:].split("/")
    found = document
    for step in steps[:-1]:
        found = found[step]
    found[steps[-1]] = value
    return document


@given(documents, credentials, st.sampled_from([None, 1]), st.booleans())
def test_only_the_value_that_is_pointed_at_changes(
    document: Any,  # noqa: ANN401 - JSON
    credential: bytes,
    indent: int | None,
    ascii_only: bool,  # noqa: FBT001 - drawn
) -> None:
    body = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode()
    try:
        found = find(PLACES, JSON, body)
    except Refusal:
        assert PHANTOM.encode() in body
        return
    if found is None:
        assert PHANTOM.encode() not in body
        return
    assert isinstance(found.placement, InBody)
    after = json.loads(swap(body, found, credential))
    assert after == put(document, found.placement, credential.decode())
    assert body.count(PHANTOM.encode()) == 1


@given(st.lists(st.tuples(words, words), max_size=4), credentials)
def test_of_a_form_only_that_field_changes(
    fields: list[tuple[str, str]], credential: bytes
) -> None:
    body = "&".join(f"{name}={value}" for name, value in fields).encode()
    try:
        found = find(PLACES, FORM, body)
    except Refusal:
        assert PHANTOM.encode() in body
        return
    if found is None:
        assert PHANTOM.encode() not in body
        return
    assert [name for name, value in fields if value == found.token.decode()] == ["c"]
    after = swap(body, found, credential).decode().split("&")
    others = [text for text in after if not text.startswith("c=")]
    assert others == [f"{name}={value}" for name, value in fields if name != "c"]


@given(st.binary(max_size=200), st.sampled_from([JSON, FORM, []]))
def test_any_octets_hold_a_token_or_none_or_are_refused(data: bytes, kind: Any) -> None:  # noqa: ANN401
    for body in (data, data[:50] + PHANTOM.encode() + data[50:]):
        try:
            found = find(PLACES, kind, body)
        except Refusal:
            continue
        assert found is None or found.token in body
