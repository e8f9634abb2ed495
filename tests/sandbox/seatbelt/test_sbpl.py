"""What is written reads back as itself, or isn't written."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nono_sandbox.confinement import READ, WRITE, Confinement, Denial, Grant, Link
from nono_sandbox.seatbelt import profile as generator
from nono_sandbox.seatbelt.profile import profile
from nono_sandbox.seatbelt.reader import MalformedError, read
from nono_sandbox.seatbelt.sbpl import Pattern, RefusedError, Text, write
from nono_sandbox.seatbelt.spelling import spellings

if TYPE_CHECKING:
    from nono_sandbox.seatbelt.rules import Rules

HOSTILE = (
    '/w/"))(allow default)("',
    "/w/\\",
    '/w/\\"',
    "/w/;(allow default)",
    "/w/a) (subpath ",
    '/w/#"^/"',
    "/w/(a|b)*[c]{2}^$.?+",
    "/w/ spaces  and\u00a0more",
    "/w/$HOME",
    "/w/(param FOO)",
    "/w/é",
    "/w/e\u0301",
    "/w/文件",
    "/w/\U0001f600",
)
UNSPEAKABLE = (
    "/w/a\nb",
    "/w/a\rb",
    "/w/a\tb",
    "/w/a\0b",
    "/w/\x1b[0m",
    "/w/\x7f",
    "/w/\x85",
    "/w/\u2028",
    "/w/\udcff",
    os.fsdecode(b"/w/\xff\xfe"),
    "/w/" + "x" * 1100,
    "relative",
    "",
    "/w/",
    "/w//x",
    "/w/../x",
    "/w/./x",
)


def confined(path: str) -> Confinement:
    return Confinement(
        "/", grants=(Grant(path, READ), Grant("/ws", READ | WRITE)), denials=(Denial(path),)
    )


@pytest.mark.parametrize("path", HOSTILE)
def test_a_hostile_name_stays_one_string(path: str) -> None:
    forms = [form for form in read(profile(confined(path))) if isinstance(form, tuple)]
    reads = next(form for form in forms if form[:2] == ("allow", "file-map-executable"))
    wanted = [("subpath", Text(spelling)) for spelling in (*spellings(path), *spellings("/ws"))]
    assert sorted(map(write, reads[5:])) == sorted(map(write, wanted))


@pytest.mark.parametrize("path", UNSPEAKABLE)
@pytest.mark.parametrize("place", ["grant", "denial", "link"])
def test_what_cant_be_spelled_is_refused(path: str, place: str) -> None:
    made = {
        "grant": Confinement("/", grants=(Grant(path, READ),)),
        "denial": Confinement("/", denials=(Denial(path),)),
        "link": Confinement("/", links=(Link(path, "x"),)),
    }[place]
    with pytest.raises(RefusedError):
        profile(made)


def test_the_refusal_names_the_path() -> None:
    with pytest.raises(RefusedError, match=r"we\\x1bird"):
        profile(confined("/w/we\x1bird"))


def test_a_quote_under_a_writable_directory_cant_be_denied() -> None:
    made = Confinement("/", (Grant("/ws", WRITE),), (Denial('/ws/a"b'),))
    with pytest.raises(RefusedError, match="quote"):
        profile(made)


NAME = st.binary(min_size=1, max_size=12).filter(lambda name: b"/" not in name)
PATH = st.lists(NAME, min_size=1, max_size=4).map(
    lambda names: os.fsdecode(b"/" + b"/".join(names))
)
SPELLED = st.text(st.characters(codec="utf-8", categories=["L", "M", "P", "S", "Zs"]), min_size=1)
SPEAKABLE = st.lists(SPELLED | st.text('()";#\\*[]ab', min_size=1), min_size=1, max_size=4).map(
    lambda names: "/" + "/".join(name.replace("/", "") + "x" for name in names)
)


SOME_PATHS = st.lists(PATH | SPEAKABLE | st.sampled_from(HOSTILE), min_size=1, max_size=5)


def gives_the_very_rules_or_a_refusal(paths: list[str], *, exact: bool) -> bool:
    """Tell whether there is a text: parsed back, it's the rules that went in and no form more."""
    grants = tuple(Grant(path, READ | WRITE, exact) for path in paths)
    made = Confinement("/", grants, tuple(Denial(path) for path in paths))
    try:
        text = profile(made)
    except RefusedError:
        return False
    wanted: Rules = [("version", "1"), ("deny", "default")]
    for group in generator.GROUPS:
        wanted += group.rules(made)
    assert list(read(text)) == wanted
    kind = "literal" if exact else "subpath"
    spelled = {(kind, Text(spelling)) for path in paths for spelling in spellings(path)}
    granted = next(form for form in wanted if form[:2] == ("allow", "file-map-executable"))
    assert set(granted[5:]) == spelled
    return True


def rules_of(path: str) -> list[Rules]:
    confinement = Confinement(
        "/", (Grant("/w", WRITE), Grant(path, READ | WRITE)), (Denial(f"/w{path}/x"),)
    )
    return [group.rules(confinement) for group in generator.GROUPS]


BY_PATHS = [
    group
    for group, one, other in zip(generator.GROUPS, rules_of("/a"), rules_of("/b"), strict=True)
    if one != other
]
"""The groups whose rules depend on what is granted and denied."""


@settings(max_examples=500)
@given(paths=SOME_PATHS, exact=st.booleans())
def test_arbitrary_bytes_give_the_very_rules_or_a_refusal(paths: list[str], *, exact: bool) -> None:
    gives_the_very_rules_or_a_refusal(paths, exact=exact)


CASES = 10_000
LETTERS = "abkKs\u017fﬁßé\u0391文.\\()[]#;$^*|?+' "
RARE = '\n\x7f\udcff"/'


@pytest.mark.slow
def test_ten_thousand_random_confinements_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what hypothesis looks for, and as cheap as they come: only what differs is written."""
    monkeypatch.setattr(generator, "GROUPS", BY_PATHS)
    pick = random.Random(7)  # noqa: S311 - no secret
    texts = 0
    for _ in range(CASES):
        letters = LETTERS + (RARE if pick.random() < 0.1 else "")
        names = ["".join(pick.choices(letters, k=pick.randrange(1, 9))) for _ in range(2)]
        texts += gives_the_very_rules_or_a_refusal(["/" + "/".join(names)], exact=False)
    assert texts > CASES / 2


@given(
    st.recursive(
        st.text("abc-*_09", min_size=1)
        | st.builds(Text, st.text(min_size=1))
        | st.builds(Pattern, st.text(min_size=1)),
        lambda inner: st.lists(inner, min_size=1, max_size=4).map(tuple),
        max_leaves=12,
    )
)
def test_any_form_reads_back_as_itself(form: object) -> None:
    try:
        text = write(form)
    except RefusedError:
        return
    try:
        assert read(text) == (form,)
    except MalformedError as error:
        assert "deeply" in str(error)  # noqa: PT017 - the one text that may not read back


@pytest.mark.parametrize(
    "text",
    ["(", ")", '"', '(a "b)', '"\\n"', "'a", "(a . b)", "#t", '#"a', "(a\tb)", "(" * 40 + ")" * 40],
)
def test_the_reader_takes_nothing_else(text: str) -> None:
    with pytest.raises(MalformedError):
        read(text)


@pytest.mark.parametrize("symbol", ["", "a b", "a)", "é", '"'])
def test_a_symbol_is_plain(symbol: str) -> None:
    with pytest.raises(RefusedError):
        write(symbol)
