from __future__ import annotations

import tomllib

import pytest
from hypothesis import given

from nono_mcp.policy.document import Document, FilesystemSection, LimitsSection
from nono_mcp.policy.errors import PolicyError
from nono_mcp.policy.parse import parse, parse_text
from nono_mcp.policy.profiles import SHIPPED
from nono_mcp.policy.toml import emit
from tests.policy.strategies import documents


@given(documents)
def test_a_policy_comes_back_as_it_was_written(document: Document) -> None:
    assert parse(tomllib.loads(emit(document))) == document


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_profile_can_be_written_down(name: str) -> None:
    assert parse_text(emit(SHIPPED[name]), name) == SHIPPED[name]


def test_sizes_are_written_as_people_write_them() -> None:
    limits = LimitsSection(
        memory_max=2 * 2**30, file_size_max=1000, output_max=2**40, timeout_s=5.0
    )
    assert emit(Document(limits=limits)) == (
        '[limits]\ntimeout_s = 5.0\nmemory_max = "2G"\nfile_size_max = 1000\noutput_max = "1T"\n'
    )


def test_long_lists_are_broken_and_hostile_names_escaped() -> None:
    long = tuple(f"/directory/number/{number}" for number in range(5))
    paths = FilesystemSection(allow=('/a"b\\c\n\x1b\u2028',), read=long)
    assert emit(Document(filesystem=paths)) == (
        '[filesystem]\nallow = ["/a\\"b\\\\c\\U0000000a\\U0000001b\\U00002028"]\n'
        "read = [\n" + "".join(f'  "{path}",\n' for path in long) + "]\n"
    )


def test_a_name_that_isnt_utf8_has_no_spelling_in_toml() -> None:
    with pytest.raises(PolicyError, match=r"TOML can't hold \$'/\\xff': it isn't UTF-8"):
        emit(Document(filesystem=FilesystemSection(allow=("/\udcff",))))


def test_a_policy_that_says_nothing_is_an_empty_text() -> None:
    assert emit(Document()).strip() == ""
    assert emit(Document(extends=())) == "extends = []\n"
