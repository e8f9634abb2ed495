from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nono_mcp.policy.errors import PolicyError
from nono_mcp.policy.paths import PATH_CHARACTERS_MAX, ancestors, check, covers, expand

VARIABLES = {"WORKSPACE": "/work/engine", "HOME": "/home/ada", "TMPDIR": "/scratch"}

normal = st.lists(st.sampled_from(["a", "b", "ab", "a b", "."]), max_size=4).map(
    lambda parts: "/" + "/".join(part for part in parts if part != ".")
)


@pytest.mark.parametrize(
    ("parent", "path", "answer"),
    [
        ("/a", "/a", True),
        ("/a", "/a/b", True),
        ("/a", "/ab", False),
        ("/a/b", "/a", False),
        ("/", "/a", True),
        ("/", "/", True),
        ("/a", "/", False),
    ],
)
def test_paths_are_compared_by_components(parent: str, path: str, answer: bool) -> None:  # noqa: FBT001
    assert covers(parent, path) is answer


@given(normal, normal)
def test_covering_is_the_common_path(parent: str, path: str) -> None:
    assert covers(parent, path) == (posixpath.commonpath([parent, path]) == parent)


@given(normal)
def test_ancestors_are_what_covers_a_path_strictly(path: str) -> None:
    above = ancestors(path)
    assert all(covers(one, path) and one != path for one in above)
    assert len(above) == len([part for part in path.split("/") if part])
    assert above == sorted(above, key=len, reverse=True)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/", "/"),
        ("//a///b/", "/a/b"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/a/../b"),
        ("~", "/home/ada"),
        ("~/x", "/home/ada/x"),
        ("~/", "/home/ada"),
        ("$HOME/x", "/home/ada/x"),
        ("$WORKSPACE", "/work/engine"),
        ("$TMPDIR/x y", "/scratch/x y"),
        ("/a/$HOME/~", "/a/$HOME/~"),
        ("/a\nb", "/a\nb"),
    ],
)
def test_a_variable_stands_at_the_head_as_a_whole_component(text: str, path: str) -> None:
    assert expand(text, VARIABLES) == path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' isn't a path"),
        ("/a\0b", r"isn't a path"),
        ("/" + "a" * PATH_CHARACTERS_MAX, "isn't a path"),
        ("a/b", r"a/b is a relative path \(write \$WORKSPACE/a/b\)"),
        ("./a", "relative path"),
        ("..", "relative path"),
        ("~bob/x", r"another person's home \(write the path out from /\)"),
        ("$HOMER/x", r"unknown variable '\$HOMER' \(known are \$WORKSPACE, \$HOME, \$TMPDIR"),
        ("${HOME}/x", "unknown variable"),
        ("$home", "unknown variable"),
    ],
)
def test_what_is_no_path_of_a_policy_is_an_error(text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        check(text)
