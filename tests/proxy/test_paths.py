import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nono_proxy.config import EndpointRule
from nono_proxy.errors import GrammarError, RuleError
from nono_proxy.paths import matches, verify_path


@pytest.mark.parametrize(
    "path",
    [b"/", b"/v1/chat", b"/a.b/..c/d..", b"/.well-known/x", b"/...", b"/@s%2fn", b"/a;b=c", b"//a"],
)
def test_paths_with_one_reading(path: bytes) -> None:
    verify_path(path)


@pytest.mark.parametrize(
    "path",
    rb"""
    /. /.. /a/../b /a/./b /a/.. /%2e%2e/ /%2E./ /.%2e/a /%252e%252e/a /%25252e%25252e/a /a%2f..%2fb
    /..;/a /a/..;x=y/b /.;/a /a%5c..%5cb /a\b /a#b /a%23b /a%00 /a%0d%0aX:y /a%7f /a%2 /a%zz /a% a
    /a%2f.%2e%2fb /a%252f..%252fb
    """.split(),
)
def test_paths_with_two_readings_are_refused(path: bytes) -> None:
    with pytest.raises(GrammarError):
        verify_path(path)


@pytest.mark.parametrize(
    ("rule", "method", "path", "covers"),
    [
        ("GET:/v1/models", b"GET", b"/v1/models", True),
        ("GET:/v1/models", b"POST", b"/v1/models", False),
        ("GET:/v1/models", b"GET", b"/v1/models/", False),
        ("GET:/v1/models", b"GET", b"/V1/models", False),
        ("GET:/v1/models", b"GET", b"//v1/models", False),
        ("*:/v1/*", b"PUT", b"/v1/x", True),
        ("*:/v1/*", b"PUT", b"/v1/", False),
        ("*:/v1/*", b"PUT", b"/v1/x/y", False),
        ("*:/v1/*", b"PUT", b"/v1/x%2fy", False),
        ("*:/v1/*", b"PUT", b"/v1/x%252Fy", False),
        ("GET:/v1/**", b"GET", b"/v1", True),
        ("GET:/v1/**", b"GET", b"/v1/x/y", True),
        ("GET:/v1/**", b"GET", b"/v10", False),
        ("GET:/**/end", b"GET", b"/end", True),
        ("GET:/**/end", b"GET", b"/a/b/end", True),
        ("GET:/**/end", b"GET", b"/a/b/ends", False),
        ("GET:/repos/*/issues/**", b"GET", b"/repos/o/issues/1/comments", True),
        ("GET:/@s%2fn", b"GET", b"/@s%2fn", True),
    ],
)
def test_endpoint_rules(rule: str, method: bytes, path: bytes, *, covers: bool) -> None:
    assert EndpointRule.parse(rule).matches(method, path) is covers


@pytest.mark.parametrize("text", ["GET", "/v1", "get:/v1", "GET:v1", "GET:/a/../b", "GET:/ä", ":/"])
def test_what_is_no_endpoint_rule_is_refused(text: str) -> None:
    with pytest.raises(RuleError):
        EndpointRule.parse(text)


@given(
    st.lists(st.sampled_from([b"a", b"b", b"*", b"**"]), max_size=6),
    st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=6),
)
def test_patterns_mean_what_a_regular_expression_says(
    pattern: list[bytes], path: list[bytes]
) -> None:
    words = {b"*": "/[^/]+", b"**": "(?:/[^/]+)*"}
    expression = "".join(words.get(part, "/" + part.decode()) for part in pattern)
    text = "".join("/" + part.decode() for part in path)
    assert matches(pattern, path) is (re.fullmatch(expression, text) is not None)
