"""One file, many spellings."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nono_sandbox.seatbelt.sbpl import RefusedError
from nono_sandbox.seatbelt.spelling import (
    ASCII_FOLDS,
    ancestors,
    beneath,
    canonical,
    equal_names,
    fold,
    folds,
    spellings,
)


def every_char() -> list[str]:
    return [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]


@pytest.mark.parametrize(
    ("path", "also"),
    [
        ("/tmp/x", ["/System/Volumes/Data/private/tmp/x", "/private/tmp/x", "/tmp/x"]),  # noqa: S108
        ("/private/tmp/x", ["/System/Volumes/Data/private/tmp/x", "/private/tmp/x", "/tmp/x"]),  # noqa: S108
        ("/System/Volumes/Data/Users/u", ["/System/Volumes/Data/Users/u", "/Users/u"]),
        ("/varx", ["/System/Volumes/Data/varx", "/varx"]),
        ("/private/varx", ["/System/Volumes/Data/private/varx", "/private/varx"]),
        ("/System/Library", ["/System/Library"]),
        ("/", ["/"]),
    ],
)
def test_a_path_has_these_spellings(path: str, also: list[str]) -> None:
    assert list(spellings(path)) == also


@pytest.mark.parametrize("path", ["/tmp/x", "/System/Volumes/Data/private/var/db", "/Users/u", "/"])  # noqa: S108
def test_every_spelling_is_of_the_same_path(path: str) -> None:
    assert {canonical(spelling) for spelling in spellings(path)} == {canonical(path)}


def test_ancestors_are_proper_and_start_at_the_root() -> None:
    assert ancestors("/a/b/c") == ("/", "/a", "/a/b")
    assert ancestors("/") == ()


def test_components_are_compared_whole() -> None:
    assert beneath("/a/b", "/a")
    assert not beneath("/ab", "/a")


def test_the_table_for_ascii_lacks_no_character() -> None:
    missing = {
        (fold(char), char)
        for char in every_char()
        if fold(char).isascii() and char not in ASCII_FOLDS.get(fold(char), "") + fold(char).upper()
    }
    assert all(folded == char for folded, char in missing)


def test_the_search_lacks_no_character_but_the_syllables_of_hangul() -> None:
    table = folds()
    missing = {
        char
        for char in every_char()
        if fold(char) != char and char not in table.get(fold(char), "")
    }
    assert missing == {chr(code) for code in range(0xAC00, 0xD7A4)}


def matches(name: str, other: str) -> bool:
    return re.fullmatch(equal_names(name), other) is not None


@pytest.mark.parametrize(
    ("name", "other"),
    [
        (".env", ".ENV"),
        (".ssh", ".SSH"),
        (".ssh", ".\u017fsh"),
        (".ssh", ".\u00dfh"),
        (".ssh", ".\u1e9eh"),
        ("keys", "\u212aeys"),
        ("office", "o\ufb03ce"),
        ("office", "of\ufb01ce"),
        ("office", "o\ufb00ice"),
        ("caf\u00e9", "cafe\u0301"),
        ("cafe\u0301", "CAF\u00c9"),
        ("\u00c5", "\u212b"),
        ("stra\u00dfe", "STRASSE"),
        ("\ud55c", "\u1112\u1161\u11ab"),
        ("\u1112\u1161\u11ab", "\ud55c"),
        ("\u1112\u1161\u11ab", "\ud558\u11ab"),
        (".git/hooks", ".GIT/HOO\u212aS"),
        ("a+b", "A+B"),
    ],
)
def test_equal_names_match(name: str, other: str) -> None:
    assert fold(name) == fold(other)
    assert matches(name, other)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        (".env", "xenv"),
        (".env", ".env2"),
        (".ssh", ".sh"),
        ("a+b", "aab"),
        ("a|b", "a"),
        ("é", "e"),
    ],
)
def test_other_names_dont(name: str, other: str) -> None:
    assert not matches(name, other)


LETTERS = st.text("abfikst.ſßﬁéÅΣςİ한文()", min_size=1, max_size=8)


@settings(max_examples=500, deadline=None)
@given(name=LETTERS, other=LETTERS)
def test_the_pattern_matches_what_apfs_holds_equal_and_nothing_else(name: str, other: str) -> None:
    variants = [
        other,
        name.upper(),
        name.lower(),
        name.casefold(),
        unicodedata.normalize("NFD", name),
        unicodedata.normalize("NFC", name.upper()),
    ]
    try:
        pattern = equal_names(name)
    except RefusedError:
        return
    for variant in variants:
        equal = fold(variant) == fold(name)
        assert (re.fullmatch(pattern, variant) is not None) is equal


@pytest.mark.parametrize("name", ["a\u0301\u0323", "fffffffffffff"])
def test_names_with_too_many_spellings_are_refused(name: str) -> None:
    with pytest.raises(RefusedError):
        equal_names(name)
