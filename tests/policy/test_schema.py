from __future__ import annotations

import tomllib
from typing import cast

import jsonschema  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nono_mcp.policy.document import SECTIONS, Document
from nono_mcp.policy.errors import PolicyError
from nono_mcp.policy.keys import FIELDS, NETWORK_MODES
from nono_mcp.policy.parse import parse
from nono_mcp.policy.profiles import SHIPPED
from nono_mcp.policy.schema import schema
from nono_mcp.policy.toml import emit
from tests.policy.strategies import documents

VALIDATOR = jsonschema.Draft202012Validator(cast("dict[str, object]", schema()))


def is_valid(data: object) -> bool:
    return bool(VALIDATOR.is_valid(data))


def is_parsed(data: dict[str, object]) -> bool:
    try:
        parse(data)
    except PolicyError:
        return False
    return True


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(cast("dict[str, object]", schema()))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_profiles_are_valid(name: str) -> None:
    assert is_valid(tomllib.loads(emit(SHIPPED[name])))


@given(documents)
def test_whatever_the_parser_knows_is_valid(document: Document) -> None:
    assert is_valid(tomllib.loads(emit(document)))


# Near what is right, so that both sides of every bound are met.
TEXTS = (
    "/a ~ ~/a ~b ~\n $HOME $HOME/a $HOMER $WORKSPACE\n $TMPDIR $ a ./a .. / // open closed ports "
    "files file 2G 0G 1 0 01 999999T 1000000T 999999999999999999 1000000000000000000 G 2g default "
    "A_b 1A A= A\n -x x.. a/../b a//b a/./b /a/** *.o/ ask never"
)
texts = st.sampled_from(TEXTS.split(" ")) | st.sampled_from(
    ["", "/\0", "a\0", "/" + "a" * 4095, "/" + "a" * 4096, "x" * 64, "x" * 65]
)
# 1.0 is a whole number to JSON Schema; TOML tells the two apart.
floats = st.floats(-1, 2592001).filter(lambda number: not number.is_integer())
numbers = st.sampled_from([0, 1, -1, 65535, 65536, 2**22, 2**22 + 1, 2**63 - 1, 2**63, 2592000])
scalars = texts | numbers | floats | st.booleans()
shapes = (
    scalars | st.lists(scalars, max_size=2) | st.dictionaries(texts, texts | numbers, max_size=2)
)
KEYS = [*dict.fromkeys([field.key for field in FIELDS]), "nonsense"]
tables = st.dictionaries(st.sampled_from(KEYS), shapes, max_size=2) | shapes


def right_section(section: str) -> st.SearchStrategy[dict[str, object]]:
    keys = [field.key for field in FIELDS if field.section == section]
    return st.dictionaries(st.sampled_from(keys), shapes, max_size=3)


policies = st.fixed_dictionaries(
    {},
    optional={
        "description": texts | st.just("x" * 501) | scalars,
        "extends": shapes,
        "nonsense": shapes,
        **{section: right_section(section) | tables for section in SECTIONS},
    },
)


@settings(max_examples=1500, suppress_health_check=[HealthCheck.too_slow])
@given(policies)
def test_schema_and_parser_agree(data: dict[str, object]) -> None:
    assert is_valid(data) == is_parsed(data)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(shapes)
def test_they_agree_on_every_key(value: object) -> None:
    for field in FIELDS:
        data: dict[str, object] = {field.section: {field.key: value}}
        assert is_valid(data) == is_parsed(data), data


SAYING: dict[str, tuple[object, ...]] = {
    "mode": NETWORK_MODES,
    "connect_ports": ([], [80]),
    "bind_ports": ([], [8080]),
    "allow_domains": ([], ["a.test"]),
    "deny_domains": ([], ["b.test"]),
    "allow_addresses": ([], ["10.0.0.0/8"]),
    "credentials": ([], ["x"]),
    "sources": ({}, {"x": "env://X"}),
    "endpoints": ([], ["x:GET:/"]),
    "upstream_proxy": ("http://a.test:1", ""),
    "upstream_proxy_credential": ("env://X", ""),
    "upstream_ca": ("/a.pem", "a.pem", ""),
    "routes": ({}, {"x": {}}),
}


@settings(max_examples=600)
@given(
    st.fixed_dictionaries(
        {}, optional={key: st.sampled_from(values) for key, values in SAYING.items()}
    )
)
def test_they_agree_on_which_networks_contradict_each_other(network: dict[str, object]) -> None:
    data: dict[str, object] = {"network": network}
    assert is_valid(data) == is_parsed(data)


def test_each_key_of_a_network_is_tried() -> None:
    assert {*SAYING} == {field.key for field in FIELDS if field.section == "network"}
